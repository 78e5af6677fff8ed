// Scalars, vectors and packed vectors. Vectors are Clang's own, so swizzles and operators are as in Metal. Only their
// comparisons differ: they give integers, so vectors of bool accept integers.
#pragma once

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef __bf16 bfloat;
typedef char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef long intptr_t;
typedef unsigned long uintptr_t;
typedef decltype(nullptr) nullptr_t;

namespace metal {
template <typename T, int N>
using vec = T __attribute__((ext_vector_type(N)));
template <typename T, int N>
using packed_vec = T __attribute__((ext_vector_type(N)));
}  // namespace metal

namespace strict {
template <int N>
struct bools;
#define STRICT_BOOLS(N, FIELDS, ARGUMENTS)             \
    template <>                                        \
    struct bools<N> {                                  \
        bool FIELDS;                                   \
        bools() = default;                             \
        constexpr bools(bool) : bools() {}             \
        constexpr bools ARGUMENTS : bools() {}         \
        template <typename T>                          \
        constexpr bools(metal::vec<T, N>) : bools() {} \
        template <typename T>                          \
        constexpr operator metal::vec<T, N>() const {  \
            return {};                                 \
        }                                              \
        bool operator[](int) const;                    \
        __private bool &operator[](int) __private;     \
        friend bools operator!(bools);                 \
        friend bools operator~(bools);                 \
        friend bools operator&&(bools, bools);         \
        friend bools operator||(bools, bools);         \
        friend bools operator&(bools, bools);          \
        friend bools operator|(bools, bools);          \
        friend bools operator^(bools, bools);          \
        friend bools operator==(bools, bools);         \
        friend bools operator!=(bools, bools);         \
        __private bools &operator&=(bools) __private;  \
        __private bools &operator|=(bools) __private;  \
    };
#define STRICT_2 x, y
#define STRICT_3 x, y, z
#define STRICT_4 x, y, z, w
STRICT_BOOLS(2, STRICT_2, (bool, bool))
STRICT_BOOLS(3, STRICT_3, (bool, bool, bool))
STRICT_BOOLS(4, STRICT_4, (bool, bool, bool, bool))

// The result of V(a, b, ...): any scalars and vectors make a vector.
template <typename V, typename... A>
constexpr V make(const A...) {
    return V{};
}

// (V)x is written as to<V>() ->* x.
template <typename V>
struct to {
    friend constexpr to operator-(to a) { return a; }
    friend constexpr to operator~(to a) { return a; }
};
template <typename V, typename A>
constexpr V operator->*(to<V>, const A) {
    return V{};
}

// Returns an object of a class as a value, in whichever memory it is; returns anything else as it is.
template <typename T, bool>
struct valued {
    typedef T &&type;
};
#define STRICT_VALUED(A)               \
    template <typename T>              \
    struct valued<A T &, true> {       \
        typedef T type;                \
    };                                 \
    template <typename T>              \
    struct valued<const A T &, true> { \
        typedef T type;                \
    };
STRICT_VALUED(__private)
STRICT_VALUED(__global)
STRICT_VALUED(__local)
#undef STRICT_VALUED
template <bool, typename T>
struct only {};
template <typename T>
struct only<true, T> {
    typedef T type;
};
template <typename T>
constexpr typename valued<T, __is_class(__remove_reference_t(T))>::type value(T &&a) {
    return static_cast<T &&>(a);
}
template <typename T>
typename only<__is_class(T), T>::type value(const __constant T &);
// Does the same for an element, which may be an element of a vector: element() ->* a[i].
struct element {};
template <typename T>
constexpr T operator->*(element, const T a) {
    return a;
}

// Makes a temporary object, which is in thread memory.
template <typename T>
struct placed {
    typedef __private T &type;
};
template <typename T>
struct placed<T &> {
    typedef T &type;
};
template <typename T>
constexpr typename placed<T>::type here(T &&a) {
    return (typename placed<T>::type)a;
}

// A variable in threadgroup memory is replaced by a reference, which binds to this.
struct memory {
    template <typename T>
    operator __local T &() const __constant {
        static_assert(sizeof(T) <= 32768, "threadgroup memory");
        return *(__local T *)0;
    }
};
__constant memory threadgroup_memory{};

// Distinguishes a pointer without an address space from other pointers.
typedef __generic int in_no_space;
}  // namespace strict

