// Finished products on their way to memory, as in shaders/epilogue.h, eight outputs at a time.
#ifndef OB_NATIVE_EPILOGUE_H
#define OB_NATIVE_EPILOGUE_H

#include "packed.h"
#include "tile.h"

namespace OB_NAMESPACE {

// A bias, stored as `type` says.
struct Bias {
    const void *data;
    uint32_t type;

    // Elements i to i + 7.
    __m256 at(size_t i) const {
        if (type == OB_STORED_F32) return widen((const float *)data + i);
        if (type == OB_STORED_F16) return widen((const half *)data + i);
        return widen((const bfloat *)data + i);
    }

    __m256 add(__m256 x, size_t i) const { return type == OB_NOT_STORED ? x : _mm256_add_ps(x, at(i)); }

    // That of one of several matrices with `outputs` rows.
    Bias matrix(size_t index, size_t outputs) const {
        size_t size = type == OB_STORED_F32 ? 4 : 2;
        return {(const char *)data + (type == OB_NOT_STORED ? 0 : index * outputs * size), type};
    }
};

// The product of gate and up where it is not silu(gate) · up.
static __attribute__((noinline)) __m256 activate_otherwise(__m256 gate, __m256 up, uint32_t activation) {
    if (activation == OB_GELU_TANH) {
        __m256 cube = _mm256_mul_ps(_mm256_mul_ps(gate, gate), gate);
        __m256 u = _mm256_fmadd_ps(_mm256_set1_ps(0.044715f), cube, gate);
        return _mm256_mul_ps(gated(gate, _mm256_mul_ps(_mm256_set1_ps(1.5957691216057308f), u)), up);
    }
    if (activation == OB_GATE_ALONE) return gate;
    if (activation == OB_RELU)  // NaN stays: it is not below 0
        return _mm256_andnot_ps(_mm256_cmp_ps(gate, _mm256_setzero_ps(), _CMP_LT_OQ), _mm256_mul_ps(gate, up));
    const __m256 limit = _mm256_set1_ps(OB_SWIGLU_LIMIT);
    gate = _mm256_min_ps(limit, gate);  // NaN stays: it is the second
    up = _mm256_max_ps(_mm256_set1_ps(-OB_SWIGLU_LIMIT), _mm256_min_ps(limit, up));
    return _mm256_mul_ps(gated(gate, _mm256_mul_ps(_mm256_set1_ps(OB_SWIGLU_ALPHA), gate)),
                         _mm256_add_ps(up, _mm256_set1_ps(1.0f)));
}

OB_INLINE __m256 activate(__m256 gate, __m256 up, uint32_t activation) {
    if (activation != OB_SILU) return activate_otherwise(gate, up, activation);
    return _mm256_mul_ps(gated(gate, gate), up);
}

// tanh(x): an odd polynomial near zero (Cephes), 1 - 2 / (e^2|x| + 1) elsewhere.
static __attribute__((noinline)) __m256 tanh(__m256 x) {
    const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
    __m256 size = _mm256_andnot_ps(sign, x), z = _mm256_mul_ps(x, x);
    __m256 p = _mm256_set1_ps(-5.70498872745e-3f);
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(2.06390887954e-2f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-5.37397155531e-2f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(1.33314422036e-1f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-3.33332819422e-1f));
    __m256 near = _mm256_fmadd_ps(_mm256_mul_ps(p, z), x, x);
    __m256 e = exp(_mm256_add_ps(size, size));
    __m256 far = _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(e, one)));
    far = _mm256_or_ps(far, _mm256_and_ps(sign, x));
    return _mm256_blendv_ps(near, far, _mm256_cmp_ps(size, _mm256_set1_ps(0.625f), _CMP_GT_OQ));
}

// Where the products of a projection go.
struct Output {
    float *y;
    Bias bias;
    const float *add, *gate;
    uint32_t outputs;
    float scale, softcap;

    // Whether products are written as they are.
    bool plain() const { return bias.type == OB_NOT_STORED && !add && !gate && scale == 1 && softcap == 0; }

    __m256 finish(__m256 v, uint32_t row, uint32_t output) const {
        v = bias.add(v, output);
        if (gate) v = gated(v, _mm256_set1_ps(gate[row]));
        __m256 last = _mm256_set1_ps(scale);
        if (softcap > 0) {
            v = _mm256_mul_ps(v, last);
            __m256 lost =
                _mm256_mul_ps(v, _mm256_setzero_ps());  // NaN where v is ±inf, which capped looks like a number
            v = _mm256_add_ps(tanh(_mm256_div_ps(v, _mm256_set1_ps(softcap))), lost);
            last = _mm256_set1_ps(softcap);
        }
        if (add) return _mm256_fmadd_ps(v, last, _mm256_loadu_ps(add + (size_t)row * outputs + output));
        return _mm256_mul_ps(v, last);
    }

    // A row's part of a tile.
    void store(const Tile &tile, uint32_t row, float lanes[TILE]) const {
        for (int h = 0; h < 2 && !plain(); h++) {
            if (tile.count[h] == 0) continue;
            _mm256_storeu_ps(lanes + 8 * h, finish(_mm256_loadu_ps(lanes + 8 * h), row, tile.first[h]));
        }
        tile.store(y + (size_t)row * outputs, lanes);
    }
};

}  // namespace OB_NAMESPACE

#endif
