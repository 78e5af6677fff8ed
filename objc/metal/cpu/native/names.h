// How a source file of native kernels tells their names: OB_NATIVE_TABLE(family, rows of cpu_native).
#ifndef OB_NATIVE_NAMES_H
#define OB_NATIVE_NAMES_H

#include "vec.h"

// EACH(name of the format as in shaders/weights.h, matrix of it)
#define OB_NATIVE_WEIGHTS(EACH)            \
    EACH(q4_f32, Packed<4, float>)         \
    EACH(q4_f16, Packed<4, half>)          \
    EACH(q4_bf16, Packed<4, bfloat>)       \
    EACH(q8_f32, Packed<8, float>)         \
    EACH(q8_f16, Packed<8, half>)          \
    EACH(q8_bf16, Packed<8, bfloat>)       \
    EACH(mxfp4, Blocks<WordsMXFP4>)        \
    EACH(gguf_q4_0, Blocks<BlockQ4_0>)     \
    EACH(gguf_q4_1, Blocks<BlockQ4_1>)     \
    EACH(gguf_q5_0, Blocks<BlockQ5_0>)     \
    EACH(gguf_q5_1, Blocks<BlockQ5_1>)     \
    EACH(gguf_q8_0, Blocks<BlockQ8_0>)     \
    EACH(gguf_mxfp4, Blocks<BlockMXFP4>)   \
    EACH(gguf_q4_k, Blocks<BlockQ4_K>)     \
    EACH(gguf_q5_k, Blocks<BlockQ5_K>)     \
    EACH(gguf_q6_k, Blocks<BlockQ6_K>)     \
    EACH(gguf_iq4_nl, Blocks<BlockIQ4_NL>) \
    EACH(gguf_iq4_xs, Blocks<BlockIQ4_XS>) \
    EACH(gguf_q2_k, Blocks<BlockQ2_K>)     \
    EACH(gguf_q3_k, Blocks<BlockQ3_K>)     \
    EACH(gguf_iq3_s, Blocks<BlockIQ3_S>)   \
    EACH(gguf_iq2_s, Blocks<BlockIQ2_S>)

#define OB_NATIVE_TABLE(family, ...)                         \
    static const cpu_native family##_rows[] = {__VA_ARGS__}; \
    extern const cpu_native_table family##_table;            \
    const cpu_native_table family##_table = {family##_rows, sizeof family##_rows / sizeof family##_rows[0]};

#endif
