#include "CPUSchedule.h"

#include <stddef.h>

// A thread takes half of what it has left at a time, so that a phase ends with small pieces. A piece
// is worth UNIT_NS at least: kernels that prepare their input do so for each.
enum {
    UNIT_NS = 3000,
    MOST_UNITS = 32,             // of a thread
    UNKNOWN_UNITS = 8,           // of a thread, where the cost is not known
    MIXED_UNITS = 4,             // of a thread, at least, where dispatches share a phase
    ALONE_NS = 400,              // a phase of less is not shared: that costs half as much
    DOUBTFUL_NS = 4 * ALONE_NS,  // of less, what it costs unshared is measured too
};

static cpu_dispatch *first_of(const cpu_phase *phase) { return (cpu_dispatch *)phase->recorded.first; }
static cpu_dispatch *next_of(const cpu_dispatch *dispatch) { return (cpu_dispatch *)dispatch->recorded.next; }

typedef struct {
    double cost;  // in units of cpu_cost_read; 0: not known
    uint32_t dispatches;
    uint32_t noted;  // how often, at least
} phase_cost;

static phase_cost cost_of(const cpu_phase *phase) {
    phase_cost result = {.noted = UINT32_MAX};
    bool known = true;
    for (const cpu_dispatch *d = first_of(phase); d != NULL; d = next_of(d)) {
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
    for (cpu_dispatch *d = first_of(phase); d != NULL; d = next_of(d)) {
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

static uint32_t threadgroups_of(const obm_dispatch *d) {
    return d->launch.threadgroups[0] * d->launch.threadgroups[1] * d->launch.threadgroups[2];
}

// A dispatch is known again by its code and by the addresses that are bound to it.
static void prepare(cpu_dispatch *d, cpu_costs *costs) {
    const obm_kernel *kernel = d->recorded.kernel;
    d->code = *(const cpu_code *)kernel->code;
    d->total = d->recorded.indirect != NULL ? 0 : threadgroups_of(&d->recorded);
    uint64_t key = (uintptr_t)d->code.entry;
    for (uint32_t i = 0; i < kernel->argument_count; i++)
        key = cpu_cost_mix(key, d->recorded.launch.buffers[kernel->arguments[i].index]);
    d->cost = cpu_cost_find(costs, key);
    cpu_cost_place(&d->cost);
}

// Blits are dispatches of pieces

enum { PIECE = 256 * 1024 };

static void run_pieces(const metallib_launch *launch, uint32_t first, uint32_t count) {
    const obm_blit *blit = launch->buffers[0];
    size_t start = (size_t)first * PIECE, size = (size_t)count * PIECE;
    obm_blit_run(blit, start, size < blit->size - start ? size : blit->size - start);
}

static void prepare_blit(obm_recording *recording, obm_phase *phase) {
    static const obm_kernel none;
    struct {
        cpu_dispatch dispatch;
        const void *buffers[1];
    } *pieces = obm_arena_take(&recording->arena, sizeof *pieces);
    if (pieces == NULL) {
        obm_recording_fail_for_memory(recording);
        return;
    }
    pieces->buffers[0] = phase->blit;
    pieces->dispatch = (cpu_dispatch){.recorded.kernel = &none,
                                      .recorded.launch.buffers = (void *const *)pieces->buffers,
                                      .code.entry = run_pieces,
                                      .total = (uint32_t)((phase->blit->size + PIECE - 1) / PIECE)};
    obm_phase_append(phase, &pieces->dispatch.recorded);
}

void cpu_plan(obm_recording *recording, cpu_costs *costs, uint32_t threads, bool measured) {
    for (obm_phase *phase = recording->first; phase != NULL; phase = phase->next) {
        if (phase->kind == OBM_PHASE_BLIT) {
            if (phase->first == NULL) prepare_blit(recording, phase);
        } else {
            for (obm_dispatch *d = phase->first; d != NULL; d = d->next) prepare((cpu_dispatch *)d, costs);
        }
        plan_phase((cpu_phase *)phase, threads, measured);
    }
}

void cpu_plan_resolved(cpu_phase *phase, uint32_t threads) {
    for (cpu_dispatch *d = first_of(phase); d != NULL; d = next_of(d)) {
        if (d->recorded.indirect != NULL) d->total = threadgroups_of(&d->recorded);
    }
    plan_phase(phase, threads, phase->measured);
}

static void run_threadgroups(const cpu_dispatch *d, uint32_t first, uint32_t count, char *scratch) {
    const metallib_launch *recorded = &d->recorded.launch;
    uint32_t slots = d->recorded.kernel->threadgroup_slots;
    if (d->code.native != NULL) {
        d->code.native(recorded, first, count, scratch, d->code.entry);
        return;
    }
    if (slots == 0) {
        d->code.entry(recorded, first, count);
        return;
    }
    void *memory[METALLIB_MAX_THREADGROUP];
    for (uint32_t i = 0; i < slots; i++) {
        memory[i] = scratch;
        scratch += d->recorded.threadgroup_lengths[i];
    }
    metallib_launch launch = *recorded;
    launch.threadgroup = memory;
    d->code.entry(&launch, first, count);
}

// The threadgroup that a unit starts with.
static uint32_t unit_start(const cpu_dispatch *d, uint32_t unit) {
    if (d->units == d->total || unit == 0) return unit;
    return unit == d->units ? d->total : (uint32_t)((uint64_t)d->total * unit / d->units);
}

void cpu_phase_run(const cpu_phase *phase, uint32_t first, uint32_t count, char *scratch) {
    for (const cpu_dispatch *d = first_of(phase); d != NULL && count > 0; d = next_of(d)) {
        if (first >= d->units) {
            first -= d->units;
            continue;
        }
        uint32_t take = d->units - first < count ? d->units - first : count;
        uint32_t begin = unit_start(d, first), end = unit_start(d, first + take);
        if (phase->measured && d->cost.entry != NULL) {
            uint64_t start = obm_nanoseconds();
            run_threadgroups(d, begin, end - begin, scratch);
            cpu_cost_note(d->cost, obm_nanoseconds() - start, end - begin, !phase->alone);
        } else {
            run_threadgroups(d, begin, end - begin, scratch);
        }
        first = 0;
        count -= take;
    }
}
