// The value behind an event, in plain C so that worker threads can signal it.
#ifndef OBM_EVENT_VALUE_H
#define OBM_EVENT_VALUE_H

#include "metal/cpu/CPUJob.h"

// NULL when there is no memory left. The owner frees it when no job refers to it any more.
obm_event *obm_event_create(void);
void obm_event_free(obm_event *event);

uint64_t obm_event_value(obm_event *event);

// Sets the value and lets every pool with a job that waits for it go on. Any thread.
void obm_event_signal(obm_event *event, uint64_t value);

// True if the value is reached; otherwise the pool in `waiter` will be told when it is.
bool obm_event_wait(obm_event *event, obm_waiter *waiter);

// Afterwards the event does not know the waiter any more.
void obm_event_forget(obm_event *event, obm_waiter *waiter);

#endif
