// How work is cut into pieces: by what it is known to cost, and right whatever that says.
#import "check.h"

#include "metal/cpu/CPUSchedule.h"

enum { MOST = 5000, MOST_DISPATCHES = 3 };

static uint32_t ran[MOST];  // how often each threadgroup

static void record(const metallib_launch *launch, uint32_t first, uint32_t count) {
    (void)launch;
    for (uint32_t i = first; i < first + count; i++) ran[i]++;
}

// A recording of one phase, whose dispatches have `totals` threadgroups that cost `nanoseconds` each; 0:
// nothing is known. They were measured often enough, in phases that threads shared or in others.
typedef struct {
    obm_recording recording;
    obm_kernel kernel;
    void *buffers[MOST_DISPATCHES];  // tells the dispatches apart
    cpu_costs costs;
    cpu_phase *phase;
} planned;

static cpu_phase *plan(planned *p, int count, const uint32_t *totals, const uint64_t *nanoseconds, uint32_t threads,
                       bool shared) {
    static const obm_executor executor = {.phase_size = sizeof(cpu_phase), .dispatch_size = sizeof(cpu_dispatch)};
    static const cpu_code code = {.entry = record};
    cpu_dispatch *dispatches[MOST_DISPATCHES];
    memset(&p->costs, 0, sizeof p->costs);
    p->kernel = (obm_kernel){.code = &code, .argument_count = 1};
    obm_recording_reset(&p->recording, &executor);
    p->phase = (cpu_phase *)obm_recording_add_phase(&p->recording, OBM_PHASE_DISPATCHES);
    for (int i = 0; i < count; i++) {
        dispatches[i] = obm_arena_take(&p->recording.arena, sizeof(cpu_dispatch));
        p->buffers[i] = &p->buffers[i];
        dispatches[i]->recorded = (obm_dispatch){
            .kernel = &p->kernel, .launch = {.buffers = &p->buffers[i], .threadgroups = {totals[i], 1, 1}}};
        obm_phase_append(&p->phase->recorded, &dispatches[i]->recorded);
    }
    cpu_plan(&p->recording, &p->costs, threads, false);
    for (int i = 0; i < count; i++) {
        for (int n = 0; n < 2 * CPU_COST_NOTES && nanoseconds[i] > 0; n++)
            cpu_cost_note(dispatches[i]->cost, nanoseconds[i] * 10, 10, shared);
    }
    cpu_plan(&p->recording, &p->costs, threads, false);
    return p->phase;
}

static cpu_phase *plan_one(planned *p, uint32_t total, uint64_t nanoseconds, uint32_t threads, bool shared) {
    return plan(p, 1, &total, &nanoseconds, threads, shared);
}

