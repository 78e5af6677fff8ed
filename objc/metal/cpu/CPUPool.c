#define _GNU_SOURCE
#include "CPUPool.h"

#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "CPUPoolPrivate.h"
#include "metal/base/OBMHost.h"
#include "metal/base/OBMThread.h"

enum {
    SLOTS = CPU_POOL_MAX_THREADS + 1,
    SPINS_PER_CLOCK = 64,
    SPINS_TO_STEAL = 8,                        // others get to their own units first
    YIELD_EVERY_NS = 10 * 1000,                // an oversubscribed machine gets its core back
    PARK_AFTER_NS = 100 * 1000,                // with nothing to run
    PARK_IN_RECORDING_AFTER_NS = 2000 * 1000,  // while a recording runs that leaves this thread nothing
};

static void change(obm_atomic_u32 *signal) {
    obm_add(signal, 1);
    obm_host_wake_all(signal);
}

void cpu_pool_wake_workers(cpu_pool *pool) {
    if (obm_load(&pool->parked) > 0) change(&pool->work_signal);
}

void cpu_pool_recount_workers(cpu_pool *pool) { change(&pool->work_signal); }

void cpu_pool_wake_sleepers(cpu_pool *pool) {
    if (obm_load(&pool->sleepers) > 0) change(&pool->done_signal);
}

typedef struct {
    uint32_t spins, steal_at;  // turns
    uint64_t since, yielded;   // nanoseconds
} idle_time;

static const idle_time NOT_IDLE = {.steal_at = SPINS_TO_STEAL};

// A thread that takes part.
typedef struct {
    uint32_t index;    // of its slot
    uint32_t done;     // units run and not reported
    cpu_phase *phase;  // that they belong to
    char *scratch;     // CPU_SCRATCH_BYTES
    bool eager;        // to steal at once: the last thing it did was stealing
} worker;

// One turn of waiting; returns for how long, in nanoseconds, there was nothing to do.
static uint64_t idle_turn(idle_time *idle) {
    obm_pause();
    if (++idle->spins % SPINS_PER_CLOCK != 0) return 0;
    uint64_t time = obm_nanoseconds();
    if (idle->since == 0) idle->since = idle->yielded = time;
    if (time - idle->yielded > YIELD_EVERY_NS) {
        sched_yield();
        idle->yielded = time;
    }
    return time - idle->since;
}

// Whether to look for units to steal: rarely, after there were none.
static bool steal_is_due(idle_time *idle) {
    if (idle->spins < idle->steal_at) return false;
    idle->steal_at += idle->spins < SPINS_PER_CLOCK ? idle->spins : SPINS_PER_CLOCK;
    return true;
}

// Claims half of what is left in a slot, so that the last claims are small; returns how many units.
static uint32_t claim(cpu_slot *slot, uint32_t *first) {
    uint64_t range = obm_load_acquire(&slot->range);
    for (;;) {
        uint32_t next = (uint32_t)range, end = (uint32_t)(range >> 32);
        if (next >= end) return 0;
        uint32_t take = (end - next + 1) / 2;
        if (!obm_swap(&slot->range, &range, range + take)) continue;
        *first = next;
        return take;
    }
}

static bool run_from(cpu_slot *slot, worker *self) {
    uint32_t first, count = claim(slot, &first);
    if (count == 0) return false;
    self->phase = slot->phase;
    cpu_phase_run(self->phase, first, count, self->scratch);
    self->done += count;
    return true;
}

// Gives each thread its range of the phase. A thread has the same part of equal phases, so that
// what it reads stays in its cache; the driver comes first where there are too few for all.
static void open_phase(cpu_pool *pool, cpu_phase *phase, uint32_t threads, const worker *self) {
    uint64_t own = 0;
    obm_store_release(&pool->unfinished, phase->units);
    for (uint32_t i = 0; i < threads; i++) {
        uint64_t place = i;
        if (phase->share == 0) place = i >= self->index ? i - self->index : i + threads - self->index;
        uint64_t first = place * phase->share + (place < phase->rest ? place : phase->rest);
        uint64_t end = first + phase->share + (place < phase->rest);
        pool->slots[i].phase = phase;
        if (i == self->index) own = end << 32 | first;
        else if (first < end) obm_store_release(&pool->slots[i].range, end << 32 | first);
    }
    pool->slots[self->index].phase = phase;
    obm_store(&pool->slots[self->index].range, own);
    cpu_pool_wake_workers(pool);
}

