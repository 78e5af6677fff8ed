// A shader library written by hand, as the shader compiler would write one: the kernels that the
// tests of the Metal API run. Unlike compiled shaders they take threadgroups of many threads, so
// that sizes of both kinds can be seen. With ONE_THREAD an entry runs the thread that the launch
// names, as on devices that run kernels thread by thread; the others are as they are.
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "metal/abi/metallib.h"

typedef struct {
    uint32_t x, y, z;
} position;

#ifdef ONE_THREAD
// The threadgroup that the thread is of, numbered x fastest.
static uint32_t own_threadgroup(const metallib_launch *l) {
    const uint32_t *at = l->thread->threadgroup;
    return at[0] + l->threadgroups[0] * (at[1] + l->threadgroups[1] * at[2]);
}
#define RANGE(l, first, count) ((count) = 1, (first) = own_threadgroup(l), (void)(first), (void)(count))

// Calls body(id) for the thread.
#define FOR_EACH_THREAD(l, first, count, body)                                                                 \
    {                                                                                                          \
        position id = {l->thread->grid[0], l->thread->grid[1], l->thread->grid[2]};                            \
        body                                                                                                   \
    }
#else
#define RANGE(l, first, count) (void)(l), (void)(first), (void)(count)

// Calls body(id) for each thread inside the grid: id is the thread's position.
#define FOR_EACH_THREAD(l, first, count, body)                                                                 \
    for (uint32_t index = first; index < first + count; index++) {                                             \
        position tg = {index % l->threadgroups[0], index / l->threadgroups[0] % l->threadgroups[1],            \
                       index / l->threadgroups[0] / l->threadgroups[1]};                                       \
        for (uint32_t tz = 0; tz < l->threads[2]; tz++)                                                        \
            for (uint32_t ty = 0; ty < l->threads[1]; ty++)                                                    \
                for (uint32_t tx = 0; tx < l->threads[0]; tx++) {                                              \
                    position id = {tg.x * l->threads[0] + tx, tg.y * l->threads[1] + ty,                       \
                                   tg.z * l->threads[2] + tz};                                                 \
                    if (id.x >= l->grid[0] || id.y >= l->grid[1] || id.z >= l->grid[2]) continue;              \
                    body                                                                                       \
                }                                                                                              \
    }
#endif

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// c[i] = a[i] + b[i] for i below n; the grid may be larger.
static void add(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    const float *a = l->buffers[0], *b = l->buffers[1];
    float *c = l->buffers[2];
    uint32_t n = *(const uint32_t *)l->buffers[3];
    FOR_EACH_THREAD(l, first, count, {
        if (id.x < n) c[id.x] = a[id.x] + b[id.x];
    })
}

// counts[linear position in the grid] += 1: each thread of a grid must come once.
static void visit(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    uint32_t *counts = l->buffers[0];
    FOR_EACH_THREAD(l, first, count, { counts[id.x + l->grid[0] * (id.y + l->grid[1] * id.z)] += 1; })
}

// to[0][i] = from[i] + value, to[1][i] = from[i] - value, where i is the threadgroup.
typedef struct {
    const uint32_t *from;
    uint32_t *to[2];
    uint32_t value;
} pointers;

static void visit_pointers(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    const pointers *all = l->buffers[0];
    for (uint32_t i = first; i < first + count; i++) {
        all->to[0][i] = all->from[i] + all->value;
        all->to[1][i] = all->from[i] - all->value;
    }
}

// sizes[0..8] = threadgroups, threads per threadgroup and threads of the grid, as the kernel sees them.
static void sizes(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    uint32_t *out = l->buffers[0];
    if (first != 0) return;
    memcpy(out, l->threadgroups, 12);
    memcpy(out + 3, l->threads, 12);
    memcpy(out + 6, l->grid, 12);
}

// to[i] = from[i] + step, where i is the threadgroup.
static void step(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    const uint32_t *from = l->buffers[0];
    uint32_t *to = l->buffers[1];
    uint32_t value = *(const uint32_t *)l->buffers[2];
    for (uint32_t i = first; i < first + count; i++) to[i] = from[i] + value;
}

// sums[0] += the sum of values[0..n), by the threadgroup 0.
static void total(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    const uint32_t *values = l->buffers[0];
    uint32_t *sums = l->buffers[1];
    uint32_t n = *(const uint32_t *)l->buffers[2];
    for (uint32_t i = 0; first == 0 && i < n; i++) sums[0] += values[i];
}

// Raises flags[mine] and waits up to a quarter of a second for flags[other]: met[mine] = 1 if both
// were there at the same time. Only threadgroups that overlap can meet.
static void meet(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    atomic_uint *flags = l->buffers[0];
    uint32_t *met = l->buffers[1];
    uint32_t pair = *(const uint32_t *)l->buffers[2];
    atomic_store(&flags[pair], 1);
    double end = seconds() + 0.25;
    while (atomic_load(&flags[pair ^ 1]) == 0 && seconds() < end) continue;
    met[pair] = atomic_load(&flags[pair ^ 1]);
}

