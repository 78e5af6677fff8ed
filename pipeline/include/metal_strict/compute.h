// Barriers, and a kernel's requests to the compiler.
#pragma once

namespace metal {

void threadgroup_barrier(mem_flags);
void threadgroup_barrier(mem_flags, thread_scope);
void simdgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags, thread_scope);

template <typename T>
bool is_function_constant_defined(T);

}  // namespace metal
#define is_function_constant_defined(name) true
