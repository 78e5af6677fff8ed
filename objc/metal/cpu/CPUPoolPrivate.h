// The state that the pool's threads (CPUPool.m) share with the order of its jobs (CPUPoolOrder.m).
#ifndef CPU_POOL_PRIVATE_H
#define CPU_POOL_PRIVATE_H

#include <pthread.h>

#include "CPUPool.h"

enum { CPU_CACHE_LINE = 128 };  // a pair of lines, which processors fetch together

// What a thread is to do of the open phase: a range of its units, first (low half) to end (high
// half). Its thread claims from the front, and so do others that have nothing left.
//
// A claim is valid whatever phase it hits: the phase is read after the claim, and cannot end before
// the claimed units are finished.
typedef struct {
    _Alignas(CPU_CACHE_LINE) obm_atomic_u64 range;
    cpu_phase *phase;
    bool running;  // a worker has this slot; under the lock
} cpu_slot;

struct cpu_pool {
    _Alignas(CPU_CACHE_LINE) obm_atomic_u32 unfinished;  // units; who finishes the last drives the job on

    _Alignas(CPU_CACHE_LINE) obm_atomic_u32 start;  // 1: a job is published and nobody drives it yet
    cpu_job *job;                                   // written before that
    cpu_slot *slots;  // CPU_POOL_MAX_THREADS: 0 of the waiting thread, 1 .. of the workers
    obm_atomic_u32 threads;
    obm_atomic_u32 driving;  // a job runs or is about to; changed under the lock

    _Alignas(CPU_CACHE_LINE) obm_atomic_u32 parked;  // workers that sleep on work_signal
    obm_atomic_u32 work_signal;
    obm_atomic_u32 sleepers;  // waiting threads that sleep on done_signal
    obm_atomic_u32 done_signal;
    obm_atomic_u32 guest;  // a waiting thread takes part
    obm_atomic_u32 stop;
    obm_atomic_u32 references;  // the owner and each worker
    char *guest_scratch;
    cpu_costs *costs;
    obm_atomic_u32 planned;  // jobs
    uint32_t *alive;  // a page that fork clears in the child

    pthread_mutex_t lock;
    cpu_job *head;  // enqueued and committed jobs in their order
};

// Starts the workers that are missing; false if there is not even one. Under the lock.
bool cpu_pool_start_workers(cpu_pool *pool);

// Lets a thread start a job. The caller has set `driving`.
void cpu_pool_publish(cpu_pool *pool, cpu_job *job);

void cpu_pool_wake_workers(cpu_pool *pool);
void cpu_pool_wake_sleepers(cpu_pool *pool);

// Lets workers that are too many now see it, even those about to sleep.
void cpu_pool_recount_workers(cpu_pool *pool);

// The driver's steps: the first phase of the job that was published, the end of a job, a job that
// waits for an event and goes on at `resume`. The last two publish the next job.
cpu_phase *cpu_pool_begin(cpu_pool *pool);
void cpu_pool_finish(cpu_pool *pool);
void cpu_pool_suspend(cpu_pool *pool, obm_event *event, cpu_phase *resume);

#endif
