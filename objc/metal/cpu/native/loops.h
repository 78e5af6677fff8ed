// The innermost loop of many rows for AVX2, in assembly: its twelve sums, two vectors of weights and two more
// fill the sixteen registers, and GCC 12 moves sums to memory and back instead.
#ifndef OB_NATIVE_LOOPS_H
#define OB_NATIVE_LOOPS_H

#include "matvec.h"

#if !OB_HAS_512

namespace OB_NAMESPACE {

// A row's pair at byte `at`, times sixteen rows of weights in w0 and w1.
#define OB_PAIR(at, low, high)               \
    "vpbroadcastd " at                       \
    "(%[x]), %%ymm12\n\t"                    \
    "vpmaddwd %%ymm12, %%ymm14, %%ymm13\n\t" \
    "vpmaddwd %%ymm12, %%ymm15, %%ymm12\n\t" \
    "vpaddd %%ymm13, %[" low "], %[" low     \
    "]\n\t"                                  \
    "vpaddd %%ymm12, %[" high "], %[" high "]\n\t"

#define OB_ROWS_1(at) OB_PAIR("0+" at, "s0", "s1")
#define OB_ROWS_2(at) OB_ROWS_1(at) OB_PAIR("128+" at, "s2", "s3")
#define OB_ROWS_3(at) OB_ROWS_2(at) OB_PAIR("256+" at, "s4", "s5")
#define OB_ROWS_4(at) OB_ROWS_3(at) OB_PAIR("384+" at, "s6", "s7")
#define OB_ROWS_5(at) OB_ROWS_4(at) OB_PAIR("512+" at, "s8", "s9")
#define OB_ROWS_6(at) OB_ROWS_5(at) OB_PAIR("640+" at, "s10", "s11")

#define OB_SUMS_1 [s0] "+x"(s[0][0]), [s1] "+x"(s[0][1])
#define OB_SUMS_2 OB_SUMS_1, [s2] "+x"(s[1][0]), [s3] "+x"(s[1][1])
#define OB_SUMS_3 OB_SUMS_2, [s4] "+x"(s[2][0]), [s5] "+x"(s[2][1])
#define OB_SUMS_4 OB_SUMS_3, [s6] "+x"(s[3][0]), [s7] "+x"(s[3][1])
#define OB_SUMS_5 OB_SUMS_4, [s8] "+x"(s[4][0]), [s9] "+x"(s[4][1])
#define OB_SUMS_6 OB_SUMS_5, [s10] "+x"(s[5][0]), [s11] "+x"(s[5][1])

// Loop<R>::run: s[row] += `pairs` pairs, an even number, of R rows that lie 128 bytes apart.
template <int R>
struct Loop;

#define OB_LOOP(R)                                                                                                \
    template <>                                                                                                   \
    struct Loop<R> {                                                                                              \
        OB_INLINE void run(__m256i s[R][2], const int32_t *w, const int32_t *x, size_t pairs) {                   \
            __asm__ volatile("1:\n\t"                                                                           \
                         "vmovdqa (%[w]), %%ymm14\n\t"                                                        \
                         "vmovdqa 32(%[w]), %%ymm15\n\t" OB_ROWS_##R("0")                                     \
                         "vmovdqa 64(%[w]), %%ymm14\n\t"                                                      \
                         "vmovdqa 96(%[w]), %%ymm15\n\t" OB_ROWS_##R("4")                                     \
                         "add $128, %[w]\n\t"                                                               \
                         "add $8, %[x]\n\t"                                                                 \
                         "sub $2, %[n]\n\t"                                                                 \
                         "jnz 1b"                                                                           \
                         : OB_SUMS_##R, [w] "+r"(w), [x] "+r"(x), [n] "+r"(pairs)                           \
                         :                                                                                  \
                         : "memory", "cc", "xmm12", "xmm13", "xmm14", "xmm15"); \
        }                                                                                                         \
    };

OB_LOOP(1)
OB_LOOP(2)
OB_LOOP(3)
OB_LOOP(4)
OB_LOOP(5)
OB_LOOP(6)

}  // namespace OB_NAMESPACE

#endif
#endif
