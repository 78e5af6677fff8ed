// The formats of weights that native kernels know, and how a kernel is named that is one function for all of them.
#ifndef OB_NATIVE_FORMAT_NAMES_H
#define OB_NATIVE_FORMAT_NAMES_H

#include "names.h"
#include "weights.h"

// EACH(name of the format as in shaders/weights.h). Tests that compile a part of them name it themselves.
#ifndef OB_NATIVE_WEIGHTS
#define OB_NATIVE_WEIGHTS(EACH) \
    EACH(q4_f32)                \
    EACH(q4_f16)                \
    EACH(q4_bf16)               \
    EACH(q8_f32)                \
    EACH(q8_f16)                \
    EACH(q8_bf16)               \
    EACH(mxfp4)                 \
    EACH(gguf_q4_0)             \
    EACH(gguf_q4_1)             \
    EACH(gguf_q5_0)             \
    EACH(gguf_q5_1)             \
    EACH(gguf_q8_0)             \
    EACH(gguf_mxfp4)            \
    EACH(gguf_q4_k)             \
    EACH(gguf_q5_k)             \
    EACH(gguf_q6_k)             \
    EACH(gguf_iq4_nl)           \
    EACH(gguf_iq4_xs)           \
    EACH(gguf_q2_k)             \
    EACH(gguf_q3_k)             \
    EACH(gguf_iq3_s)            \
    EACH(gguf_iq2_s)
#endif

namespace OB_NAMESPACE {

#define OB_DECLARE(name) extern const WeightFormat format_##name;
OB_NATIVE_WEIGHTS(OB_DECLARE)
#undef OB_DECLARE

// A kernel over weights of any format.
typedef void weights_kernel(const WeightFormat &format, const metallib_launch *launch, uint32_t first, uint32_t count,
                            void *scratch, metallib_entry shader);

// That kernel for one format, as a cpu_native_entry.
template <weights_kernel kernel, const WeightFormat &format>
static void of_format(const metallib_launch *launch, uint32_t first, uint32_t count, void *scratch,
                      metallib_entry shader) {
    kernel(format, launch, first, count, scratch, shader);
}

}  // namespace OB_NAMESPACE

#endif
