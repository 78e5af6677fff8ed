#define _GNU_SOURCE
#include "CPUPool.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "CPUPoolPrivate.h"
#include "CPUSignal.h"

enum {
    SPINS_PER_CLOCK = 64,
    YIELD_AFTER_NS = 20 * 1000,         // from here on an oversubscribed machine gets its core back
    PARK_AFTER_NS = 100 * 1000,         // with nothing to run
    PARK_IN_JOB_AFTER_NS = 2000 * 1000, // while a job runs that leaves this thread nothing
};

static void futex_wait(cpu_atomic_u32 *word, uint32_t seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake_all(cpu_atomic_u32 *word) {
    cpu_add(word, 1);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void cpu_pool_wake_workers(cpu_pool *pool) {
    if (cpu_load(&pool->parked) > 0) futex_wake_all(&pool->work_signal);
}

void cpu_pool_recount_workers(cpu_pool *pool) { futex_wake_all(&pool->work_signal); }

void cpu_pool_wake_sleepers(cpu_pool *pool) {
    if (cpu_load(&pool->sleepers) > 0) futex_wake_all(&pool->done_signal);
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

typedef struct {
    uint32_t spins;
    uint64_t since;  // nanoseconds
} idle_time;

// One turn of waiting; returns for how long, in nanoseconds, there was nothing to do.
static uint64_t idle_turn(idle_time *idle) {
    relax();
    if (++idle->spins % SPINS_PER_CLOCK != 0) return 0;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (idle->since == 0) idle->since = time;
    if (time - idle->since > YIELD_AFTER_NS) sched_yield();
    return time - idle->since;
}

// Many units at once while many are left, then one by one.
static uint32_t share(uint32_t unclaimed, uint32_t threads) {
    uint32_t take = unclaimed / (threads * 2);
    return take > 0 ? take : 1;
}

// Opens a phase with the driver's own share claimed, and runs it; returns its size.
static uint32_t open_phase(cpu_pool *pool, cpu_phase *phase, uint32_t threads, char *scratch) {
    uint32_t take = share(phase->units, threads);
    pool->phase = phase;
    cpu_store(&pool->ticket, (uint64_t)phase->units << 32 | (phase->units - take));
    cpu_pool_wake_workers(pool);
    cpu_phase_run(phase, 0, take, scratch);
    return take;
}

void cpu_pool_publish(cpu_pool *pool, cpu_job *job) {
    pool->job = job;
    pool->phase = &pool->start;
    cpu_store(&pool->ticket, (uint64_t)1 << 32 | 1);
    cpu_pool_wake_workers(pool);
}

// Drives the job on from a finished phase. Phases of one unit run here at once: no other thread
// hears of them. Returns how many units this thread has run of the phase that is open now.
static uint32_t drive(cpu_pool *pool, char *scratch) {
    cpu_job *job = pool->job;
    uint32_t threads = cpu_load_relaxed(&pool->threads);
    cpu_phase *phase = pool->phase == &pool->start ? cpu_pool_begin(pool) : pool->phase->next;
    for (; phase != NULL; phase = phase->next) {
        if (phase->kind == CPU_PHASE_SIGNAL) {
            cpu_event_signal(phase->event, phase->value);
        } else if (phase->kind == CPU_PHASE_WAIT) {
            job->waiter = (cpu_waiter){.pool = pool, .value = phase->value};
            if (cpu_event_wait(phase->event, &job->waiter)) continue;
            cpu_pool_suspend(pool, phase->event, phase->next);
            return 0;
        } else if (phase->indirect && !cpu_phase_resolve(phase, threads)) {
            cpu_job_fail(job, CPU_ERROR_INVALID_RESOURCE, "an indirect dispatch asks for more than 2^32 - 1 threads");
            break;
        } else if (threads == 1 || phase->units <= 1) {
            cpu_phase_run(phase, 0, phase->units, scratch);
        } else {
            return open_phase(pool, phase, threads, scratch);
        }
    }
    cpu_pool_finish(pool);
    return 0;
}

// Claims and runs some units, or reports those in *done as finished; false if there is nothing to
// do, and then *done is 0.
static bool work(cpu_pool *pool, char *scratch, uint32_t *done) {
    uint64_t ticket = cpu_load_acquire(&pool->ticket);
    uint32_t unclaimed = (uint32_t)ticket;
    if (unclaimed > 0) {
        uint32_t take = share(unclaimed, cpu_load_relaxed(&pool->threads));
        uint64_t next = ticket - take - ((uint64_t)*done << 32);
        if (!cpu_swap(&pool->ticket, &ticket, next)) return true;
        const cpu_phase *phase = pool->phase;
        cpu_phase_run(phase, phase->units - unclaimed, take, scratch);
        *done = take;
        return true;
    }
    if (*done == 0) return false;
    uint32_t finished = *done;
    *done = 0;
    ticket = cpu_sub(&pool->ticket, (uint64_t)finished << 32);
    if (ticket >> 32 == finished) *done = drive(pool, scratch);
    return true;
}

static void release_pool(cpu_pool *pool) {
    if (cpu_sub(&pool->references, 1) != 1) return;
    pthread_mutex_destroy(&pool->lock);
    if (pool->alive != NULL) munmap(pool->alive, (size_t)sysconf(_SC_PAGESIZE));
    free(pool->guest_scratch);
    free(pool);
}

static uint32_t workers_wanted(cpu_pool *pool) {
    uint32_t threads = cpu_load(&pool->threads);
    return cpu_load(&pool->stop) ? 0 : threads > 1 ? threads - 1 : 1;
}

// A worker leaves when it is one too many. Starting counts under the same lock.
static bool leave(cpu_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    bool surplus = pool->workers > workers_wanted(pool);
    if (surplus) pool->workers--;
    pthread_mutex_unlock(&pool->lock);
    return surplus;
}

static void park(cpu_pool *pool, uint32_t seen) {
    cpu_add(&pool->parked, 1);
    if ((uint32_t)cpu_load(&pool->ticket) == 0) futex_wait(&pool->work_signal, seen);
    cpu_sub(&pool->parked, 1);
}

static void *run_worker(void *context) {
    cpu_pool *pool = context;
    _Alignas(CPU_CACHE_LINE) char scratch[CPU_MAX_THREADGROUP_MEMORY];
    idle_time idle = {0};
    uint32_t done = 0;
    for (;;) {
        if (work(pool, scratch, &done)) {
            idle = (idle_time){0};
            continue;
        }
        uint64_t waited = idle_turn(&idle);
        if (waited < (cpu_load(&pool->driving) ? PARK_IN_JOB_AFTER_NS : PARK_AFTER_NS)) continue;
        uint32_t seen = cpu_load(&pool->work_signal);  // before leave: what stops workers changes it
        if (leave(pool)) break;
        park(pool, seen);
        idle = (idle_time){0};
    }
    release_pool(pool);
    return NULL;
}

static bool start_worker(cpu_pool *pool) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals belong to the host's threads
    cpu_add(&pool->references, 1);
    bool started = pthread_create(&thread, &attributes, run_worker, pool) == 0;
    if (!started) cpu_sub(&pool->references, 1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

bool cpu_pool_start_workers(cpu_pool *pool) {
    while (pool->workers < workers_wanted(pool) && start_worker(pool)) pool->workers++;
    return pool->workers > 0;
}

cpu_pool *cpu_pool_create(uint32_t threads) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    cpu_pool *pool = aligned_alloc(CPU_CACHE_LINE, sizeof *pool);
    if (pool == NULL) return NULL;
    *pool = (cpu_pool){.start = {.units = 1}};
    pthread_mutex_init(&pool->lock, NULL);
    cpu_store(&pool->references, 1);
    cpu_store(&pool->threads, threads);
    pool->guest_scratch = aligned_alloc(CPU_CACHE_LINE, CPU_MAX_THREADGROUP_MEMORY);
    void *alive = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (alive != MAP_FAILED) pool->alive = alive;
    if (pool->guest_scratch == NULL || pool->alive == NULL) {
        release_pool(pool);
        return NULL;
    }
    madvise(alive, page, MADV_WIPEONFORK);
    *pool->alive = 1;
    return pool;
}

void cpu_pool_destroy(cpu_pool *pool) {
    if (pool == NULL) return;
    cpu_store(&pool->stop, true);
    cpu_pool_recount_workers(pool);
    release_pool(pool);
}

uint32_t cpu_pool_threads(cpu_pool *pool) { return cpu_load(&pool->threads); }

bool cpu_pool_alive(const cpu_pool *pool) { return *pool->alive == 1; }

static void take_part(cpu_pool *pool, bool (*ready)(void *), void *context) {
    idle_time idle = {0};
    uint32_t done = 0;
    while (done > 0 || !ready(context)) {
        if (work(pool, pool->guest_scratch, &done)) {
            idle = (idle_time){0};
        } else if (idle_turn(&idle) > PARK_AFTER_NS && !cpu_load(&pool->driving)) {
            break;
        }
    }
}

void cpu_pool_wait(cpu_pool *pool, bool (*ready)(void *context), void *context) {
    idle_time idle = {0};
    while (!ready(context) && cpu_pool_alive(pool)) {
        if (!cpu_exchange(&pool->guest, true)) {
            take_part(pool, ready, context);
            cpu_store(&pool->guest, false);
            cpu_pool_wake_sleepers(pool);
            if (ready(context)) return;
        } else if (idle_turn(&idle) < PARK_AFTER_NS) {
            continue;
        }
        uint32_t seen = cpu_load(&pool->done_signal);
        cpu_add(&pool->sleepers, 1);
        if (!ready(context)) futex_wait(&pool->done_signal, seen);
        cpu_sub(&pool->sleepers, 1);
    }
}
