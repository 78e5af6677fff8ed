// Atomic values. GCC does not know C11's _Atomic in Objective-C, so these wrap its builtins; the
// struct keeps a plain access from compiling. Operations without an order are sequentially consistent.
#ifndef OBM_ATOMIC_H
#define OBM_ATOMIC_H

#include <stdint.h>

typedef struct {
    uint32_t value;
} obm_atomic_u32;
typedef struct {
    uint64_t value;
} obm_atomic_u64;
typedef struct {
    const char *value;
} obm_atomic_text;

#define obm_load(a) __atomic_load_n(&(a)->value, __ATOMIC_SEQ_CST)
#define obm_load_acquire(a) __atomic_load_n(&(a)->value, __ATOMIC_ACQUIRE)
#define obm_load_relaxed(a) __atomic_load_n(&(a)->value, __ATOMIC_RELAXED)
#define obm_store(a, v) __atomic_store_n(&(a)->value, (v), __ATOMIC_SEQ_CST)
#define obm_store_release(a, v) __atomic_store_n(&(a)->value, (v), __ATOMIC_RELEASE)
#define obm_store_relaxed(a, v) __atomic_store_n(&(a)->value, (v), __ATOMIC_RELAXED)
#define obm_exchange(a, v) __atomic_exchange_n(&(a)->value, (v), __ATOMIC_SEQ_CST)

// These return the value before.
#define obm_add(a, v) __atomic_fetch_add(&(a)->value, (v), __ATOMIC_SEQ_CST)
#define obm_sub(a, v) __atomic_fetch_sub(&(a)->value, (v), __ATOMIC_SEQ_CST)

// True if *expected was there and is replaced.
#define obm_swap(a, expected, v) \
    __atomic_compare_exchange_n(&(a)->value, (expected), (v), 1, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)

// Between two looks at a value that another thread will change.
static inline void obm_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
