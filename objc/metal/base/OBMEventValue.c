#include "OBMEventValue.h"

#include <pthread.h>
#include <stdlib.h>

#include "OBMAtomic.h"

struct obm_event {
    pthread_mutex_t lock;
    obm_atomic_u64 value;
    obm_waiter *waiters;
};

obm_event *obm_event_create(void) {
    obm_event *event = calloc(1, sizeof *event);
    if (event == NULL) return NULL;
    pthread_mutex_init(&event->lock, NULL);
    return event;
}

void obm_event_free(obm_event *event) {
    if (event == NULL) return;
    pthread_mutex_destroy(&event->lock);
    free(event);
}

uint64_t obm_event_value(obm_event *event) { return obm_load(&event->value); }

void obm_event_signal(obm_event *event, uint64_t value) {
    pthread_mutex_lock(&event->lock);
    obm_store(&event->value, value);
    // Under the lock: a waiter goes away as soon as its recording has run, and forgets itself first.
    for (obm_waiter **link = &event->waiters; *link != NULL;) {
        obm_waiter *waiter = *link;
        if (waiter->value <= value) {
            *link = waiter->next;
            waiter->wake(waiter->context);
        } else {
            link = &waiter->next;
        }
    }
    pthread_mutex_unlock(&event->lock);
}

bool obm_event_wait(obm_event *event, obm_waiter *waiter) {
    pthread_mutex_lock(&event->lock);
    bool reached = obm_load(&event->value) >= waiter->value;
    if (!reached) {
        waiter->next = event->waiters;
        event->waiters = waiter;
    }
    pthread_mutex_unlock(&event->lock);
    return reached;
}

void obm_event_forget(obm_event *event, obm_waiter *waiter) {
    pthread_mutex_lock(&event->lock);
    for (obm_waiter **link = &event->waiters; *link != NULL; link = &(*link)->next) {
        if (*link != waiter) continue;
        *link = waiter->next;
        break;
    }
    pthread_mutex_unlock(&event->lock);
}
