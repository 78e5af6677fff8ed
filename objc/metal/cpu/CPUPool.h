// The threads of the cpu device. They run committed recordings one after another, without the host.
//
// A pool of N threads has N - 1 workers (one if N is 1); a thread that waits takes part as the Nth, so
// that commit and wait need no hand-off. Idle threads spin for about 100 microseconds and then sleep.
// Every function may be called from any thread.
#ifndef CPU_POOL_H
#define CPU_POOL_H

#include "CPUSchedule.h"

enum { CPU_POOL_MAX_THREADS = 1024 };

typedef struct cpu_pool cpu_pool;

// NULL when there is no memory left. The threads start with the first commit.
cpu_pool *cpu_pool_create(uint32_t threads);

// Stops the threads. No recording may be unfinished.
void cpu_pool_destroy(cpu_pool *pool);

// Lives as long as the pool.
const obm_executor *cpu_pool_executor(const cpu_pool *pool);

uint32_t cpu_pool_threads(cpu_pool *pool);

// False, and nothing changes, while a recording is enqueued or runs.
bool cpu_pool_resize(cpu_pool *pool, uint32_t threads);

#endif
