// Races of two writes: whether the second changes what is there shows only when it is done.
#include <string.h>

#include "CheckState.h"

bool check_defer(check_state *state, const check_finding *finding, const void *address, uint32_t size) {
    check_pending *pending = &state->pending;
    if (pending->count == CHECK_PENDING || size > sizeof pending->before) return false;
    if (pending->count == 0) {
        pending->address = address;
        pending->size = size;
        memcpy(pending->before, address, size);
    }
    pending->findings[pending->count++] = *finding;
    return true;
}

void check_settle(check_state *state) {
    check_pending *pending = &state->pending;
    for (uint32_t i = 0; i < pending->count; i++) {
        pending->findings[i].same_value = memcmp(pending->address, pending->before, pending->size) == 0;
        check_findings_add(&state->findings, &pending->findings[i]);
    }
    pending->count = 0;
}
