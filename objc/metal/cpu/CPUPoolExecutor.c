#include <stddef.h>

#include "CPUPoolPrivate.h"

// The pool as an executor

static void enqueue(void *context, obm_recording *recording) {
    cpu_pool *pool = context;
    if (obm_order_alive(&pool->order)) obm_order_enqueue(&pool->order, recording);
}

static void withdraw(void *context, obm_recording *recording) {
    cpu_pool *pool = context;
    if (!obm_order_alive(&pool->order)) return;
    obm_order_withdraw(&pool->order, recording);
    cpu_pool_look_again(pool);
}

// All costs are measured now and then: they change with what is in the buffers.
static void plan(cpu_pool *pool, obm_recording *recording, uint32_t threads) {
    enum { RECORDINGS_PER_MEASURED = 64 };
    cpu_plan(recording, pool->costs, threads, obm_add(&pool->planned, 1) % RECORDINGS_PER_MEASURED == 0);
}

static const char *commit(void *context, obm_recording *recording) {
    cpu_pool *pool = context;
    if (!obm_order_alive(&pool->order)) return obm_order_forked;
    recording->committed_time = obm_seconds();
    uint32_t threads = obm_load(&pool->threads);
    plan(pool, recording, threads);
    pthread_mutex_lock(&pool->order.lock);
    if (!cpu_pool_start_workers(pool)) {
        obm_order_refuse(&pool->order, recording);
        pthread_mutex_unlock(&pool->order.lock);
        return "no worker thread could be started; raise the limit on threads";
    }
    // It was resized meanwhile.
    if (threads != obm_load(&pool->threads)) plan(pool, recording, obm_load(&pool->threads));
    obm_recording *next = obm_order_commit(&pool->order, recording);
    pthread_mutex_unlock(&pool->order.lock);
    if (next != NULL) cpu_pool_publish(pool, next);
    return NULL;
}

obm_executor cpu_pool_calls(cpu_pool *pool) {
    return (obm_executor){.phase_size = sizeof(cpu_phase),
                          .dispatch_size = sizeof(cpu_dispatch),
                          .enqueue = enqueue,
                          .withdraw = withdraw,
                          .commit = commit,
                          .wait = cpu_pool_wait,
                          .context = pool};
}

void cpu_pool_look_again(void *context) {
    cpu_pool *pool = context;
    if (!obm_order_alive(&pool->order)) return;
    obm_recording *next = obm_order_next(&pool->order);
    if (next == NULL) return;
    cpu_pool_publish(pool, next);
    cpu_pool_wake_sleepers(pool);
}

bool cpu_pool_resize(cpu_pool *pool, uint32_t threads) {
    if (!obm_order_alive(&pool->order)) return false;
    pthread_mutex_lock(&pool->order.lock);
    bool idle = pool->order.head == NULL && !obm_load(&pool->order.running);
    if (idle) obm_store(&pool->threads, threads);
    pthread_mutex_unlock(&pool->order.lock);
    if (idle) cpu_pool_recount_workers(pool);
    return idle;
}

cpu_phase *cpu_pool_begin(cpu_pool *pool) {
    bool fresh = pool->recording->blocked_on == NULL;
    obm_phase *phase = obm_order_begin(pool->recording);
    if (fresh) cpu_pool_wake_sleepers(pool);
    return (cpu_phase *)phase;
}

void cpu_pool_finish(cpu_pool *pool) {
    obm_recording *recording = pool->recording;
    void (*completed)(obm_recording *) = recording->completed;
    obm_recording *next = obm_order_finish(&pool->order, recording);
    cpu_pool_wake_sleepers(pool);
    if (next != NULL) cpu_pool_publish(pool, next);
    completed(recording);
}

bool cpu_pool_wait_for_event(cpu_pool *pool, const obm_phase *phase) {
    obm_recording *next;
    if (obm_order_wait(&pool->order, pool->recording, phase, cpu_pool_look_again, pool, &next)) return true;
    if (next != NULL) cpu_pool_publish(pool, next);
    return false;
}