// Keeps one thread busy for microseconds[0], then done[threadgroup] = 1.
static void spin(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    uint32_t *done = l->buffers[0];
    uint32_t microseconds = *(const uint32_t *)l->buffers[1];
    for (uint32_t i = first; i < first + count; i++) {
        double end = seconds() + microseconds * 1e-6;
        while (seconds() < end) continue;
        done[i] = 1;
    }
}

// Fills its threadgroup memory with the threadgroup's number, works for a while, and reports
// wrong[i] = bytes that another threadgroup changed meanwhile.
static void stash(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    uint32_t *wrong = l->buffers[0];
    const uint32_t *lengths = l->buffers[1];
    for (uint32_t i = first; i < first + count; i++) {
        uint8_t *s = l->threadgroup[0], *t = l->threadgroup[2];
        memset(s, (int)(i & 0xff), lengths[0]);
        memset(t, (int)(~i & 0xff), lengths[1]);
        double end = seconds() + 5e-6;
        while (seconds() < end) continue;
        wrong[i] = 0;
        for (uint32_t j = 0; j < lengths[0]; j++) wrong[i] += s[j] != (i & 0xff);
        for (uint32_t j = 0; j < lengths[1]; j++) wrong[i] += t[j] != (~i & 0xff);
        wrong[i] += ((uintptr_t)s & 15) != 0 || ((uintptr_t)t & 15) != 0;
    }
}

// Writes the three counts of an indirect dispatch.
static void plan(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    uint32_t *counts = l->buffers[0];
    const uint32_t *wanted = l->buffers[1];
    if (first == 0) memcpy(counts, wanted, 12);
}

// Does nothing to eight buffers: what an encoder pays for the bindings of a usual kernel.
static void nothing(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
}

// last[0] = value, through the highest index there is.
static void last(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    *(uint32_t *)l->buffers[30] = *(const uint32_t *)l->buffers[29];
}

enum { UINT = 33, FLOAT = 3, FLOAT4 = 6, STRUCT = 1, POINTER = 60, UCHAR = 49, HALF = 16 };

typedef struct {
    uint32_t rows;
    float scale;
    uint16_t halves[4];
    float color[4] __attribute__((aligned(16)));
} arguments;

// out[0..3] = color * scale, of a struct argument.
static void paint(const metallib_launch *l, uint32_t first, uint32_t count) {
    RANGE(l, first, count);
    float *out = l->buffers[0];
    const arguments *args = l->buffers[1];
    for (int i = 0; i < 4; i++) out[i] = args->color[i] * args->scale;
}

static const metallib_member argument_members[] = {
    {"rows", offsetof(arguments, rows), UINT, 1},
    {"scale", offsetof(arguments, scale), FLOAT, 1},
    {"halves", offsetof(arguments, halves), HALF, 4},
    {"color", offsetof(arguments, color), FLOAT4, 1},
};

#define READS(name, index, type, size)                                                                         \
    {name, METALLIB_BUFFER, index, METALLIB_READ, 0, 0, type, size, size, 0, NULL, 0}
#define EARLY(name, index, type, size)                                                                         \
    {name, METALLIB_BUFFER, index, METALLIB_READ, 0, 0, type, size, size, 0, NULL, 1}
#define WRITES(name, index, type, size)                                                                        \
    {name, METALLIB_BUFFER, index, METALLIB_READ_WRITE, 0, 0, type, size, size, 0, NULL, 0}
#define CONSTANT(name, index, type, size)                                                                      \
    {name, METALLIB_BUFFER, index, METALLIB_READ, 1, 1, type, size, size, 0, NULL, 0}
#define THREADGROUP(name, index, type, size)                                                                   \
    {name, METALLIB_THREADGROUP, index, METALLIB_READ_WRITE, 0, 0, type, size, size, 0, NULL, 0}

static const metallib_argument add_arguments[] = {READS("a", 0, FLOAT, 4), READS("b", 1, FLOAT, 4),
                                                  WRITES("c", 2, FLOAT, 4), CONSTANT("n", 3, UINT, 4)};
static const metallib_argument last_arguments[] = {CONSTANT("value", 29, UINT, 4), WRITES("last", 30, UINT, 4)};
static const metallib_argument meet_arguments[] = {WRITES("flags", 0, UINT, 4), WRITES("met", 1, UINT, 4),
                                                   CONSTANT("pair", 2, UINT, 4)};
