// Integer functions, overloaded for every integer and its vectors.
#pragma once

namespace metal {

#define STRICT_INTEGERS(T, unused) \
    T popcount(T);                 \
    T clz(T);                      \
    T ctz(T);                      \
    T reverse_bits(T);             \
    T rotate(T, T);                \
    T mulhi(T, T);                 \
    T madhi(T, T, T);              \
    T madsat(T, T, T);             \
    T addsat(T, T);                \
    T subsat(T, T);                \
    T absdiff(T, T);               \
    T hadd(T, T);                  \
    T rhadd(T, T);                 \
    T extract_bits(T, uint, uint); \
    T insert_bits(T, T, uint, uint);
#define STRICT_OF(T) STRICT_WIDTHS(STRICT_INTEGERS, T, )
STRICT_EVERY_INTEGER(STRICT_OF)
#undef STRICT_OF
#undef STRICT_INTEGERS
int mul24(int, int);
uint mul24(uint, uint);
int mad24(int, int, int);
uint mad24(uint, uint, uint);

}  // namespace metal
