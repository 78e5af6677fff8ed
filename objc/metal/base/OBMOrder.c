#include "OBMOrder.h"

#include <stddef.h>

#include "OBMHost.h"

const char *const obm_order_forked = "the device does not outlive fork(); create a new one in the child process";

bool obm_order_open(obm_order *order) {
    *order = (obm_order){.alive = obm_host_new_alive()};
    if (order->alive == NULL) return false;
    pthread_mutex_init(&order->lock, NULL);
    return true;
}

void obm_order_close(obm_order *order) {
    pthread_mutex_destroy(&order->lock);
    obm_host_free_alive(order->alive);
}

static void append(obm_order *order, obm_recording *recording) {
    obm_recording **link = &order->head;
    while (*link != NULL) link = &(*link)->next;
    recording->next = NULL;
    *link = recording;
}

static void drop(obm_order *order, obm_recording *recording) {
    obm_recording **link = &order->head;
    while (*link != recording) link = &(*link)->next;
    *link = recording->next;
}

// The first recording that can start: committed, not waiting for an event, and with none of its own queue before it
// that has work left to start. Under the lock, while none is being started.
static obm_recording *pick(obm_order *order) {
    for (obm_recording *r = order->head; r != NULL; r = r->next) {
        if (obm_load(&r->status) < OBM_COMMITTED || r->stage != OBM_STAGE_TO_START) continue;
        if (r->blocked_on != NULL && obm_event_value(r->blocked_on) < r->waiter.value) continue;
        obm_recording *earlier = order->head;
        while (earlier != r && (earlier->queue != r->queue || earlier->stage == OBM_STAGE_HANDED_ON))
            earlier = earlier->next;
        if (earlier == r) return r;
    }
    return NULL;
}

static obm_recording *pick_next(obm_order *order) {
    obm_recording *next = pick(order);
    obm_store(&order->running, next != NULL);
    return next;
}

void obm_order_enqueue(obm_order *order, obm_recording *recording) {
    pthread_mutex_lock(&order->lock);
    append(order, recording);
    obm_store(&recording->status, OBM_ENQUEUED);
    pthread_mutex_unlock(&order->lock);
}

void obm_order_withdraw(obm_order *order, obm_recording *recording) {
    pthread_mutex_lock(&order->lock);
    drop(order, recording);
    pthread_mutex_unlock(&order->lock);
}

obm_recording *obm_order_commit(obm_order *order, obm_recording *recording) {
    if (obm_load(&recording->status) == OBM_NOT_ENQUEUED) append(order, recording);
    obm_store(&recording->status, OBM_COMMITTED);
    obm_add(recording->committed_count, 1);
    return obm_load(&order->running) ? NULL : pick_next(order);
}

void obm_order_refuse(obm_order *order, obm_recording *recording) {
    if (obm_load(&recording->status) == OBM_ENQUEUED) drop(order, recording);
}

obm_recording *obm_order_next(obm_order *order) {
    pthread_mutex_lock(&order->lock);
    obm_recording *next = obm_load(&order->running) ? NULL : pick_next(order);
    pthread_mutex_unlock(&order->lock);
    return next;
}

obm_phase *obm_order_begin(obm_recording *recording) {
    if (recording->blocked_on != NULL) {
        obm_event_forget(recording->blocked_on, &recording->waiter);
        recording->blocked_on = NULL;
        return recording->resume;
    }
    if (obm_load(&recording->status) == OBM_SCHEDULED) return recording->resume;  // it was parked
    recording->start_time = recording->scheduled_time = obm_seconds();
    obm_store(&recording->status, OBM_SCHEDULED);
    return obm_load(&recording->error) == NULL ? recording->first : NULL;
}

// Under the lock: who sees a later recording completed sees this one completed too.
static void complete(obm_order *order, obm_recording *recording) {
    drop(order, recording);
    obm_sub(recording->in_flight, 1);
    obm_sub(recording->committed_count, 1);
    obm_store(&recording->status, obm_load(&recording->error) != NULL ? OBM_FAILED : OBM_COMPLETED);
}

obm_recording *obm_order_finish(obm_order *order, obm_recording *recording) {
    recording->end_time = obm_seconds();
    pthread_mutex_lock(&order->lock);
    complete(order, recording);
    obm_recording *next = pick_next(order);
    pthread_mutex_unlock(&order->lock);
    return next;
}

obm_recording *obm_order_hand_on(obm_order *order, obm_recording *recording) {
    recording->stage = OBM_STAGE_HANDED_ON;
    return pick_next(order);
}

obm_recording *obm_order_park(obm_order *order, obm_recording *recording, obm_phase *resume) {
    recording->resume = resume;
    recording->stage = OBM_STAGE_PARKED;
    return pick_next(order);
}

obm_recording *obm_order_let_go(obm_order *order, obm_recording *recording) {
    pthread_mutex_lock(&order->lock);
    recording->stage = OBM_STAGE_TO_START;
    obm_recording *next = obm_load(&order->running) ? NULL : pick_next(order);
    pthread_mutex_unlock(&order->lock);
    return next;
}

obm_recording *obm_order_retire(obm_order *order, obm_recording *recording) {
    pthread_mutex_lock(&order->lock);
    complete(order, recording);
    obm_recording *next = obm_load(&order->running) ? NULL : pick_next(order);
    pthread_mutex_unlock(&order->lock);
    return next;
}

bool obm_order_wait(obm_order *order, obm_recording *recording, const obm_phase *phase, void (*wake)(void *context),
                    void *context, obm_recording **next) {
    recording->waiter = (obm_waiter){.value = phase->value, .wake = wake, .context = context};
    if (obm_event_wait(phase->event, &recording->waiter)) return true;
    recording->resume = phase->next;
    recording->blocked_on = phase->event;
    pthread_mutex_lock(&order->lock);
    *next = pick_next(order);
    pthread_mutex_unlock(&order->lock);
    return false;
}
