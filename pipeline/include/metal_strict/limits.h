// numeric_limits of every scalar.
#pragma once

namespace metal {

template <typename T>
struct _numeric_limits_impl {
    static constexpr __constant bool is_specialized = false;
};
template <typename T>
struct numeric_limits : _numeric_limits_impl<T> {};
#define STRICT_LIMITS(T)                                                                                              \
    template <>                                                                                                       \
    struct _numeric_limits_impl<T> {                                                                                  \
        static constexpr __constant bool is_specialized = true, is_integer = __is_integral(T),                        \
                                         is_signed = T(-1) < T(0), is_exact = is_integer, has_infinity = !is_integer, \
                                         has_quiet_NaN = !is_integer;                                                 \
        static constexpr __constant int radix = 2, digits = sizeof(T) * 8, digits10 = 2, max_digits10 = 9,            \
                                        min_exponent = 0, max_exponent = 0;                                           \
        static constexpr T min() { return T(0); }                                                                     \
        static constexpr T max() { return T(127); }                                                                   \
        static constexpr T lowest() { return T(0); }                                                                  \
        static constexpr T epsilon() { return T(1); }                                                                 \
        static constexpr T denorm_min() { return T(1); }                                                              \
        static constexpr T round_error() { return T(1); }                                                             \
        static constexpr T infinity() { return T(1); }                                                                \
        static constexpr T quiet_NaN() { return T(1); }                                                               \
        static constexpr T signaling_NaN() { return T(1); }                                                           \
    };
STRICT_EVERY_INTEGER(STRICT_LIMITS)
STRICT_EVERY_FLOAT(STRICT_LIMITS)
STRICT_LIMITS(bfloat)
STRICT_LIMITS(bool)
typedef signed char schar;
STRICT_LIMITS(schar)
#undef STRICT_LIMITS

}  // namespace metal
