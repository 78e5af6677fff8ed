#include "CPUJob.h"

#include "CheckerJob.h"

#include <string.h>
#include <time.h>

// Units of a phase for each thread. Threads take several at once while there are many, so that a
// phase ends with small pieces and few claims.
enum { UNITS_PER_THREAD = 8 };

double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void cpu_job_reset(cpu_job *job) {
    cpu_arena arena = job->arena;
    cpu_arena_reset(&arena);
    *job = (cpu_job){.arena = arena};
}

void cpu_job_fail(cpu_job *job, uint32_t code, const char *text) {
    if (cpu_load(&job->error) != NULL) return;
    job->error_code = code;
    cpu_store(&job->error, text);
}

cpu_phase *cpu_job_add_phase(cpu_job *job, cpu_phase_kind kind) {
    cpu_phase *phase = cpu_arena_take(&job->arena, sizeof *phase);
    if (phase == NULL) return NULL;
    *phase = (cpu_phase){.kind = kind};
    if (job->last != NULL) job->last->next = phase;
    else job->first = phase;
    job->last = phase;
    return phase;
}

static void plan_phase(cpu_phase *phase, uint32_t threads) {
    uint32_t dispatches = 0;
    phase->indirect = false;
    for (cpu_dispatch *d = phase->first; d != NULL; d = d->next) {
        dispatches++;
        if (d->indirect != NULL) phase->indirect = true;
    }
    uint32_t target = threads == 1 ? 1 : threads * UNITS_PER_THREAD / (dispatches == 0 ? 1 : dispatches);
    if (target == 0) target = 1;
    uint64_t units = 0;
    for (cpu_dispatch *d = phase->first; d != NULL; d = d->next) {
        d->unit = d->total <= target ? 1 : (d->total - 1) / target + 1;
        d->units = d->total == 0 ? 0 : (d->total - 1) / d->unit + 1;
        units += d->units;
    }
    phase->units = (uint32_t)units;
}

void cpu_job_plan(cpu_job *job, uint32_t threads) {
    for (cpu_phase *phase = job->first; phase != NULL; phase = phase->next) plan_phase(phase, threads);
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
    plan_phase(phase, threads);
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

void cpu_phase_run(const cpu_phase *phase, uint32_t first, uint32_t count, char *scratch) {
    // A phase that is watched runs on one thread; its first unit begins it.
    if (first == 0 && phase->first != NULL && phase->first->watched != NULL) checker_begin(phase->first);
    for (const cpu_dispatch *d = phase->first; d != NULL && count > 0; d = d->next) {
        if (first >= d->units) {
            first -= d->units;
            continue;
        }
        uint32_t take = d->units - first < count ? d->units - first : count;
        uint64_t begin = (uint64_t)first * d->unit;
        uint64_t end = begin + (uint64_t)take * d->unit;
        if (end > d->total) end = d->total;
        run_threadgroups(d, (uint32_t)begin, (uint32_t)(end - begin), scratch);
        first = 0;
        count -= take;
    }
}