void cpu_pool_publish(cpu_pool *pool, obm_recording *recording) {
    pool->recording = recording;
    obm_store(&pool->start, 1);
    cpu_pool_wake_workers(pool);
}

static cpu_phase *next_phase(const cpu_phase *phase) { return (cpu_phase *)phase->recorded.next; }

// Drives the recording on. Phases that are not shared run here at once: no other thread hears of them.
static void drive(cpu_pool *pool, cpu_phase *phase, const worker *self) {
    uint32_t threads = obm_load_relaxed(&pool->threads);
    for (; phase != NULL; phase = next_phase(phase)) {
        obm_phase *recorded = &phase->recorded;
        if (recorded->kind == OBM_PHASE_SIGNAL) {
            obm_event_signal(recorded->event, recorded->value);
            continue;
        }
        if (recorded->kind == OBM_PHASE_WAIT) {
            if (cpu_pool_wait_for_event(pool, recorded)) continue;
            return;
        }
        if (recorded->indirect) {
            if (!obm_phase_resolve(pool->recording, recorded)) break;
            cpu_plan_resolved(phase, threads);
        }
        if (!phase->alone) {
            open_phase(pool, phase, threads, self);
            return;
        }
        cpu_phase_run(phase, 0, phase->units, self->scratch);
    }
    cpu_pool_finish(pool);
}

// Takes from a thread that has not got to all of its units. Threads that have just finished theirs
// wait a little before they do: looking at another's range slows it down.
static bool steal(cpu_pool *pool, worker *self) {
    uint32_t threads = obm_load_relaxed(&pool->threads);
    for (uint32_t i = 1; i < threads; i++) {
        if (run_from(&pool->slots[(self->index + i) % threads], self)) return self->eager = true;
    }
    return self->eager = false;
}

// Runs some units, or reports those that were run as finished; false if there is nothing to do,
// and then nothing is left to report.
static bool work(cpu_pool *pool, worker *self) {
    if (run_from(&pool->slots[self->index], self)) return true;
    if (self->done > 0) {
        if ((self->eager || self->phase->share > 1) && steal(pool, self)) return true;
        cpu_phase *next = next_phase(self->phase);
        uint32_t done = self->done;
        self->done = 0;
        if (obm_sub(&pool->unfinished, done) == done) drive(pool, next, self);
        return true;
    }
    uint32_t one = 1;
    if (obm_load_acquire(&pool->start) == 0 || !obm_swap(&pool->start, &one, 0)) return false;
    drive(pool, cpu_pool_begin(pool), self);
    return true;
}

static void free_pool(cpu_pool *pool) {
    free(pool->guest_scratch);
    free(pool->costs);
    free(pool->slots);
    free(pool);
}

static void release_pool(cpu_pool *pool) {
    if (obm_sub(&pool->references, 1) != 1) return;
    obm_order_close(&pool->order);
    free_pool(pool);
}

static uint32_t workers_wanted(cpu_pool *pool) {
    uint32_t threads = obm_load(&pool->threads);
    return obm_load(&pool->stop) ? 0 : threads > 1 ? threads - 1 : 1;
}

// A worker leaves when it is one too many.
static bool leave(cpu_pool *pool, uint32_t index) {
    pthread_mutex_lock(&pool->order.lock);
    bool surplus = index > workers_wanted(pool);
    if (surplus) pool->slots[index].running = false;
    pthread_mutex_unlock(&pool->order.lock);
    return surplus;
}

static void park(cpu_pool *pool, const worker *self, uint32_t seen) {
    obm_add(&pool->parked, 1);
    uint64_t range = obm_load(&pool->slots[self->index].range);
    if ((uint32_t)range >= range >> 32 && obm_load(&pool->start) == 0) obm_host_wait(&pool->work_signal, seen);
    obm_sub(&pool->parked, 1);
}

// Pages that nothing touches cost nothing.
static char *new_scratch(void) { return aligned_alloc(CPU_CACHE_LINE, CPU_SCRATCH_BYTES); }

typedef struct {
    cpu_pool *pool;
    worker self;
} start_context;