static void pieces(fixture *f) {
    planned *p = calloc(1, sizeof *p);
    CHECK_EQUAL(f, "without a cost, eight pieces a thread", plan_one(p, 1000, 0, 2, false)->units, 16);
    CHECK(f, "and it is measured", p->phase->measured && !p->phase->alone);
    CHECK_EQUAL(f, "but no more than there are threadgroups", plan_one(p, 3, 0, 2, false)->units, 3);
    CHECK(f, "of little cost: not shared", plan_one(p, 16, 20, 2, false)->alone && !p->phase->measured);
    CHECK_EQUAL(f, "worth a piece a thread: one each", plan_one(p, 16, 150, 2, false)->units, 2);
    CHECK(f, "which are equal", !p->phase->alone && p->phase->share == 1 && p->phase->rest == 0);
    CHECK_EQUAL(f, "more threads, more pieces", plan_one(p, 16, 900, 8, false)->units, 8);
    CHECK_EQUAL(f, "long: pieces small enough for a good end", plan_one(p, 1000, 1000, 2, false)->units, 64);
    CHECK_EQUAL(f, "few and long: a threadgroup each", plan_one(p, 9, 50000, 2, false)->units, 9);
    CHECK(f, "one thread shares nothing", plan_one(p, 1000, 1000, 1, false)->alone && !p->phase->measured);
    CHECK(f, "one threadgroup is not shared", plan_one(p, 1, 50000, 2, false)->alone);
    CHECK_EQUAL(f, "none has no piece", plan_one(p, 0, 0, 2, false)->units, 0);
    CHECK_EQUAL(f, "the largest numbers", plan_one(p, UINT32_MAX, UINT32_MAX, 1000, false)->units, 32000);

    CHECK(f, "in doubt, the cost of not sharing is measured",
          plan_one(p, 16, 50, 2, true)->alone && p->phase->measured);
    CHECK(f, "and when it is known, sharing goes by it", !plan_one(p, 16, 50, 2, false)->alone && !p->phase->measured);

    uint32_t totals[] = {100, 10, 400}, noted;
    uint64_t each[] = {1000, 30000, 1};
    CHECK(f, "dispatches share a phase's pieces by cost",
          plan(p, 3, totals, each, 2, false)->units == 16 + 10 + 1 && ((cpu_dispatch *)p->phase->recorded.first)->units == 16);
    each[1] = 0;
    CHECK_EQUAL(f, "and evenly where one's is not known", plan(p, 3, totals, each, 2, false)->units, 5 + 5 + 5);

    memset(&p->costs, 0, sizeof p->costs);
    cpu_cost cost = {&p->costs.entries[3], 9};
    CHECK(f, "a cost not noted is not known", cpu_cost_read(cost, &noted) == 0 && noted == 0);
    cpu_cost_note(cost, 1000, 10, true);
    uint32_t low = cpu_cost_read(cost, &noted);
    cpu_cost_note(cost, 9000, 10, true);
    uint32_t high = cpu_cost_read(cost, &noted);
    CHECK(f, "it rises at once", low == 100 * CPU_COST_NS + 1 && high == 900 * CPU_COST_NS + 1 && noted == 2);
    cpu_cost_note(cost, 1000, 10, true);
    CHECK(f, "and falls slowly", cpu_cost_read(cost, &noted) < high && cpu_cost_read(cost, &noted) > low);
    cpu_cost_note(cost, UINT64_MAX / CPU_COST_NS, 1, true);
    CHECK_EQUAL(f, "it has a limit", cpu_cost_read(cost, &noted), UINT32_MAX);
    CHECK_EQUAL(f, "another dispatch at its place is not known", cpu_cost_read((cpu_cost){cost.entry, 8}, &noted), 0);

    memset(&p->costs, 0, sizeof p->costs);
    BOOL apart = YES;
    cpu_cost same[CPU_COST_PLACES];
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < CPU_COST_PLACES; i++) {
            same[i] = (cpu_cost){p->costs.entries, 20 + i};
            cpu_cost_place(&same[i]);
            if (round == 0) cpu_cost_note(same[i], 1000 * i, 1, true);
            apart &= same[i].entry == p->costs.entries + i && cpu_cost_read(same[i], &noted) == 1000 * i * CPU_COST_NS + 1;
        }
    }
    CHECK(f, "dispatches of one place find entries of their own, and again", apart);
    cpu_cost more = {p->costs.entries, 50};
    cpu_cost_place(&more);
    CHECK(f, "or take the first one's when there is none", more.entry == p->costs.entries);
    obm_arena_free(&p->recording.arena);
    free(p);
}

// Runs the phase in pieces of one, two, three ... units.
static BOOL runsOnce(const cpu_phase *phase, uint32_t total) {
    char scratch[64];
    memset(ran, 0, sizeof ran);
    for (uint32_t first = 0, count = 1; first < phase->units; first += count++) {
        if (count > phase->units - first) count = phase->units - first;
        cpu_phase_run(phase, first, count, scratch);
    }
    for (uint32_t i = 0; i < MOST; i++) {
        if (ran[i] != (i < total)) return NO;
    }
    return YES;
}

static void everyThreadgroupOnce(fixture *f) {
    planned *p = calloc(1, sizeof *p);
    uint64_t costs[] = {0, 1, 40, 333, 20000};
    BOOL good = YES;
    for (uint32_t total = 1; total < MOST; total += 1 + total / 3) {
        for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
            for (uint32_t threads = 1; threads <= 7; threads += 2) {
                good &= runsOnce(plan_one(p, total, costs[i], threads, i % 2), total);
            }
        }
    }
    CHECK(f, "every threadgroup runs once, however it is cut", good);
    obm_arena_free(&p->recording.arena);
    free(p);
}

// The same dispatches again and again, while what they cost changes.
static void changingCosts(fixture *f) {
    enum { GROUPS = 23, RUNS = 90 };
    id<MTLComputePipelineState> spin = pipeline(f, @"spin"), step = pipeline(f, @"step"), total = pipeline(f, @"total");
    for (NSUInteger threads = 1; threads <= 4; threads++) {
        [(id<OBThreadedDevice>)f->device setWorkerThreadCount:threads];
        id<MTLBuffer> done = zeroes(f, GROUPS), values = zeroes(f, 300), zero = zeroes(f, 300), sums = zeroes(f, 1);
        uint32_t expected = 0;
        BOOL good = YES;
        for (uint32_t run = 0; run < RUNS; run++) {
            NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
            id<MTLCommandBuffer> commands = [f->queue commandBuffer];
            id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
            memset([done contents], 0, GROUPS * 4);
            encode_spin(encoder, spin, done, run % 30 < 20 ? 0 : 5, GROUPS);
            encode3(encoder, total, done, sums, GROUPS, 1);
            encode3(encoder, step, zero, values, run, 300);
            encode3(encoder, total, values, sums, 300, 1);
            [encoder endEncoding];
            expected += GROUPS + 300 * run;
            good &= finish(commands) && at(sums, 0) == expected;
            [pool drain];
        }
        CHECK(f, "costs that change", good);
    }
}

static void tests(fixture *f) {
    pieces(f);
    everyThreadgroupOnce(f);
    changingCosts(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
