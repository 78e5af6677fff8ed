#include "OBMKernel.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

obm_kernel obm_kernel_make(const metallib_signature *signature) {
    obm_kernel kernel = {.signature = signature, .max_threads = signature->max_total_threads};
    for (uint32_t i = 0; i < signature->argument_count; i++) {
        const metallib_argument *argument = &signature->arguments[i];
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
    for (uint32_t i = 0; i < kernel->signature->argument_count; i++) {
        const metallib_argument *argument = &kernel->signature->arguments[i];
        if (argument->kind == kind && argument->index == index) return argument;
    }
    return NULL;
}

static const char *signature_problem(const metallib_signature *signature) {
    uint32_t seen[2] = {0, 0};
    if (signature->max_total_threads == 0 || signature->thread_execution_width == 0)
        return "a function that allows no threads";
    if (signature->argument_count > 0 && signature->arguments == NULL) return "a function without its arguments";
    for (uint32_t i = 0; i < signature->argument_count; i++) {
        const metallib_argument *argument = &signature->arguments[i];
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
    if (signature->constant_count > METALLIB_MAX_CONSTANTS) return "too many function constants";
    for (uint32_t i = 0; i < signature->constant_count; i++) {
        if (signature->constants == NULL || signature->constants[i].name == NULL)
            return "a function constant without a name";
    }
    return NULL;
}

const char *obm_metallib_problem(const metallib *library, bool entries) {
    if (library->function_count > 0 && library->functions == NULL) return "a library without its functions";
    for (uint32_t i = 0; i < library->function_count; i++) {
        const metallib_function *function = &library->functions[i];
        if (function->signature.name == NULL || (entries && function->entry == NULL))
            return "a function without a name or code";
        const char *problem = signature_problem(&function->signature);
        if (problem != NULL) return problem;
        if (i > 0 && strcmp(function[-1].signature.name, function->signature.name) >= 0)
            return "functions that are not sorted";
    }
    return NULL;
}

static int compare_name(const void *name, const void *function) {
    return strcmp(name, ((const metallib_function *)function)->signature.name);
}

const metallib_function *obm_metallib_find(const metallib *library, const char *name) {
    if (library->function_count == 0) return NULL;
    return bsearch(name, library->functions, library->function_count, sizeof *library->functions, compare_name);
}
