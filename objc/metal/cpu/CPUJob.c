#include "CPUJob.h"

#include "metal/checker/CheckerJob.h"

#include <string.h>
#include <time.h>

// A thread takes half of what it has left at a time, so that a phase ends with small pieces. A piece
// is worth UNIT_NS at least: kernels that prepare their input do so for each.
enum {
    UNIT_NS = 3000,
    MOST_UNITS = 32,    // of a thread
    UNKNOWN_UNITS = 8,  // of a thread, where the cost is not known
    MIXED_UNITS = 4,    // of a thread, at least, where dispatches share a phase
    ALONE_NS = 400,     // a phase of less is not shared: that costs half as much
    DOUBTFUL_NS = 4 * ALONE_NS,  // of less, what it costs unshared is measured too
};

uint64_t cpu_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double cpu_seconds(void) { return (double)cpu_nanoseconds() * 1e-9; }

void cpu_job_reset(cpu_job *job) {
    obm_arena arena = job->arena;
    obm_arena_reset(&arena);
    *job = (cpu_job){.arena = arena};
}

void cpu_job_fail(cpu_job *job, uint32_t code, const char *text) {
    if (obm_load(&job->error) != NULL) return;
    job->error_code = code;
    obm_store(&job->error, text);
}

cpu_phase *cpu_job_add_phase(cpu_job *job, cpu_phase_kind kind) {
    cpu_phase *phase = obm_arena_take(&job->arena, sizeof *phase);
    if (phase == NULL) return NULL;
    *phase = (cpu_phase){.kind = kind};
    if (job->last != NULL) job->last->next = phase;
    else job->first = phase;
    job->last = phase;
    return phase;
}

typedef struct {
    double cost;  // in units of cpu_cost_read; 0: not known
    uint32_t dispatches;
    uint32_t noted;  // how often, at least
} phase_cost;

static phase_cost cost_of(const cpu_phase *phase) {
    phase_cost result = {.noted = UINT32_MAX};
    bool known = true;
    for (const cpu_dispatch *d = phase->first; d != NULL; d = d->next) {
        uint32_t noted, each = cpu_cost_read(d->cost, &noted);
        result.dispatches++;
        result.cost += (double)each * d->total;
        known &= each > 0;
        if (d->cost.entry != NULL && noted < result.noted) result.noted = noted;
    }
    if (!known) result.cost = 0;
    return result;
}

// How many units the whole phase is to have.
static double units_wanted(phase_cost phase, uint32_t threads) {
    if (phase.cost == 0) return (double)threads * UNKNOWN_UNITS;
    double each = phase.cost / ((double)threads * UNIT_NS * CPU_COST_NS);
    double least = phase.dispatches > 1 ? MIXED_UNITS : 1;
    if (each < least) each = least;
    return threads * (each > MOST_UNITS ? MOST_UNITS : (uint32_t)each);
}

static void plan_phase(cpu_phase *phase, uint32_t threads, bool measured) {
    phase_cost whole = cost_of(phase);
    double wanted = units_wanted(whole, threads);
    uint64_t units = 0;
    bool doubtful = whole.cost > 0 && whole.cost < DOUBTFUL_NS * CPU_COST_NS;
    phase->measured = threads > 1 && (measured || whole.noted < (doubtful ? 2 : 1) * CPU_COST_NOTES);
    phase->alone = threads == 1 || (doubtful && (phase->measured || whole.cost < ALONE_NS * CPU_COST_NS));
    for (cpu_dispatch *d = phase->first; d != NULL; d = d->next) {
        uint32_t noted;
        double part = wanted / whole.dispatches;
        if (whole.cost > 0) part = wanted * d->total * cpu_cost_read(d->cost, &noted) / whole.cost + 0.5;
        if (phase->alone || part < 1) part = 1;
        d->units = part < d->total ? (uint32_t)part : d->total;
        units += d->units;
    }
    phase->units = (uint32_t)units;
    phase->share = phase->units / threads;
    phase->rest = phase->units % threads;
    if (units <= 1) phase->alone = true;
}

void cpu_job_plan(cpu_job *job, uint32_t threads, bool measured) {
    for (cpu_phase *phase = job->first; phase != NULL; phase = phase->next) {
        for (cpu_dispatch *d = phase->first; d != NULL; d = d->next) {
            if (d->indirect != NULL) phase->indirect = true;
            cpu_cost_place(&d->cost);
        }
        plan_phase(phase, threads, measured);
    }
}

bool cpu_phase_resolve(cpu_phase *phase, uint32_t threads) {
    for (cpu_dispatch *d = phase->first; d != NULL; d = d->next) {
        if (d->indirect == NULL) continue;
        uint64_t total = 1;
        for (int i = 0; i < 3; i++) {
            uint32_t count = d->indirect[i];
            uint64_t grid = (uint64_t)count * d->launch.threads[i];
            if (grid > UINT32_MAX) return false;
            d->launch.threadgroups[i] = count;
            d->launch.grid[i] = (uint32_t)grid;
            if (count != 0 && total > UINT32_MAX / count) return false;
            total *= count;
        }
        d->total = (uint32_t)total;
    }
    plan_phase(phase, threads, phase->measured);
    return true;
}

static void run_threadgroups(const cpu_dispatch *d, uint32_t first, uint32_t count, char *scratch) {
    if (d->watched != NULL) {
        checker_run(d);
        return;
    }
    if (d->native != NULL) {
        d->native(&d->launch, first, count, scratch, d->entry);
        return;
    }
    if (d->threadgroup_offsets == NULL) {
        d->entry(&d->launch, first, count);
        return;
    }
    void *memory[METALLIB_MAX_THREADGROUP];
    for (uint32_t i = 0; i < d->threadgroup_slots; i++) memory[i] = scratch + d->threadgroup_offsets[i];
    metallib_launch launch = d->launch;
    launch.threadgroup = memory;
    d->entry(&launch, first, count);
}

// The threadgroup that a unit starts with.
static uint32_t unit_start(const cpu_dispatch *d, uint32_t unit) {
    if (d->units == d->total || unit == 0) return unit;
    return unit == d->units ? d->total : (uint32_t)((uint64_t)d->total * unit / d->units);
}

void cpu_phase_run(const cpu_phase *phase, uint32_t first, uint32_t count, char *scratch) {
    // A phase that is watched runs on one thread; its first unit begins it.
    if (first == 0 && phase->first != NULL && phase->first->watched != NULL) checker_begin(phase->first);
    for (const cpu_dispatch *d = phase->first; d != NULL && count > 0; d = d->next) {
        if (first >= d->units) {
            first -= d->units;
            continue;
        }
        uint32_t take = d->units - first < count ? d->units - first : count;
        uint32_t begin = unit_start(d, first), end = unit_start(d, first + take);
        if (phase->measured && d->cost.entry != NULL) {
            uint64_t start = cpu_nanoseconds();
            run_threadgroups(d, begin, end - begin, scratch);
            cpu_cost_note(d->cost, cpu_nanoseconds() - start, end - begin, !phase->alone);
        } else {
            run_threadgroups(d, begin, end - begin, scratch);
        }
        first = 0;
        count -= take;
    }
}
