// Matrices of columns.
#pragma once

namespace metal {

template <typename T, int C, int R = C>
struct matrix {
    static_assert(__is_same(T, float) || __is_same(T, half) || __is_same(T, bfloat),
                  "a matrix has elements of type half, bfloat or float");
    static_assert(C >= 2 && C <= 4 && R >= 2 && R <= 4, "a matrix has 2 to 4 columns and rows");
    vec<T, R> columns[C];
    matrix() = default;
    template <typename... A>
    constexpr matrix(A...) : columns() {}
    template <typename U, int D, int S, enable_if_t<D != C || S != R, int> = 0>
    matrix(matrix<U, D, S>) = delete;
    constexpr vec<T, R> operator[](int i) const __constant { return columns[i]; }
    const __private vec<T, R> &operator[](int) const __private;
    __private vec<T, R> &operator[](int) __private;
    const __generic vec<T, R> &operator[](int) const __generic;
    const __global vec<T, R> &operator[](int) const __global;
    __global vec<T, R> &operator[](int) __global;
    const __local vec<T, R> &operator[](int) const __local;
    __local vec<T, R> &operator[](int) __local;
    friend matrix operator+(matrix, matrix) { return {}; }
    friend matrix operator-(matrix, matrix) { return {}; }
    friend matrix operator-(matrix) { return {}; }
    friend matrix operator*(matrix, T) { return {}; }
    friend matrix operator*(T, matrix) { return {}; }
    friend bool operator==(matrix, matrix) { return true; }
    __private matrix &operator+=(matrix) __private;
    __private matrix &operator-=(matrix) __private;
    __private matrix &operator*=(T) __private;
};
template <typename T, int C, int R>
vec<T, R> operator*(matrix<T, C, R>, vec<T, C>);
template <typename T, int C, int R>
vec<T, C> operator*(vec<T, R>, matrix<T, C, R>);
template <typename T, int C, int R, int K>
matrix<T, K, R> operator*(matrix<T, C, R>, matrix<T, K, C>);
template <typename T, int C, int R>
matrix<T, R, C> transpose(matrix<T, C, R>);
template <typename T, int N>
T determinant(matrix<T, N, N>);
#define STRICT_MATRICES(T)          \
    typedef matrix<T, 2, 2> T##2x2; \
    typedef matrix<T, 2, 3> T##2x3; \
    typedef matrix<T, 2, 4> T##2x4; \
    typedef matrix<T, 3, 2> T##3x2; \
    typedef matrix<T, 3, 3> T##3x3; \
    typedef matrix<T, 3, 4> T##3x4; \
    typedef matrix<T, 4, 2> T##4x2; \
    typedef matrix<T, 4, 3> T##4x3; \
    typedef matrix<T, 4, 4> T##4x4;
STRICT_EVERY_FLOAT(STRICT_MATRICES)
STRICT_MATRICES(bfloat)
#undef STRICT_MATRICES

}  // namespace metal
#define STRICT_GLOBAL(T)                                                                                           \
    using metal::T##2x2, metal::T##2x3, metal::T##2x4, metal::T##3x2, metal::T##3x3, metal::T##3x4, metal::T##4x2, \
        metal::T##4x3, metal::T##4x4;
STRICT_EVERY_FLOAT(STRICT_GLOBAL)
#undef STRICT_GLOBAL
