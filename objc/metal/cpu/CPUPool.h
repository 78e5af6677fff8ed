// The threads of a device. They run committed jobs one after another, without the host.
//
// A pool of N threads has N - 1 workers (one if N is 1); a thread in cpu_pool_wait takes part as
// the Nth, so that commit and wait need no hand-off. Idle threads spin for about 100 microseconds
// and then sleep. Every function may be called from any thread.
#ifndef CPU_POOL_H
#define CPU_POOL_H

#include "CPUJob.h"

enum { CPU_POOL_MAX_THREADS = 1024 };

typedef struct cpu_pool cpu_pool;

// NULL when there is no memory left. The threads start with the first commit.
cpu_pool *cpu_pool_create(uint32_t threads);

// Stops the threads. No job may be unfinished.
void cpu_pool_destroy(cpu_pool *pool);

uint32_t cpu_pool_threads(cpu_pool *pool);

// What its jobs cost; lives as long as the pool.
cpu_costs *cpu_pool_costs(cpu_pool *pool);

// False, and nothing changes, while a job is enqueued or runs.
bool cpu_pool_resize(cpu_pool *pool, uint32_t threads);

// False in a child process after fork, which has the pool's memory but none of its threads.
bool cpu_pool_alive(const cpu_pool *pool);

// Gives the job its place in the order. Committing an enqueued job keeps that place.
void cpu_pool_enqueue(cpu_pool *pool, cpu_job *job);

// Takes an enqueued job back that is not committed.
void cpu_pool_withdraw(cpu_pool *pool, cpu_job *job);

// NULL, or why the job cannot run: a static text. `completed` is then not called.
const char *cpu_pool_commit(cpu_pool *pool, cpu_job *job);

// Takes part in the work until ready(context). Returns early in a child process after fork.
void cpu_pool_wait(cpu_pool *pool, bool (*ready)(void *context), void *context);

// Looks again for a job that can run: an event has been signalled.
void cpu_pool_kick(cpu_pool *pool);

#endif
