// A library for the checker written by hand, as the shader compiler would write one: each access is
// announced before it happens. Entries run one thread.
#include <stddef.h>

#include "metal/abi/metallib_checker.h"

__attribute__((visibility("default"))) const metallib_checker *metallib_checker_calls;

enum { FLOAT = 3, UINT = 33, DEVICE = 1, THREADGROUP_MEMORY = 2 };
#define HERE ((metallib_place){"checked.metal", __LINE__})

static float load(const float *from) {
    metallib_checker_calls->access(from, sizeof *from, METALLIB_ACCESS_READ, __builtin_return_address(0));
    return *from;
}

static void store(float *to, float value) {
    metallib_checker_calls->access(to, sizeof *to, METALLIB_ACCESS_WRITE, __builtin_return_address(0));
    *to = value;
}

// to[group] = Σ from[i] over the threadgroup, through memory of the threadgroup.
static void sum(const metallib_launch *l, int barrier) {
    const float *from = l->buffers[0];
    float *to = l->buffers[1];
    float *shared = metallib_checker_calls->variable("shared", 64 * sizeof(float), 4, (metallib_place){"checked.metal", 1});
    uint32_t i = l->thread->index, count = l->thread->size[0];
    store(shared + i, load(from + l->thread->grid[0]));
    if (barrier) metallib_checker_calls->threadgroup_barrier(THREADGROUP_MEMORY, HERE);
    if (i != 0) return;
    float all = 0;
    for (uint32_t k = 0; k < count; k++) all += load(shared + k);
    store(to + l->thread->threadgroup[0], all);
}

static void good(const metallib_launch *l, uint32_t first, uint32_t count) { sum(l, first + count); }
static void race(const metallib_launch *l, uint32_t first, uint32_t count) { sum(l, first + count - 1); }

// to[i] = from[i] + 1, one element too far.
static void outside(const metallib_launch *l, uint32_t first, uint32_t count) {
    uint32_t i = l->thread->grid[0] + first + count;
    store((float *)l->buffers[1] + i, load((const float *)l->buffers[0] + i) + 1);
}

// Each lane gives its number, all add them up.
static void lanes(const metallib_launch *l, uint32_t first, uint32_t count) {
    float own = (float)(l->thread->lane + first + count), all = 0;
    uint32_t active;
    const float *given = metallib_checker_calls->simdgroup(1, &own, sizeof own, &active, HERE);
    for (uint32_t k = 0; k < METALLIB_LANES; k++) all += active >> k & 1 ? given[k] : 0;
    store((float *)l->buffers[1] + l->thread->grid[0], all + load((const float *)l->buffers[0] + l->thread->grid[0]) * 0);
}

static const metallib_argument arguments[] = {
    {"from", METALLIB_BUFFER, 0, METALLIB_READ, 0, 0, FLOAT, 4, 4, 0, NULL, 0},
    {"to", METALLIB_BUFFER, 1, METALLIB_READ_WRITE, 0, 0, FLOAT, 4, 4, 0, NULL, 0},
};

#define FUNCTION(name) {{#name, arguments, 2, 1024, METALLIB_LANES, 0, NULL, 0}, name}
static const metallib_function functions[] = {FUNCTION(good), FUNCTION(lanes), FUNCTION(outside), FUNCTION(race)};

const metallib ob_metallib = {METALLIB_ABI, sizeof functions / sizeof *functions, "checker", functions};
