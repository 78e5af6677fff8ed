#include "CPUSignal.h"

#include <pthread.h>
#include <stdlib.h>

#include "CPUPool.h"

struct cpu_event {
    pthread_mutex_t lock;
    cpu_atomic_u64 value;
    cpu_waiter *waiters;
};

cpu_event *cpu_event_create(void) {
    cpu_event *event = calloc(1, sizeof *event);
    if (event == NULL) return NULL;
    pthread_mutex_init(&event->lock, NULL);
    return event;
}

void cpu_event_free(cpu_event *event) {
    if (event == NULL) return;
    pthread_mutex_destroy(&event->lock);
    free(event);
}

uint64_t cpu_event_value(cpu_event *event) { return cpu_load(&event->value); }

void cpu_event_signal(cpu_event *event, uint64_t value) {
    pthread_mutex_lock(&event->lock);
    cpu_store(&event->value, value);
    // Under the lock: a waiter's job goes away as soon as it has run, and forgets itself first.
    for (cpu_waiter **link = &event->waiters; *link != NULL;) {
        cpu_waiter *waiter = *link;
        if (waiter->value <= value) {
            *link = waiter->next;
            cpu_pool_kick(waiter->pool);
        } else {
            link = &waiter->next;
        }
    }
    pthread_mutex_unlock(&event->lock);
}

bool cpu_event_wait(cpu_event *event, cpu_waiter *waiter) {
    pthread_mutex_lock(&event->lock);
    bool reached = cpu_load(&event->value) >= waiter->value;
    if (!reached) {
        waiter->next = event->waiters;
        event->waiters = waiter;
    }
    pthread_mutex_unlock(&event->lock);
    return reached;
}

void cpu_event_forget(cpu_event *event, cpu_waiter *waiter) {
    pthread_mutex_lock(&event->lock);
    for (cpu_waiter **link = &event->waiters; *link != NULL; link = &(*link)->next) {
        if (*link != waiter) continue;
        *link = waiter->next;
        break;
    }
    pthread_mutex_unlock(&event->lock);
}
