// The state that the pool's threads (CPUPool.c) share with the order of its recordings (CPUPoolExecutor.c).
#ifndef CPU_POOL_PRIVATE_H
#define CPU_POOL_PRIVATE_H

#include "CPUPool.h"
#include "metal/base/OBMOrder.h"

enum { CPU_CACHE_LINE = 128 };  // a pair of lines, which processors fetch together

// The part of a thread in the open phase: a range of the phase's units, first (low half) to end (high
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

    _Alignas(CPU_CACHE_LINE) obm_atomic_u32 start;  // 1: a recording is published and nobody drives it yet
    obm_recording *recording;                       // written before that
    cpu_slot *slots;  // CPU_POOL_MAX_THREADS: 0 of the waiting thread, 1 .. of the workers
    obm_atomic_u32 threads;

    _Alignas(CPU_CACHE_LINE) obm_atomic_u32 parked;  // workers that sleep on work_signal
    obm_atomic_u32 work_signal;
    obm_atomic_u32 sleepers;  // waiting threads that sleep on done_signal
    obm_atomic_u32 done_signal;
    obm_atomic_u32 guest;  // a waiting thread takes part
    obm_atomic_u32 stop;
    obm_atomic_u32 references;  // the owner and each worker
    char *guest_scratch;
    cpu_costs *costs;
    obm_atomic_u32 planned;  // recordings
    obm_executor executor;

    _Alignas(CPU_CACHE_LINE) obm_order order;  // its lock also guards which workers run
};

// Starts the workers that are missing; false if there is not even one. Under the lock.
bool cpu_pool_start_workers(cpu_pool *pool);

// Lets a thread start a recording, which counts as running in the order already.
void cpu_pool_publish(cpu_pool *pool, obm_recording *recording);

void cpu_pool_wake_workers(cpu_pool *pool);
void cpu_pool_wake_sleepers(cpu_pool *pool);

// Lets workers that are too many now see it, even those about to sleep.
void cpu_pool_recount_workers(cpu_pool *pool);

obm_executor cpu_pool_calls(cpu_pool *pool);
void cpu_pool_wait(void *pool, bool (*ready)(void *argument), void *argument);

// Looks again for a recording that can run: an event has been signalled.
void cpu_pool_look_again(void *pool);

// The driver's steps: the first phase of the recording that was published, the end of a recording, and a wait for an
// event: true if the recording goes on at once. The last two publish the next recording.
cpu_phase *cpu_pool_begin(cpu_pool *pool);
void cpu_pool_finish(cpu_pool *pool);
bool cpu_pool_wait_for_event(cpu_pool *pool, const obm_phase *phase);

#endif
