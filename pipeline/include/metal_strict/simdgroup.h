// Simdgroup and quadgroup functions, and matrices of a simdgroup.
#pragma once

namespace strict {
// What lanes pass on: numbers of 8, 16 and 32 bits and their vectors, but no bool and no bfloat.
template <typename T>
struct has_bits : metal::is_integral<T> {};
template <typename T, int N>
struct has_bits<metal::vec<T, N>> : metal::is_integral<T> {};
template <typename T>
using if_lanes = metal::enable_if_t<metal::__is_valid_simdgroup_type<T>::value, int>;
template <typename T>
using if_lanes_of_bits = metal::enable_if_t<metal::__is_valid_simdgroup_type<T>::value && has_bits<T>::value, int>;
}  // namespace strict

namespace metal {

struct simd_vote {
    typedef uint64_t vote_t;
    simd_vote() = default;
    constexpr explicit simd_vote(vote_t) {}
    explicit operator vote_t() const;
    bool all() const;
    bool any() const;
};
struct quad_vote {
    typedef uint8_t vote_t;
    explicit operator vote_t() const;
    bool all() const;
    bool any() const;
};

#define STRICT_GROUP(g, vote)                              \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_sum(T);                                          \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_product(T);                                      \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_min(T);                                          \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_max(T);                                          \
    template <typename T, strict::if_lanes_of_bits<T> = 0> \
    T g##_and(T);                                          \
    template <typename T, strict::if_lanes_of_bits<T> = 0> \
    T g##_or(T);                                           \
    template <typename T, strict::if_lanes_of_bits<T> = 0> \
    T g##_xor(T);                                          \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_prefix_inclusive_sum(T);                         \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_prefix_inclusive_product(T);                     \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_prefix_exclusive_sum(T);                         \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_prefix_exclusive_product(T);                     \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_broadcast_first(T);                              \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_broadcast(T, ushort);                            \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle(T, ushort);                              \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle_xor(T, ushort);                          \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle_up(T, ushort);                           \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle_down(T, ushort);                         \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle_rotate_up(T, ushort);                    \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle_rotate_down(T, ushort);                  \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle_and_fill_up(T, T, ushort);               \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle_and_fill_up(T, T, ushort, ushort);       \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle_and_fill_down(T, T, ushort);             \
    template <typename T, strict::if_lanes<T> = 0>         \
    T g##_shuffle_and_fill_down(T, T, ushort, ushort);     \
    bool g##_all(bool);                                    \
    bool g##_any(bool);                                    \
    bool g##_is_first();                                   \
    bool g##_is_helper_thread();                           \
    vote g##_ballot(bool);                                 \
    vote g##_active_threads_mask();
STRICT_GROUP(simd, simd_vote)
STRICT_GROUP(quad, quad_vote)
#undef STRICT_GROUP

template <typename T, int C, int R = C>
struct simdgroup_matrix {
    static_assert(__is_same(T, float) || __is_same(T, half) || __is_same(T, bfloat),
                  "a simdgroup_matrix has elements of type half, bfloat or float");
    static_assert(C == 8 && R == 8, "a simdgroup_matrix has 8 columns and 8 rows");
    typedef vec<T, 2> storage_type;
    simdgroup_matrix() = default;
    template <typename U>
    constexpr explicit simdgroup_matrix(U) {}
    __private vec<T, 2> &thread_elements() const;
    vec<T, 2> hidden_;
};
#define STRICT_MATRIX_OPERATOR(op)      \
    template <typename T, int C, int R> \
    simdgroup_matrix<T, C, R> operator op(simdgroup_matrix<T, C, R>, simdgroup_matrix<T, C, R>);
STRICT_MATRIX_OPERATOR(+)
STRICT_MATRIX_OPERATOR(-)
STRICT_MATRIX_OPERATOR(*)
#undef STRICT_MATRIX_OPERATOR
#define STRICT_MATRIX_NAMES(T) typedef simdgroup_matrix<T, 8, 8> simdgroup_##T##8x8;
STRICT_EVERY_FLOAT(STRICT_MATRIX_NAMES)
STRICT_MATRIX_NAMES(bfloat)
#undef STRICT_MATRIX_NAMES
template <typename T, int C, int R = C>
simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(type_identity_t<T>);
#define STRICT_TRANSFER(A)                                                                                        \
    template <typename T, int C, int R>                                                                           \
    void simdgroup_load(__private simdgroup_matrix<T, C, R> &, const A T *, ulong = C, ulong2 = 0, bool = false); \
    template <typename T, int C, int R>                                                                           \
    void simdgroup_store(simdgroup_matrix<T, C, R>, A T *, ulong = C, ulong2 = 0, bool = false);
STRICT_TRANSFER(__global)
STRICT_TRANSFER(__local)
#undef STRICT_TRANSFER
template <typename T, typename U, typename V, typename W, int C, int R, int K>
void simdgroup_multiply_accumulate(__private simdgroup_matrix<T, C, R> &, simdgroup_matrix<U, K, R>,
                                   simdgroup_matrix<V, C, K>, simdgroup_matrix<W, C, R>);
template <typename T, typename U, typename V, int C, int R, int K>
void simdgroup_multiply(__private simdgroup_matrix<T, C, R> &, simdgroup_matrix<U, K, R>, simdgroup_matrix<V, C, K>);

}  // namespace metal
using metal::simdgroup_bfloat8x8;
using metal::simdgroup_float8x8;
using metal::simdgroup_half8x8;
