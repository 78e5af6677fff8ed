// This file saves what a dispatch may write, brings it back, and compares it.
#ifndef CHECK_OUTPUTS_H
#define CHECK_OUTPUTS_H

#include "CheckRun.h"

typedef struct check_outputs {
    char *bytes;
    uint8_t *written;  // which bytes something wrote
} check_outputs;

bool check_is_output(const check_binding *binding);

// Room for the outputs of a dispatch. False when there is none left; free them all the same.
bool check_outputs_make(const check_dispatch *dispatch, check_outputs *outputs);
void check_outputs_free(check_outputs *outputs);

void check_outputs_save(const check_dispatch *dispatch, check_outputs *outputs);
void check_outputs_restore(const check_dispatch *dispatch, const check_outputs *outputs);

// This brings back the bytes alone, and not what is known of who wrote them.
void check_outputs_restore_bytes(const check_dispatch *dispatch, const check_outputs *outputs);

// Returns whether the bytes are those that were saved.
bool check_outputs_are(const check_dispatch *dispatch, const check_outputs *outputs);

// Finds an output that order number `order` of the threads left with other bytes than were saved.
void check_report_difference(check_state *state, const check_outputs *first, uint32_t order);

#endif
