// Atomics in device and in threadgroup memory.
#pragma once

namespace metal {

enum memory_order {
    memory_order_relaxed,
    memory_order_acquire,
    memory_order_release,
    memory_order_acq_rel,
    memory_order_seq_cst
};
enum thread_scope { thread_scope_thread, thread_scope_simdgroup, thread_scope_threadgroup, thread_scope_device };
enum class mem_flags {
    mem_none = 0,
    mem_device = 1,
    mem_threadgroup = 2,
    mem_texture = 4,
    mem_threadgroup_imageblock = 8,
    mem_object_data = 16
};
constexpr mem_flags operator|(mem_flags a, mem_flags) { return a; }
constexpr mem_flags operator&(mem_flags a, mem_flags) { return a; }

// C++ for OpenCL reserves some names; they have an underscore here.
template <typename T>
struct atomic {
    static_assert(__is_same(T, int) || __is_same(T, uint) || __is_same(T, bool) || __is_same(T, ulong) ||
                      __is_same(T, float),
                  "an atomic is an int, a uint, a bool, a ulong or a float");
    atomic() = default;
    T hidden_;
};
typedef atomic<int> atomic_int_;
typedef atomic<uint> atomic_uint_;
typedef atomic<ulong> atomic_ulong_;
typedef atomic<float> atomic_float_;
typedef atomic<bool> atomic_bool;
template <typename T>
using _atomic = atomic<T>;
template <typename T>
using type_identity_t = typename type_identity<T>::type;

}  // namespace metal

namespace strict {
// Threadgroup memory has atomics of 32 bits that are no floats.
template <bool in_group, typename T>
using if_atomic = metal::enable_if_t<
    __is_same(T, int) || __is_same(T, uint) || __is_same(T, bool) || (!in_group && __is_same(T, float)), int>;
template <bool in_group, typename T>
using if_added = metal::enable_if_t<__is_same(T, int) || __is_same(T, uint) || (!in_group && __is_same(T, float)), int>;
template <bool in_group, typename T>
using if_whole = metal::enable_if_t<__is_same(T, int) || __is_same(T, uint), int>;
template <bool in_group, typename T>
using if_long = metal::enable_if_t<!in_group && __is_same(T, ulong), int>;
}  // namespace strict

#define STRICT_RELAXED(order) \
    __attribute__((diagnose_if(order != memory_order_relaxed, "an atomic takes memory_order_relaxed alone", "error")))

namespace metal {

#define STRICT_ATOMICS(A, in_group)                                                                                 \
    template <typename T, strict::if_atomic<in_group, T> = 0>                                                       \
    void atomic_store_explicit(volatile A atomic<T> *, type_identity_t<T>, memory_order o) STRICT_RELAXED(o);       \
    template <typename T, strict::if_atomic<in_group, T> = 0>                                                       \
    T atomic_load_explicit(const volatile A atomic<T> *, memory_order o) STRICT_RELAXED(o);                         \
    template <typename T, strict::if_atomic<in_group, T> = 0>                                                       \
    T atomic_exchange_explicit(volatile A atomic<T> *, type_identity_t<T>, memory_order o) STRICT_RELAXED(o);       \
    template <typename T, strict::if_atomic<in_group, T> = 0>                                                       \
    bool atomic_compare_exchange_weak_explicit(volatile A atomic<T> *, __private T *, type_identity_t<T>,           \
                                               memory_order o, memory_order p) STRICT_RELAXED(o) STRICT_RELAXED(p); \
    STRICT_FETCH(A, in_group, added, add)                                                                           \
    STRICT_FETCH(A, in_group, added, sub)                                                                           \
    STRICT_FETCH(A, in_group, whole, min)                                                                           \
    STRICT_FETCH(A, in_group, whole, max)                                                                           \
    STRICT_FETCH(A, in_group, whole, and)                                                                           \
    STRICT_FETCH(A, in_group, whole, or)                                                                            \
    STRICT_FETCH(A, in_group, whole, xor)                                                                           \
    template <typename T, strict::if_long<in_group, T> = 0>                                                         \
    void atomic_min_explicit(volatile A atomic<T> *, type_identity_t<T>, memory_order o) STRICT_RELAXED(o);         \
    template <typename T, strict::if_long<in_group, T> = 0>                                                         \
    void atomic_max_explicit(volatile A atomic<T> *, type_identity_t<T>, memory_order o) STRICT_RELAXED(o);
#define STRICT_FETCH(A, in_group, kind, name)                 \
    template <typename T, strict::if_##kind<in_group, T> = 0> \
    T atomic_fetch_##name##_explicit(volatile A atomic<T> *, type_identity_t<T>, memory_order o) STRICT_RELAXED(o);
STRICT_ATOMICS(__global, false)
STRICT_ATOMICS(__local, true)
#undef STRICT_ATOMICS
#undef STRICT_FETCH
#undef STRICT_RELAXED

void atomic_thread_fence(mem_flags, memory_order, thread_scope = thread_scope_device);

}  // namespace metal
using metal::atomic_bool;
using metal::atomic_float_;
using metal::atomic_int_;
using metal::atomic_uint_;
using metal::atomic_ulong_;
