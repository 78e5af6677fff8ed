// Runs recordings on the checker's engine, one phase at a time, on a thread of its own.
#ifndef CHECKER_EXECUTOR_H
#define CHECKER_EXECUTOR_H

#include "metal/base/OBMSerial.h"
#include "metal/checker/engine/CheckRun.h"

// The executor works on this. The owner keeps it as long as the executor.
typedef struct checker_context {
    check_state *state;
    uint64_t command_buffer;  // the number of the one that runs
    check_binding *bindings;  // of the dispatch that runs
    size_t room;
} checker_context;

void checker_context_clear(checker_context *context);

// NULL when there is no memory left.
obm_serial *checker_executor_create(checker_context *context);

#endif
