// Type traits, and whatever else Metal has from C++'s standard library, in namespace metal.
#pragma once

namespace std {
template <typename E>
struct initializer_list {
    const __private E *first;
    unsigned long count;
    const __private E *begin() const { return first; }
    const __private E *end() const { return first + count; }
    unsigned long size() const { return count; }
};
}  // namespace std

namespace metal {
using std::initializer_list;

template <typename T, T v>
struct integral_constant {
    static constexpr __constant T value = v;
    typedef T value_type;
    typedef integral_constant type;
    constexpr operator T() const { return v; }
    constexpr operator T() const __constant { return v; }
    constexpr T operator()() const { return v; }
};
template <bool v>
using bool_constant = integral_constant<bool, v>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;

template <bool, typename T = void>
struct enable_if {};
template <typename T>
struct enable_if<true, T> {
    typedef T type;
};
template <bool c, typename T = void>
using enable_if_t = typename enable_if<c, T>::type;
template <bool, typename A, typename B>
struct conditional {
    typedef A type;
};
template <typename A, typename B>
struct conditional<false, A, B> {
    typedef B type;
};
template <bool c, typename A, typename B>
using conditional_t = typename conditional<c, A, B>::type;
template <typename T>
struct type_identity {
    typedef T type;
};

#define STRICT_TRANSFORM(name, from, to) \
    template <typename T>                \
    struct name {                        \
        typedef T type;                  \
    };                                   \
    template <typename T>                \
    struct name<from> {                  \
        typedef to type;                 \
    };                                   \
    template <typename T>                \
    using name##_t = typename name<T>::type;
STRICT_TRANSFORM(remove_const, const T, T)
STRICT_TRANSFORM(remove_volatile, volatile T, T)
#undef STRICT_TRANSFORM
template <typename T>
struct remove_cv {
    typedef remove_volatile_t<remove_const_t<T>> type;
};
template <typename T>
using remove_cv_t = typename remove_cv<T>::type;
template <typename T>
struct remove_reference {
    typedef __remove_reference_t(T) type;
};
template <typename T>
using remove_reference_t = typename remove_reference<T>::type;
template <typename T>
struct remove_pointer {
    typedef __remove_pointer(T) type;
};
template <typename T>
using remove_pointer_t = typename remove_pointer<T>::type;
template <typename T>
struct remove_extent {
    typedef __remove_extent(T) type;
};
template <typename T>
using remove_extent_t = typename remove_extent<T>::type;
template <typename T>
struct decay {
    typedef __decay(T) type;
};
template <typename T>
using decay_t = typename decay<T>::type;
template <typename T>
struct add_const {
    typedef const T type;
};
template <typename T>
using add_const_t = const T;
template <typename T>
struct add_cv {
    typedef const volatile T type;
};
template <typename T>
using add_cv_t = const volatile T;
template <typename T>
struct make_signed {
    typedef __make_signed(T) type;
};
template <typename T>
using make_signed_t = typename make_signed<T>::type;
template <typename T>
struct make_unsigned {
    typedef __make_unsigned(T) type;
};
template <typename T>
using make_unsigned_t = typename make_unsigned<T>::type;
template <typename T>
struct underlying_type {
    typedef __underlying_type(T) type;
};
template <typename T>
using underlying_type_t = typename underlying_type<T>::type;

template <typename T>
remove_reference_t<T> &&declval();

template <typename A, typename B, typename... C>
struct common_type {
    typedef decltype(true ? declval<A>() : declval<B>()) joined;
    typedef typename common_type<decay_t<joined>, C...>::type type;
};
template <typename A, typename B>
struct common_type<A, B> {
    typedef decay_t<decltype(true ? declval<A>() : declval<B>())> type;
};
template <typename... A>
using common_type_t = typename common_type<A...>::type;

// Gives a type without its address space.
template <typename T>
struct remove_addrspace {
    typedef T type;
};
#define STRICT_REMOVE(A)                 \
    template <typename T>                \
    struct remove_addrspace<A T> {       \
        typedef T type;                  \
    };                                   \
    template <typename T>                \
    struct remove_addrspace<const A T> { \
        typedef const T type;            \
    };
STRICT_REMOVE(__global)
STRICT_REMOVE(__local)
STRICT_REMOVE(__constant)
STRICT_REMOVE(__private)
#undef STRICT_REMOVE
template <typename T>
using remove_addrspace_t = typename remove_addrspace<T>::type;

#define STRICT_TRAIT(name, ...)                    \
    template <typename T>                          \
    struct name : bool_constant<(__VA_ARGS__)> {}; \
    template <typename T>                          \
    constexpr __constant bool name##_v = name<T>::value;
template <typename A, typename B>
struct is_same : bool_constant<__is_same(A, B)> {};
template <typename A, typename B>
constexpr __constant bool is_same_v = __is_same(A, B);
template <typename A, typename B>
struct is_convertible : bool_constant<__is_convertible_to(A, B)> {};
template <typename A, typename B>
constexpr __constant bool is_convertible_v = __is_convertible_to(A, B);
template <typename A, typename B>
struct is_base_of : bool_constant<__is_base_of(A, B)> {};
template <typename A, typename B>
constexpr __constant bool is_base_of_v = __is_base_of(A, B);
template <typename T, typename... A>
struct is_constructible : bool_constant<__is_constructible(T, A...)> {};
STRICT_TRAIT(is_void, __is_void(T))
STRICT_TRAIT(is_integral, __is_integral(T))
STRICT_TRAIT(is_floating_point, __is_floating_point(T))
STRICT_TRAIT(is_arithmetic, __is_arithmetic(T))
STRICT_TRAIT(is_scalar, __is_arithmetic(T) || __is_enum(T))
STRICT_TRAIT(is_signed, __is_signed(T))
STRICT_TRAIT(is_unsigned, __is_unsigned(T))
STRICT_TRAIT(is_const, __is_const(T))
STRICT_TRAIT(is_volatile, __is_volatile(T))
STRICT_TRAIT(is_pointer, __is_pointer(T))
STRICT_TRAIT(is_reference, __is_reference(T))
STRICT_TRAIT(is_array, __is_array(T))
STRICT_TRAIT(is_enum, __is_enum(T))
STRICT_TRAIT(is_class, __is_class(T))
STRICT_TRAIT(is_union, __is_union(T))
STRICT_TRAIT(is_trivial, __is_trivial(T))
STRICT_TRAIT(is_trivially_copyable, __is_trivially_copyable(T))
STRICT_TRAIT(is_standard_layout, __is_standard_layout(T))
#undef STRICT_TRAIT
template <typename T>
struct is_vector : false_type {};
template <typename T, int N>
struct is_vector<vec<T, N>> : true_type {};
template <typename T>
struct __is_valid_simdgroup_type
    : bool_constant<__is_arithmetic(T) && sizeof(T) <= 4 && !__is_same(T, bool) && !__is_same(T, bfloat)> {};
template <typename T, int N>
struct __is_valid_simdgroup_type<vec<T, N>> : __is_valid_simdgroup_type<T> {};
template <typename... A>
struct _disjunction : bool_constant<(A::value || ...)> {};
template <typename... A>
struct _conjunction : bool_constant<(A::value && ...)> {};
template <typename... A>
using disjunction = _disjunction<A...>;
template <typename... A>
using conjunction = _conjunction<A...>;
template <typename A>
struct negation : bool_constant<!A::value> {};
// The type of a value that is the same in all threads of a simdgroup is the value's own type.
template <typename T>
using uniform = T;
template <typename T>
constexpr T make_uniform(T a) {
    return a;
}

template <typename T>
struct vec_elements : integral_constant<int, 1> {};
template <typename T, int N>
struct vec_elements<vec<T, N>> : integral_constant<int, N> {};
template <typename T>
constexpr __constant bool is_vector_v = is_vector<T>::value;
template <typename A>
struct rank : integral_constant<size_t, __array_rank(A)> {};
template <typename A, unsigned i = 0>
struct extent : integral_constant<size_t, __array_extent(A, i)> {};

template <typename A, typename B>
constexpr __constant bool is_same_or_const_v = __is_same(const A, const B);

template <typename T, T...>
struct integer_sequence {};
template <size_t... i>
using index_sequence = integer_sequence<size_t, i...>;
template <size_t n>
using make_index_sequence = __make_integer_seq<integer_sequence, size_t, n>;
template <typename T, T n>
using make_integer_sequence = __make_integer_seq<integer_sequence, T, n>;

template <typename T, size_t N>
struct array {
    T elements[N];
    constexpr T operator[](size_t i) const __constant { return elements[i]; }
    constexpr const __private T &operator[](size_t i) const __private { return elements[i]; }
    constexpr __private T &operator[](size_t i) __private { return elements[i]; }
    const __global T &operator[](size_t) const __global;
    __global T &operator[](size_t) __global;
    const __local T &operator[](size_t) const __local;
    __local T &operator[](size_t) __local;
    static constexpr size_t size() { return N; }
    const __private T *data() const __private;
    __private T *data() __private;
    const __private T *begin() const __private;
    const __private T *end() const __private;
    __private T *begin() __private;
    __private T *end() __private;
};

}  // namespace metal
