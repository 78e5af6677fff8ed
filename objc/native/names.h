// How a source file of native kernels tells their names: OB_NATIVE_TABLE(family, rows of cpu_native).
#ifndef OB_NATIVE_NAMES_H
#define OB_NATIVE_NAMES_H

#include "vec.h"

// X(name of the format, bits, type of its scales), as in shaders/weights.h.
#define OB_NATIVE_AFFINE(X) X(q4_f32, 4, float) X(q4_f16, 4, half) X(q4_bf16, 4, bfloat) \
    X(q8_f32, 8, float) X(q8_f16, 8, half) X(q8_bf16, 8, bfloat)

#define OB_NATIVE_TABLE(family, ...)                   \
    static const cpu_native family##_rows[] = {__VA_ARGS__}; \
    extern const cpu_native_table family##_table;      \
    const cpu_native_table family##_table = {family##_rows, sizeof family##_rows / sizeof family##_rows[0]};

#endif
