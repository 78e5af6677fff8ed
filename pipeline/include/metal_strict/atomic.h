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
typedef atomic<half> atomic_half;
typedef atomic<bfloat> atomic_bfloat;

#define STRICT_ATOMICS(A)                                                                                 \
    template <typename T>                                                                                 \
    void atomic_store_explicit(volatile A atomic<T> *, type_identity_t<T>, memory_order);                 \
    template <typename T>                                                                                 \
    T atomic_load_explicit(const volatile A atomic<T> *, memory_order);                                   \
    template <typename T>                                                                                 \
    T atomic_exchange_explicit(volatile A atomic<T> *, type_identity_t<T>, memory_order);                 \
    template <typename T>                                                                                 \
    bool atomic_compare_exchange_weak_explicit(volatile A atomic<T> *, __private T *, type_identity_t<T>, \
                                               memory_order, memory_order);                               \
    STRICT_FETCH(A, add)                                                                                  \
    STRICT_FETCH(A, sub)                                                                                  \
    STRICT_FETCH(A, min) STRICT_FETCH(A, max) STRICT_FETCH(A, and) STRICT_FETCH(A, or) STRICT_FETCH(A, xor)
#define STRICT_FETCH(A, name)                                                                   \
    template <typename T>                                                                       \
    T atomic_fetch_##name##_explicit(volatile A atomic<T> *, type_identity_t<T>, memory_order); \
    template <typename T>                                                                       \
    void atomic_##name##_explicit(volatile A atomic<T> *, type_identity_t<T>, memory_order);
template <typename T>
using type_identity_t = typename type_identity<T>::type;
STRICT_ATOMICS(__global)
STRICT_ATOMICS(__local)
#undef STRICT_ATOMICS
#undef STRICT_FETCH

void atomic_thread_fence(mem_flags, memory_order, thread_scope = thread_scope_device);

}  // namespace metal
using metal::atomic_bool;
using metal::atomic_float_;
using metal::atomic_int_;
using metal::atomic_uint_;
using metal::atomic_ulong_;
