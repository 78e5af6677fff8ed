// Classification, selection and reduction of booleans.
#pragma once

namespace metal {

#define STRICT_CLASSIFY_OF(T, name)             \
    constexpr bool name(T) { return true; }     \
    constexpr bool2 name(T##2) { return true; } \
    constexpr bool3 name(T##3) { return true; } \
    constexpr bool4 name(T##4) { return true; }
#define STRICT_CLASSIFY(name)                       \
    STRICT_CLASSIFY_OF(float, name)                 \
    STRICT_CLASSIFY_OF(half, name)                  \
    template <typename A, strict::if_bfloat<A> = 0> \
    constexpr bool name(A) {                        \
        return true;                                \
    }
#define STRICT_NAMES       \
    STRICT_CLASSIFY(isnan) \
    STRICT_CLASSIFY(isinf) STRICT_CLASSIFY(isfinite) STRICT_CLASSIFY(isnormal) STRICT_CLASSIFY(signbit)
STRICT_NAMES
namespace precise {
STRICT_NAMES
}
namespace fast {
STRICT_NAMES
}
#undef STRICT_NAMES
#undef STRICT_CLASSIFY
#undef STRICT_CLASSIFY_OF
#define STRICT_ORDERED(T, name) \
    bool name(T, T);            \
    bool2 name(T##2, T##2);     \
    bool3 name(T##3, T##3);     \
    bool4 name(T##4, T##4);
STRICT_ORDERED(float, isordered)
STRICT_ORDERED(half, isordered)
STRICT_ORDERED(float, isunordered)
STRICT_ORDERED(half, isunordered)
#undef STRICT_ORDERED

constexpr bool any(bool a) { return a; }
constexpr bool all(bool a) { return a; }
bool any(bool2);
bool any(bool3);
bool any(bool4);
bool all(bool2);
bool all(bool3);
bool all(bool4);
template <typename T, int N>
bool any(vec<T, N>);
template <typename T, int N>
bool all(vec<T, N>);

#define STRICT_SELECT(T)                           \
    constexpr T select(T a, T, bool) { return a; } \
    T##2 select(T##2, T##2, bool2);                \
    T##3 select(T##3, T##3, bool3);                \
    T##4 select(T##4, T##4, bool4);
STRICT_EVERY_INTEGER(STRICT_SELECT)
STRICT_EVERY_FLOAT(STRICT_SELECT)
STRICT_SELECT(bfloat)
STRICT_SELECT(bool)
#undef STRICT_SELECT

}  // namespace metal
