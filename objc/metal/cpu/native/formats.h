// The table of a format of weights, made of a type W of matrices: Packed (packed.h) or Blocks (blocks.h).
#ifndef OB_NATIVE_FORMATS_H
#define OB_NATIVE_FORMATS_H

#include "block_matmul.h"
#include "format_names.h"

namespace OB_NAMESPACE {

template <typename W>
struct FormatOf {
    static __m256 matvec_of(const Weights &w, uint32_t first, const Activations &x) { return matvec(W(w), first, x); }
    static void few_rows_of(const Weights &w, uint32_t first, const Activations &x, __m256 y[MOST_FEW]) {
        few_rows(W(w), first, x, y);
    }
    static void matmul_of(const Weights &w, const uint32_t first[2], const Activations &x, float (*y)[TILE]) {
        matmul(W(w), first, x, y);
    }

    static constexpr WeightFormat table = {W::BINDINGS, W::COLUMNS,  W::BYTES, W::SCALE_BYTES, W::BIAS_BYTES,
                                           W::group_of, W::fits,     W::few,   W::planes,      W::quantise,
                                           matvec_of,   few_rows_of, matmul_of};
};

#define OB_FORMAT(name, ...) const WeightFormat format_##name = FormatOf<__VA_ARGS__>::table;

}  // namespace OB_NAMESPACE

#endif
