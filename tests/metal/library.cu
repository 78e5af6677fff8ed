// The kernels of library.c for a GPU, by hand, in the form in which the shader compiler writes kernels: see
// metallib_cuda.h. The grid's edges are the kernel's to find.
typedef unsigned int uint;

struct launch {
    uint grid[3];
    uint threadgroup[8];
    uint number;
    uint *started;
};

#define KERNEL(number, name, ...) \
    extern "C" __global__ void __launch_bounds__(1024) name(__VA_ARGS__, const launch l)

__device__ inline uint threadgroup_index() {
    return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
}

__device__ inline bool inside(const launch &l, uint *id) {
    id[0] = blockIdx.x * blockDim.x + threadIdx.x;
    id[1] = blockIdx.y * blockDim.y + threadIdx.y;
    id[2] = blockIdx.z * blockDim.z + threadIdx.z;
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
    if (l.started != nullptr && threadgroup_index() == 0 && (threadIdx.x | threadIdx.y | threadIdx.z) == 0)
        *(volatile uint *)l.started = l.number;
    return id[0] < l.grid[0] && id[1] < l.grid[1] && id[2] < l.grid[2];
}

__device__ inline unsigned long long nanoseconds() {
    unsigned long long time;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time));
    return time;
}

#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 0
KERNEL(0, add, const float *a, const float *b, float *c, const uint *n) {
    uint id[3];
    if (inside(l, id) && id[0] < *n) c[id[0]] = a[id[0]] + b[id[0]];
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 1
KERNEL(1, last, const uint *value, uint *out) {
    uint id[3];
    if (inside(l, id)) *out = *value;
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 2
KERNEL(2, meet, volatile uint *flags, uint *met, const uint *pair) {
    uint id[3];
    if (!inside(l, id)) return;
    flags[*pair] = 1;
    __threadfence_system();
    unsigned long long end = nanoseconds() + 250000000ull;
    while (flags[*pair ^ 1] == 0 && nanoseconds() < end) continue;
    met[*pair] = flags[*pair ^ 1];
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 3
KERNEL(3, nothing, const float *a, const float *b, const float *c, const float *d, const float *e, const float *f,
       const float *g, float *h) {
    uint id[3];
    inside(l, id);
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 4
struct arguments {
    uint rows;
    float scale;
    unsigned short halves[4];
    alignas(16) float color[4];
};
KERNEL(4, paint, float *out, const arguments *args) {
    uint id[3];
    if (!inside(l, id)) return;
    for (int i = 0; i < 4; i++) out[i] = args->color[i] * args->scale;
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 5
KERNEL(5, plan, uint *counts, const uint *wanted) {
    uint id[3];
    if (inside(l, id) && threadgroup_index() == 0)
        for (int i = 0; i < 3; i++) counts[i] = wanted[i];
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 6
KERNEL(6, sizes, uint *out) {
    uint id[3];
    if (!inside(l, id) || threadgroup_index() != 0) return;
    const uint all[9] = {gridDim.x,  gridDim.y,  gridDim.z, blockDim.x, blockDim.y,
                         blockDim.z, l.grid[0], l.grid[1], l.grid[2]};
    for (int i = 0; i < 9; i++) out[i] = all[i];
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 7
KERNEL(7, spin, uint *done, const uint *microseconds) {
    uint id[3];
    if (!inside(l, id)) return;
    unsigned long long end = nanoseconds() + 1000ull * *microseconds;
    while (nanoseconds() < end) continue;
    done[threadgroup_index()] = 1;
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 8
KERNEL(8, stash, uint *wrong, const uint *lengths) {
    extern __shared__ __align__(16) unsigned char memory[];
    uint id[3];
    if (!inside(l, id)) return;
    uint i = threadgroup_index(), bad = 0;
    unsigned char *s = memory + l.threadgroup[0], *t = memory + l.threadgroup[2];
    for (uint j = 0; j < lengths[0]; j++) s[j] = i & 0xff;
    for (uint j = 0; j < lengths[1]; j++) t[j] = ~i & 0xff;
    unsigned long long end = nanoseconds() + 5000;
    while (nanoseconds() < end) continue;
    for (uint j = 0; j < lengths[0]; j++) bad += s[j] != (i & 0xff);
    for (uint j = 0; j < lengths[1]; j++) bad += t[j] != (~i & 0xff);
    wrong[i] = bad + (((unsigned long long)s & 15) != 0 || ((unsigned long long)t & 15) != 0);
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 9
KERNEL(9, step, const uint *from, uint *to, const uint *value) {
    uint id[3];
    if (inside(l, id)) to[threadgroup_index()] = from[threadgroup_index()] + *value;
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 10
KERNEL(10, total, const uint *values, uint *sums, const uint *n) {
    uint id[3];
    if (!inside(l, id) || threadgroup_index() != 0) return;
    for (uint i = 0; i < *n; i++) sums[0] += values[i];
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 11
KERNEL(11, visit, uint *counts) {
    uint id[3];
    if (inside(l, id)) counts[id[0] + l.grid[0] * (id[1] + l.grid[1] * id[2])] += 1;
}
#endif
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 12
struct pointers {
    const uint *from;
    uint *to[2];
    uint value;
};

KERNEL(12, visit_pointers, const pointers *all) {
    uint id[3], i = threadgroup_index();
    if (!inside(l, id)) return;
    all->to[0][i] = all->from[i] + all->value;
    all->to[1][i] = all->from[i] - all->value;
}
#endif
