// The value behind an event, in plain C so that worker threads can signal it.
#ifndef CPU_SIGNAL_H
#define CPU_SIGNAL_H

#include "CPUJob.h"

// NULL when there is no memory left. The owner frees it when no job refers to it any more.
cpu_event *cpu_event_create(void);
void cpu_event_free(cpu_event *event);

uint64_t cpu_event_value(cpu_event *event);

// Sets the value and lets every pool with a job that waits for it go on. Any thread.
void cpu_event_signal(cpu_event *event, uint64_t value);

// True if the value is reached; otherwise the pool in `waiter` will be told when it is.
bool cpu_event_wait(cpu_event *event, cpu_waiter *waiter);

// Afterwards the event does not know the waiter any more.
void cpu_event_forget(cpu_event *event, cpu_waiter *waiter);

#endif
