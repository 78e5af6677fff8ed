#include <stddef.h>

#include "CPUPoolPrivate.h"
#include "metal/base/OBMEventValue.h"

// The first job in the order that can run: committed, not waiting for an event, and with no
// unfinished job of its own queue before it. Under the lock, while none runs.
static cpu_job *pick(cpu_pool *pool) {
    for (cpu_job *job = pool->head; job != NULL; job = job->next) {
        if (obm_load(&job->status) < CPU_JOB_COMMITTED) continue;
        if (job->blocked_on != NULL && obm_event_value(job->blocked_on) < job->waiter.value) continue;
        cpu_job *earlier = pool->head;
        while (earlier != job && earlier->queue != job->queue) earlier = earlier->next;
        if (earlier == job) return job;
    }
    return NULL;
}

static cpu_job *pick_next(cpu_pool *pool) {
    cpu_job *next = pick(pool);
    obm_store(&pool->driving, next != NULL);
    return next;
}

static void append(cpu_pool *pool, cpu_job *job) {
    cpu_job **link = &pool->head;
    while (*link != NULL) link = &(*link)->next;
    job->next = NULL;
    *link = job;
}

static void unlink_job(cpu_pool *pool, cpu_job *job) {
    cpu_job **link = &pool->head;
    while (*link != job) link = &(*link)->next;
    *link = job->next;
}

void cpu_pool_enqueue(cpu_pool *pool, cpu_job *job) {
    if (!cpu_pool_alive(pool)) return;
    pthread_mutex_lock(&pool->lock);
    append(pool, job);
    obm_store(&job->status, CPU_JOB_ENQUEUED);
    pthread_mutex_unlock(&pool->lock);
}

void cpu_pool_withdraw(cpu_pool *pool, cpu_job *job) {
    if (!cpu_pool_alive(pool)) return;
    pthread_mutex_lock(&pool->lock);
    unlink_job(pool, job);
    pthread_mutex_unlock(&pool->lock);
    cpu_pool_kick(pool);
}

// All costs are measured now and then: they change with what is in the buffers.
static void plan(cpu_pool *pool, cpu_job *job, uint32_t threads) {
    enum { JOBS_PER_MEASURED = 64 };
    cpu_job_plan(job, threads, obm_add(&pool->planned, 1) % JOBS_PER_MEASURED == 0);
}

const char *cpu_pool_commit(cpu_pool *pool, cpu_job *job) {
    if (!cpu_pool_alive(pool))
        return "the device does not outlive fork(); create a new one in the child process";
    job->queued_time = cpu_seconds();
    uint32_t threads = obm_load(&pool->threads);
    plan(pool, job, threads);
    pthread_mutex_lock(&pool->lock);
    if (!cpu_pool_start_workers(pool)) {
        if (obm_load(&job->status) == CPU_JOB_ENQUEUED) unlink_job(pool, job);
        pthread_mutex_unlock(&pool->lock);
        return "no worker thread could be started; raise the limit on threads";
    }
    if (threads != obm_load(&pool->threads)) plan(pool, job, obm_load(&pool->threads));  // it was resized meanwhile
    if (obm_load(&job->status) == CPU_JOB_NOT_ENQUEUED) append(pool, job);
    obm_store(&job->status, CPU_JOB_COMMITTED);
    obm_add(job->committed, 1);
    cpu_job *next = obm_load(&pool->driving) ? NULL : pick_next(pool);
    pthread_mutex_unlock(&pool->lock);
    if (next != NULL) cpu_pool_publish(pool, next);
    return NULL;
}

void cpu_pool_kick(cpu_pool *pool) {
    if (!cpu_pool_alive(pool)) return;
    pthread_mutex_lock(&pool->lock);
    cpu_job *next = obm_load(&pool->driving) ? NULL : pick_next(pool);
    pthread_mutex_unlock(&pool->lock);
    if (next == NULL) return;
    cpu_pool_publish(pool, next);
    cpu_pool_wake_sleepers(pool);
}

bool cpu_pool_resize(cpu_pool *pool, uint32_t threads) {
    if (!cpu_pool_alive(pool)) return false;
    pthread_mutex_lock(&pool->lock);
    bool idle = pool->head == NULL && !obm_load(&pool->driving);
    if (idle) obm_store(&pool->threads, threads);
    pthread_mutex_unlock(&pool->lock);
    if (idle) cpu_pool_recount_workers(pool);
    return idle;
}

cpu_phase *cpu_pool_begin(cpu_pool *pool) {
    cpu_job *job = pool->job;
    if (job->blocked_on != NULL) {
        obm_event_forget(job->blocked_on, &job->waiter);
        job->blocked_on = NULL;
        return job->resume;
    }
    job->start_time = job->scheduled_time = cpu_seconds();
    obm_store(&job->status, CPU_JOB_SCHEDULED);
    cpu_pool_wake_sleepers(pool);
    return obm_load(&job->error) == NULL ? job->first : NULL;
}

void cpu_pool_finish(cpu_pool *pool) {
    cpu_job *job = pool->job;
    job->end_time = cpu_seconds();
    void (*completed)(cpu_job *) = job->completed;
    pthread_mutex_lock(&pool->lock);
    unlink_job(pool, job);
    obm_sub(job->in_flight, 1);
    obm_sub(job->committed, 1);
    // Under the lock: who sees a later job completed sees this one completed too.
    obm_store(&job->status, obm_load(&job->error) != NULL ? CPU_JOB_ERROR : CPU_JOB_COMPLETED);
    cpu_job *next = pick_next(pool);
    pthread_mutex_unlock(&pool->lock);
    cpu_pool_wake_sleepers(pool);
    if (next != NULL) cpu_pool_publish(pool, next);
    completed(job);
}

void cpu_pool_suspend(cpu_pool *pool, obm_event *event, cpu_phase *resume) {
    pool->job->resume = resume;
    pool->job->blocked_on = event;
    pthread_mutex_lock(&pool->lock);
    cpu_job *next = pick_next(pool);
    pthread_mutex_unlock(&pool->lock);
    if (next != NULL) cpu_pool_publish(pool, next);
}
