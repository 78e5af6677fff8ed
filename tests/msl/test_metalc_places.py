"""Errors of the C++ compiler are told at the shader's own line, also those in a header of the standard library."""

import re

import pytest
from support.metallib import compile_text

from pipeline import metalc

# (statement in line 5, what the message names)
CASES = {
    "a function without such a form": ("x[i] = simd_and(x[i]);", r"simd_and takes no float$"),
    "two calls deep": ("x[i] = inner(x[i]);", r"simd_xor takes no float$"),
    "an assertion": ("x[i] = as_type<float>(half(1));", r"as_type needs types of one size"),
    "a type": ("simdgroup_matrix<half, 8, 4> m;", r"5: a simdgroup_matrix has 8 columns and 8 rows$"),
    "a type that is not there": ("x[i] = vec<float, 7>(1).x;", "incomplete"),
    "a constructor": ("x[i] = float4(1, 2, 3, 4, 5).x;", r"no form of float4 takes \(int, int, int, int, int\)"),
    "an operator": ("x[i] = (float3x3(1) * float4(1)).x;", r"operator\*"),
    "an atomic": ("atomic_fetch_or_explicit(a, 1.0f, memory_order_relaxed);", "atomic_fetch_or_explicit"),
    "arguments": ("threadgroup_barrier(1);", "threadgroup_barrier"),
    "an ambiguous call": ("x[i] = popcount(x[i]);", r"several forms of popcount take \(float\)"),
    "a pointer": ("x[i] = normalize(x);", r"no form of normalize takes \(float \*\)"),
    "vectors as operands": ("x[i] = simd_or(float4(x[i])).x;", r"simd_or takes no float4$"),
    "a large value": ("struct Big { float a[32]; } big; simd_shuffle(big, 0);", r"\(in simd_shuffle\)"),
}
SHADER = """template <typename T> T inner(T a) { return simd_xor(a); }
kernel void k(device float *x [[buffer(0)]], device atomic_float *a [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    %s
}"""


@pytest.mark.parametrize("name", CASES)
def test_errors_name_the_shaders_line(tmp_path, name):
    statement, said = CASES[name]
    with pytest.raises(metalc.CompileError) as raised:
        compile_text(tmp_path, SHADER % statement, "checker")
    line = str(raised.value).splitlines()[0]
    place = "3" if name == "two calls deep" else "5"
    assert re.match(rf"{re.escape(str(tmp_path))}/shader\.metal:{place}: ", line) and re.search(said, line)
