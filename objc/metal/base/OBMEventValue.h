// The value behind an event, in plain C so that the threads of an executor can signal it.
//
// The owner frees it when no recording refers to it any more. Every function may be called from any thread.
#ifndef OBM_EVENT_VALUE_H
#define OBM_EVENT_VALUE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct obm_event obm_event;

// A recording that waits for an event, as the event's list knows it.
typedef struct obm_waiter {
    struct obm_waiter *next;
    uint64_t value;               // at least this is what it waits for
    void (*wake)(void *context);  // tells its executor, on the thread that signals
    void *context;
} obm_waiter;

// NULL when there is no memory left.
obm_event *obm_event_create(void);
void obm_event_free(obm_event *event);

uint64_t obm_event_value(obm_event *event);

// Sets the value and wakes every waiter whose value it reaches.
void obm_event_signal(obm_event *event, uint64_t value);

// True if the value is reached; otherwise the waiter will be woken when it is.
bool obm_event_wait(obm_event *event, obm_waiter *waiter);

// Afterwards the event does not know the waiter any more.
void obm_event_forget(obm_event *event, obm_waiter *waiter);

#endif