typedef strict::bools<2> bool2;
typedef strict::bools<3> bool3;
typedef strict::bools<4> bool4;
typedef bool2 packed_bool2;
typedef bool3 packed_bool3;
typedef bool4 packed_bool4;

#define STRICT_VECTORS(T)          \
    typedef metal::vec<T, 2> T##2; \
    typedef metal::vec<T, 3> T##3; \
    typedef metal::vec<T, 4> T##4; \
    typedef T##2 packed_##T##2;    \
    typedef T##3 packed_##T##3;    \
    typedef T##4 packed_##T##4;    \
    namespace metal {              \
    using ::T##2;                  \
    using ::T##3;                  \
    using ::T##4;                  \
    using ::packed_##T##2;         \
    using ::packed_##T##3;         \
    using ::packed_##T##4;         \
    }
#define STRICT_EVERY_INTEGER(X) X(char) X(uchar) X(short) X(ushort) X(int) X(uint) X(long) X(ulong)
#define STRICT_EVERY_FLOAT(X) X(float) X(half)
STRICT_EVERY_INTEGER(STRICT_VECTORS)
STRICT_EVERY_FLOAT(STRICT_VECTORS)
STRICT_VECTORS(bfloat)

namespace metal {
using ::bfloat;
using ::bool2;
using ::bool3;
using ::bool4;
using ::int16_t;
using ::int32_t;
using ::int64_t;
using ::int8_t;
using ::intptr_t;
using ::ptrdiff_t;
using ::size_t;
using ::uchar;
using ::uint;
using ::uint16_t;
using ::uint32_t;
using ::uint64_t;
using ::uint8_t;
using ::uintptr_t;
using ::ulong;
using ::ushort;
}  // namespace metal

template <typename To, typename From>
constexpr To as_type(From) {
    static_assert(sizeof(To) == sizeof(From), "as_type takes and gives types of one size");
    return To{};
}
namespace metal {
using ::as_type;
}

#define CHAR_BIT 8
#define SCHAR_MAX 127
#define SCHAR_MIN (-128)
#define CHAR_MAX 127
#define CHAR_MIN (-128)
#define UCHAR_MAX 255
#define SHRT_MAX 32767
#define SHRT_MIN (-32768)
#define USHRT_MAX 65535
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define LONG_MAX 9223372036854775807l
#define LONG_MIN (-9223372036854775807l - 1)
#define ULONG_MAX 18446744073709551615ul

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define HUGE_VALF __builtin_inff()
#define MAXFLOAT 3.402823466e+38f
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.192092896e-07f
#define FLT_DIG 6
#define FLT_MANT_DIG 24
#define FLT_MAX_10_EXP 38
#define FLT_MAX_EXP 128
#define FLT_MIN_10_EXP (-37)
#define FLT_MIN_EXP (-125)
#define FLT_RADIX 2
#define HALF_MAX 65504.0h
#define HALF_MIN 6.103515625e-05h
#define HALF_EPSILON 9.765625e-04h
#define HALF_DIG 3
#define HALF_MANT_DIG 11
#define HALF_MAX_10_EXP 4
#define HALF_MAX_EXP 16
#define HALF_MIN_10_EXP (-4)
#define HALF_MIN_EXP (-13)
#define HALF_RADIX 2
#define MAXHALF HALF_MAX

#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.434294481903251827651f
#define M_LN2_F 0.693147180559945309417f
#define M_LN10_F 2.30258509299404568402f
#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.785398163397448309616f
#define M_1_PI_F 0.318309886183790671538f
#define M_2_PI_F 0.636619772367581343076f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.707106781186547524401f
#define M_PI_H 3.14159265358979323846h
#define M_E_H 2.71828182845904523536h
#define M_LOG2E_H 1.44269504088896340736h
#define M_LN2_H 0.693147180559945309417h
#define M_SQRT2_H 1.41421356237309504880h
#define M_1_PI_H 0.318309886183790671538h
