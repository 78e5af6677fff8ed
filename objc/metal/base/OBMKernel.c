#include "OBMKernel.h"

#include <stddef.h>
#include <string.h>

obm_kernel obm_kernel_make(const metallib_function *function) {
    obm_kernel kernel = {
        .function = function, .entry = function->entry, .max_threads = function->max_total_threads};
    for (uint32_t i = 0; i < function->argument_count; i++) {
        const metallib_argument *argument = &function->arguments[i];
        uint32_t bit = 1u << argument->index, slots = argument->index + 1;
        if (argument->kind == METALLIB_THREADGROUP) {
            kernel.threadgroup |= bit;
            if (kernel.threadgroup_slots < slots) kernel.threadgroup_slots = slots;
            continue;
        }
        kernel.buffers |= bit;
        if (kernel.buffer_slots < slots) kernel.buffer_slots = slots;
        kernel.arguments[kernel.argument_count].index = argument->index;
        kernel.arguments[kernel.argument_count].alignment_mask = argument->alignment - 1;
        kernel.arguments[kernel.argument_count].smallest = argument->reference ? argument->size : 0;
        kernel.argument_count++;
    }
    return kernel;
}

const metallib_argument *obm_kernel_argument(const obm_kernel *kernel, uint32_t kind, uint32_t index) {
    for (uint32_t i = 0; i < kernel->function->argument_count; i++) {
        const metallib_argument *argument = &kernel->function->arguments[i];
        if (argument->kind == kind && argument->index == index) return argument;
    }
    return NULL;
}

static const char *function_problem(const metallib_function *function) {
    uint32_t seen[2] = {0, 0};
    if (function->name == NULL || function->entry == NULL) return "a function without a name or code";
    if (function->max_total_threads == 0 || function->thread_execution_width == 0)
        return "a function that allows no threads";
    if (function->argument_count > 0 && function->arguments == NULL) return "a function without its arguments";
    for (uint32_t i = 0; i < function->argument_count; i++) {
        const metallib_argument *argument = &function->arguments[i];
        if (argument->name == NULL) return "an argument without a name";
        if (argument->kind > METALLIB_THREADGROUP) return "an argument of an unknown kind";
        if (argument->index >= METALLIB_MAX_BUFFERS) return "an argument index above 30";
        if (seen[argument->kind] >> argument->index & 1) return "two arguments with one index";
        if (argument->alignment == 0 || (argument->alignment & (argument->alignment - 1)) != 0) {
            return "an alignment that is no power of two";
        }
        if (argument->member_count > 0 && argument->members == NULL) return "an argument without its members";
        seen[argument->kind] |= 1u << argument->index;
    }
    return NULL;
}

const char *obm_metallib_problem(const metallib *library) {
    if (library->function_count > 0 && library->functions == NULL) return "a library without its functions";
    for (uint32_t i = 0; i < library->function_count; i++) {
        const char *problem = function_problem(&library->functions[i]);
        if (problem != NULL) return problem;
        if (i > 0 && strcmp(library->functions[i - 1].name, library->functions[i].name) >= 0)
            return "functions that are not sorted";
    }
    return NULL;
}