static void *run_worker(void *context) {
    cpu_pool *pool = ((start_context *)context)->pool;
    worker self = ((start_context *)context)->self;
    idle_time idle = NOT_IDLE;
    free(context);
    for (;;) {
        if (work(pool, &self)) {
            idle = NOT_IDLE;
            continue;
        }
        uint64_t waited = idle_turn(&idle);
        if (steal_is_due(&idle) && steal(pool, &self)) {
            idle = NOT_IDLE;
            continue;
        }
        if (waited == 0) continue;
        if (waited < (obm_load(&pool->order.running) ? PARK_IN_RECORDING_AFTER_NS : PARK_AFTER_NS)) continue;
        uint32_t seen = obm_load(&pool->work_signal);  // before leave: what stops workers changes it
        if (leave(pool, self.index)) break;
        park(pool, &self, seen);
        idle = NOT_IDLE;
    }
    free(self.scratch);
    release_pool(pool);
    return NULL;
}

static bool start_worker(cpu_pool *pool, uint32_t index) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    start_context *context = malloc(sizeof *context);
    char *scratch = new_scratch();
    if (context == NULL || scratch == NULL) {
        free(context);
        free(scratch);
        return false;
    }
    *context = (start_context){pool, {.index = index, .scratch = scratch}};
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, OBM_STACK_BYTES);
    sigfillset(&all);
    sigdelset(&all, SIGBUS);                      // the thread's own, where a mapped file is cut short
    pthread_sigmask(SIG_SETMASK, &all, &before);  // other signals belong to the host's threads
    obm_add(&pool->references, 1);
    bool started = pthread_create(&thread, &attributes, run_worker, context) == 0;
    if (!started) {
        obm_sub(&pool->references, 1);
        free(context);
        free(scratch);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

bool cpu_pool_start_workers(cpu_pool *pool) {
    uint32_t wanted = workers_wanted(pool), running = 0;
    for (uint32_t i = 1; i <= wanted; i++) {
        if (!pool->slots[i].running) pool->slots[i].running = start_worker(pool, i);
        running += pool->slots[i].running;
    }
    return running > 0;
}

cpu_pool *cpu_pool_create(uint32_t threads) {
    cpu_pool *pool = aligned_alloc(CPU_CACHE_LINE, sizeof *pool);
    if (pool == NULL) return NULL;
    *pool = (cpu_pool){.slots = aligned_alloc(CPU_CACHE_LINE, SLOTS * sizeof(cpu_slot)),
                       .guest_scratch = new_scratch(),
                       .costs = calloc(1, sizeof *pool->costs),
                       .executor = cpu_pool_calls(pool)};
    if (!obm_order_open(&pool->order)) {
        free_pool(pool);
        return NULL;
    }
    obm_store(&pool->references, 1);
    obm_store(&pool->threads, threads);
    if (pool->slots == NULL || pool->guest_scratch == NULL || pool->costs == NULL) {
        release_pool(pool);
        return NULL;
    }
    memset(pool->slots, 0, SLOTS * sizeof(cpu_slot));
    return pool;
}

void cpu_pool_destroy(cpu_pool *pool) {
    if (pool == NULL) return;
    obm_store(&pool->stop, true);
    cpu_pool_recount_workers(pool);
    release_pool(pool);
}

const obm_executor *cpu_pool_executor(const cpu_pool *pool) { return &pool->executor; }

uint32_t cpu_pool_threads(cpu_pool *pool) { return obm_load(&pool->threads); }

static void take_part(cpu_pool *pool, bool (*ready)(void *), void *context) {
    worker self = {.index = 0, .scratch = pool->guest_scratch};
    idle_time idle = NOT_IDLE;
    while (self.done > 0 || !ready(context)) {
        if (work(pool, &self)) {
            idle = NOT_IDLE;
            continue;
        }
        uint64_t waited = idle_turn(&idle);
        if (steal_is_due(&idle) && steal(pool, &self)) {
            idle = NOT_IDLE;
            continue;
        }
        if (waited == 0) continue;
        if (waited > PARK_AFTER_NS && !obm_load(&pool->order.running)) break;
    }
}

void cpu_pool_wait(void *waited, bool (*ready)(void *argument), void *context) {
    cpu_pool *pool = waited;
    idle_time idle = NOT_IDLE;
    while (!ready(context) && obm_order_alive(&pool->order)) {
        if (!obm_exchange(&pool->guest, true)) {
            take_part(pool, ready, context);
            obm_store(&pool->guest, false);
            cpu_pool_wake_sleepers(pool);
            if (ready(context)) return;
        } else if (idle_turn(&idle) < PARK_AFTER_NS) {
            continue;
        }
        uint32_t seen = obm_load(&pool->done_signal);
        obm_add(&pool->sleepers, 1);
        if (!ready(context)) obm_host_wait(&pool->done_signal, seen);
        obm_sub(&pool->sleepers, 1);
    }
}