static const metallib_argument nothing_arguments[] = {
    READS("a", 0, FLOAT, 4), READS("b", 1, FLOAT, 4), READS("c", 2, FLOAT, 4), READS("d", 3, FLOAT, 4),
    READS("e", 4, FLOAT, 4), READS("f", 5, FLOAT, 4), READS("g", 6, FLOAT, 4), WRITES("h", 7, FLOAT, 4)};
static const metallib_argument paint_arguments[] = {
    {"out", METALLIB_BUFFER, 0, METALLIB_WRITE, 0, 0, FLOAT4, 16, 16, 0, NULL, 0},
    {"args", METALLIB_BUFFER, 1, METALLIB_READ, 1, 1, STRUCT, sizeof(arguments), _Alignof(arguments), 4,
     argument_members, 0}};
static const metallib_argument plan_arguments[] = {WRITES("counts", 0, UINT, 4), READS("wanted", 1, UINT, 4)};
static const metallib_argument sizes_arguments[] = {WRITES("sizes", 0, UINT, 4)};
static const metallib_argument spin_arguments[] = {WRITES("done", 0, UINT, 4),
                                                   CONSTANT("microseconds", 1, UINT, 4)};
static const metallib_argument stash_arguments[] = {WRITES("wrong", 0, UINT, 4), READS("lengths", 1, UINT, 4),
                                                    THREADGROUP("s", 0, UCHAR, 1),
                                                    THREADGROUP("t", 2, UCHAR, 1)};
static const metallib_argument step_arguments[] = {READS("from", 0, UINT, 4), WRITES("to", 1, UINT, 4),
                                                   CONSTANT("value", 2, UINT, 4)};
static const metallib_argument total_arguments[] = {EARLY("values", 0, UINT, 4), WRITES("sums", 1, UINT, 4),
                                                    CONSTANT("n", 2, UINT, 4)};
static const metallib_argument visit_arguments[] = {WRITES("counts", 0, UINT, 4)};
static const metallib_member pointer_members[] = {{"from", offsetof(pointers, from), POINTER, 1},
                                                  {"to", offsetof(pointers, to), POINTER, 2},
                                                  {"value", offsetof(pointers, value), UINT, 1}};
static const metallib_argument visit_pointers_arguments[] = {{"all", METALLIB_BUFFER, 0, METALLIB_READ, 1, 1, STRUCT,
                                                              sizeof(pointers), _Alignof(pointers), 3,
                                                              pointer_members, 0}};
static const metallib_slot pointer_slots[] = {{0, 0, 0, METALLIB_READ, UINT, 4, 4},
                                              {0, 1, 1, METALLIB_READ_WRITE, UINT, 4, 4},
                                              {0, 2, 3, METALLIB_READ, UINT, 0, 0}};
static const metallib_slots pointer_table = {"visit_pointers", 3, pointer_slots};
const metallib_slots *const ob_metallib_slots[] = {&pointer_table, NULL};

#define FUNCTION(name, threads, width, length)                                                                 \
    {{#name, name##_arguments, sizeof name##_arguments / sizeof *name##_arguments, threads, width, length, NULL, 0}, name}

static const metallib_function functions[] = {
    FUNCTION(add, 64, 1, 0),    FUNCTION(last, 1, 1, 0), FUNCTION(meet, 1, 1, 0),   FUNCTION(nothing, 1, 1, 0),
    FUNCTION(paint, 1, 1, 0),   FUNCTION(plan, 1, 1, 0), FUNCTION(sizes, 64, 4, 0), FUNCTION(spin, 1, 1, 0),
    FUNCTION(stash, 1, 1, 256), FUNCTION(step, 1, 1, 0), FUNCTION(total, 1, 1, 0),  FUNCTION(visit, 64, 4, 0),
    FUNCTION(visit_pointers, 1, 1, 0),
};

#ifndef ABI
#define ABI METALLIB_ABI
#endif

const metallib ob_metallib = {ABI, sizeof functions / sizeof *functions, ISA, functions};

#ifdef CUDA
// For a driver that runs kernels of the host.
#include "metal/abi/metallib_cuda.h"

static const char *const units[] = {"library.cu"};

#define CUDA_FUNCTION(name, number) {#name, 0, number}

static const metallib_cuda_function cuda_functions[] = {
    CUDA_FUNCTION(add, 0),   CUDA_FUNCTION(last, 1),  CUDA_FUNCTION(meet, 2),  CUDA_FUNCTION(nothing, 3),
    CUDA_FUNCTION(paint, 4), CUDA_FUNCTION(plan, 5),  CUDA_FUNCTION(sizes, 6), CUDA_FUNCTION(spin, 7),
    CUDA_FUNCTION(stash, 8), CUDA_FUNCTION(step, 9),  CUDA_FUNCTION(total, 10), CUDA_FUNCTION(visit, 11),
    CUDA_FUNCTION(visit_pointers, 12),
};

const metallib_cuda ob_metallib_cuda = {ABI, 1, units, cuda_functions};
#endif
