// Order between threadgroups, which only fences with atomics make: a write to an atomic after a fence passes on
// what the writer's threadgroup has done, and a fence after reading that atomic makes it reliable.
#include <stdlib.h>

#include "CheckState.h"

enum { MEM_DEVICE = 1 };

// A message that there is no memory for leaves a race to be found where there is none.
static bool add(check_message **list, uint32_t *count, uint32_t *room, const check_message *message) {
    for (uint32_t i = 0; i < *count; i++) {
        check_message *old = &(*list)[i];
        if (old->atomic != message->atomic || old->segment != message->segment || old->thread != message->thread)
            continue;
        if (old->epoch < message->epoch) old->epoch = message->epoch;
        return true;
    }
    if (*count == *room) {
        uint32_t more = *room == 0 ? 64 : 2 * *room;
        check_message *grown = realloc(*list, more * sizeof *grown);
        if (grown == NULL) return false;
        *list = grown;
        *room = more;
    }
    (*list)[(*count)++] = *message;
    return true;
}

// Notes what the running thread passes on, and where it listens.
void check_atomic(check_state *state, uintptr_t address, uint32_t flags) {
    check_fiber *self = state->running;
    check_group *group = self->group;
    if (flags & METALLIB_ACCESS_READ) self->heard = address;
    if (!(flags & METALLIB_ACCESS_WRITE) || !self->released) return;
    check_message own = {address, group->segment, group->epoch[CHECK_DEVICE], (uint16_t)self->thread.index};
    bool kept = add(&state->messages, &state->message_count, &state->message_room, &own);
    for (uint32_t i = 0; i < group->message_count; i++) {
        check_message passed = group->messages[i];
        passed.atomic = address;
        kept &= add(&state->messages, &state->message_count, &state->message_room, &passed);
    }
    if (!kept) check_findings_lose(&state->findings);
}

void check_fence(uint32_t flags, uint32_t order) {
    check_state *state = check_current;
    check_fiber *self = state->running;
    if (!(flags & MEM_DEVICE) || order == __ATOMIC_RELAXED) return;
    if (order != __ATOMIC_ACQUIRE) self->released = true;
    if (order == __ATOMIC_RELEASE || self->heard == 0) return;
    check_group *group = self->group;
    for (uint32_t i = 0; i < state->message_count; i++) {
        check_message message = state->messages[i];
        if (message.atomic != self->heard || message.segment == group->segment) continue;
        message.atomic = 0;
        if (!add(&group->messages, &group->message_count, &group->message_room, &message))
            check_findings_lose(&state->findings);
    }
}

bool check_heard_of(const check_group *group, const check_record *record) {
    for (uint32_t i = 0; i < group->message_count; i++) {
        const check_message *message = &group->messages[i];
        if (message->segment != record->segment) continue;
        if (record->epoch < message->epoch || (record->epoch == message->epoch && record->thread == message->thread))
            return true;
    }
    return false;
}
