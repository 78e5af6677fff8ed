// Memory that a kernel reaches by an address in an argument buffer: what is there, and which member points to it.
#include <stdio.h>
#include <string.h>

#include "CheckState.h"

enum { POINTER = 60, MOST_ELEMENTS = 64, LARGEST_NULL = 1 << 16 };  // MTLDataTypePointer; structs of an array

// A pointer in an argument buffer.
typedef struct {
    const check_binding *binding;
    const metallib_argument *argument;
    uint32_t member, element, number;  // of a member of the struct, in an array of structs, in an array of pointers
    uint64_t value;
} pointer;

static const metallib_argument *argument_of(const check_dispatch *dispatch, const check_binding *binding) {
    const metallib_signature *signature = dispatch->signature;
    for (uint32_t i = 0; i < signature->argument_count; i++) {
        const metallib_argument *argument = &signature->arguments[i];
        if (argument->kind == METALLIB_BUFFER && argument->index == binding->index) return argument;
    }
    return NULL;
}

// Finds the first pointer for which `wanted` holds. False where there is none.
static bool find_pointer(const check_dispatch *dispatch, bool (*wanted)(const void *context, uint64_t value),
                         const void *context, pointer *found) {
    for (uint32_t i = 0; i < dispatch->argument_count; i++) {
        const check_binding *binding = &dispatch->bindings[i];
        const metallib_argument *argument = argument_of(dispatch, binding);
        if (argument == NULL || argument->member_count == 0) continue;
        const char *view = binding->memory == NULL ? binding->bytes : check_memory_view(binding->memory);
        size_t count = binding->length / argument->size;
        for (size_t e = 0; e < count && e < MOST_ELEMENTS; e++) {
            for (uint32_t m = 0; m < argument->member_count; m++) {
                const metallib_member *member = &argument->members[m];
                if (member->type != POINTER) continue;
                for (uint32_t k = 0; k < member->count; k++) {
                    *found = (pointer){binding, argument, m, (uint32_t)e, k, 0};
                    size_t at = binding->offset + e * argument->size + member->offset + k * sizeof found->value;
                    memcpy(&found->value, view + at, sizeof found->value);
                    if (found->value != 0 && wanted(context, found->value)) return true;
                }
            }
        }
    }
    return false;
}

// "args.x", "args.x[2]", "args[1].x"
static void name_pointer(const pointer *found, const check_binding *binding, char *name, size_t length) {
    const metallib_member *member = &found->argument->members[found->member];
    bool several = binding->length >= 2 * (size_t)found->argument->size;
    char element[16] = "", number[16] = "";
    if (several) snprintf(element, sizeof element, "[%u]", found->element);
    if (member->count > 1) snprintf(number, sizeof number, "[%u]", found->number);
    snprintf(name, length, "%s%s.%s%s", found->argument->name, element, member->name, number);
}

static bool points_into(const void *memory, uint64_t value) { return check_memory_is_near(memory, value); }

static uint32_t type_there(const check_dispatch *dispatch, const pointer *found) {
    const metallib_slots *slots = dispatch->code->slots;
    for (uint32_t i = 0; slots != NULL && i < slots->count; i++) {
        const metallib_slot *slot = &slots->slots[i];
        if (slot->argument == found->argument->index && slot->member == found->member) return slot->type;
    }
    return 0;
}

void check_name_reached(check_dispatch *dispatch) {
    for (uint32_t i = dispatch->argument_count; i < dispatch->binding_count; i++) {
        check_binding *binding = &dispatch->bindings[i];
        pointer found;
        snprintf(binding->reached, sizeof binding->reached, "memory that an address leads to");
        binding->name = binding->reached;
        binding->index = CHECK_NO_INDEX;
        if (!find_pointer(dispatch, points_into, binding->memory, &found)) continue;
        name_pointer(&found, found.binding, binding->reached, sizeof binding->reached);
        binding->index = found.binding->index;
        binding->type = type_there(dispatch, &found);
    }
}

const check_binding *check_reached(const check_dispatch *dispatch, uintptr_t address) {
    for (uint32_t i = dispatch->argument_count; i < dispatch->binding_count; i++) {
        if (check_memory_is_near(dispatch->bindings[i].memory, address)) return &dispatch->bindings[i];
    }
    return NULL;
}

static bool is_near(const void *address, uint64_t value) {
    uint64_t to = (uint64_t)(uintptr_t)address, reach = (uint64_t)1 << (CHECK_WINDOW_BITS - 1);
    return value > to ? value - to < reach : to - value < reach;
}

void check_explain_wild(const check_dispatch *dispatch, check_finding *finding, const void *address) {
    pointer found;
    if ((uintptr_t)address < LARGEST_NULL) {
        snprintf(finding->text, sizeof finding->text, "%zu bytes behind a null pointer", (size_t)address);
        finding->pointer = CHECK_NULL;
    } else if (find_pointer(dispatch, is_near, address, &found)) {
        char name[sizeof finding->name];
        name_pointer(&found, found.binding, name, sizeof name);
        snprintf(finding->text, sizeof finding->text, "'%s' points to memory that useResource does not name", name);
        finding->pointer = CHECK_NOT_USED;
    } else {
        snprintf(finding->text, sizeof finding->text, "the address %p belongs to nothing that is bound", address);
    }
}
