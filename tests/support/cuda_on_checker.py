"""The headers for NVRTC on the checker's engine: a warp's instructions are played by the lanes of a simdgroup."""

import re
import shutil

from pipeline.metalc import toolchain

# A warp's shuffles and votes. Lanes that a mask names but that do not take part are found as inactive.
_INSTRUCTIONS = """
#include <string.h>
#include <math.h>
#define WARP_HERE const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()
#define WARP __attribute__((noinline, no_sanitize("thread", "undefined"))) inline

template <typename T>
struct warp_values {
    const T *at;
    unsigned active, own;
    WARP warp_values(unsigned mask, const T &value, unsigned kind, const char *file, unsigned line) {
        at = static_cast<const T *>(metallib_checker_calls->simdgroup(kind, &value, sizeof(T), &active, {file, line}));
        own = metallib_checker_calls->lane();
        for (unsigned lane = 0; lane < 32; lane++)
            if (mask >> lane & 1 && !(active >> lane & 1)) metallib_checker_calls->inactive_lane(lane, {file, line});
    }
};
WARP unsigned __activemask(WARP_HERE) { return warp_values<unsigned>(0, 0, 101, file, line).active; }
WARP int __ffs(int x) { return __builtin_ffs(x); }

template <typename T, typename F>
WARP T warp_take(unsigned mask, T v, const char *file, unsigned line, F from) {
    warp_values<T> all(mask, v, 102, file, line);
    unsigned lane = from(all.own);
    if (!(mask >> lane & 1)) metallib_checker_calls->inactive_lane(lane, {file, line});
    return mask >> lane & 1 ? all.at[lane] : v;
}
template <typename T>
WARP T __shfl_sync(unsigned mask, T v, int from, int width = 32, WARP_HERE) {
    return warp_take(mask, v, file, line, [=](unsigned own) { return own / width * width + unsigned(from) % width; });
}
template <typename T>
WARP T __shfl_xor_sync(unsigned mask, T v, int other, int width = 32, WARP_HERE) {
    return warp_take(mask, v, file, line, [=](unsigned own) {
        return (own ^ other) / width > own / width ? own : (own ^ unsigned(other)) % 32;
    });
}
template <typename T>
WARP T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, WARP_HERE) {
    return warp_take(mask, v, file, line, [=](unsigned own) { return own % width < delta ? own : own - delta; });
}
template <typename T>
WARP T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, WARP_HERE) {
    return warp_take(mask, v, file, line,
                     [=](unsigned own) { return own % width + delta >= width ? own : own + delta; });
}
template <typename T, typename F>
WARP T warp_reduce(unsigned mask, T v, const char *file, unsigned line, F f) {
    warp_values<T> all(mask, v, 103, file, line);
    T result = v;
    for (unsigned lane = 0; lane < 32; lane++)
        if (lane != all.own && mask >> lane & 1) result = f(result, all.at[lane]);
    return result;
}
#define WARP_REDUCE(name, expression)                                                                        \\
    template <typename T>                                                                                    \\
    WARP T __reduce_##name##_sync(unsigned mask, T v, WARP_HERE) {                                           \\
        return warp_reduce(mask, v, file, line, [](T a, T b) { return T(expression); });                     \\
    }
WARP_REDUCE(add, unsigned(a) + unsigned(b))
WARP_REDUCE(min, a < b ? a : b)
WARP_REDUCE(max, a > b ? a : b)
WARP_REDUCE(and, a &b)
WARP_REDUCE(or, a | b)
WARP_REDUCE(xor, a ^ b)
WARP unsigned __ballot_sync(unsigned mask, int v, WARP_HERE) {
    warp_values<int> all(mask, v, 104, file, line);
    unsigned bits = 0;
    for (unsigned lane = 0; lane < 32; lane++) bits |= unsigned(mask >> lane & 1 && all.at[lane]) << lane;
    return bits;
}
WARP int __all_sync(unsigned mask, int v, WARP_HERE) { return __ballot_sync(mask, v, file, line) == mask; }
WARP int __any_sync(unsigned mask, int v, WARP_HERE) { return __ballot_sync(mask, v, file, line) != 0; }

// Products of 8 x 8: NVIDIA's manual says which lane has which elements.
template <typename T, typename S>
WARP void warp_product(S &x, S &y, T a, T b, S c, S d, WARP_HERE) {
    constexpr unsigned count = sizeof(T) / sizeof(a[0]), depth = 4 * count;
    struct both { T a, b; };
    warp_values<both> all(~0u, both{a, b}, 105, file, line);
    unsigned row = all.own / 4;
    S sums[2] = {c, d};
    for (unsigned e = 0; e < 2; e++)
        for (unsigned k = 0; k < depth; k++)
            sums[e] += S(all.at[row * 4 + k / count].a[k % count]) *
                       S(all.at[(all.own % 4 * 2 + e) * 4 + k / count].b[k % count]);
    x = sums[0];
    y = sums[1];
}
template <typename T>
struct warp_one {
    T v;
    WARP T operator[](int) const { return v; }
};
"""

_LANE = "return metallib_checker_calls->lane();"
_DOUBLE = "::warp_product(d.x, d.y, ::warp_one<double>{a}, ::warp_one<double>{b}, c.x, c.y);"
_REPLACED = {
    "metal_simdgroup": [(r'uint lane;\n    asm\("mov.*?;"[^;]*;\n    return lane;', _LANE)],
    "metal_simdgroup_matrix": [
        (r'asm\("mma\S*m16n8k8[^;]*;"[^;]*;', "::warp_product(d.x, d.y, a, b, c.x, c.y);"),
        (r'asm\("mma\S*m8n8k4[^;]*;"[^;]*;', _DOUBLE),
    ],
}


def headers(folder):
    """Makes the folder that stands in the place of the checker's."""
    shutil.copytree(toolchain.checker_dir(), folder)
    system = (toolchain.stdlib_dir() / "metal_system").read_text()
    (folder / "metal_system").write_text(system + _INSTRUCTIONS)
    for name, changes in _REPLACED.items():
        text = (toolchain.cuda_dir() / name).read_text()
        for pattern, replacement in changes:
            text, count = re.subn(pattern, lambda found, to=replacement: to, text)
            assert count, (name, pattern)
        (folder / name).write_text(text)
    return folder
