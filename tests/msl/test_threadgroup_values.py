"""Threadgroup variables that are declared with a value: they are the threadgroup's, and hold none before a write."""

from support.checking import Empty, Shaders
from support.metallib import compile_text

SHADER = """
#include <metal_stdlib>
using namespace metal;
kernel void written(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup float beta = 0.0, gamma[4] = {1, 2 < 3 ? 4 : 5}, delta{2};
    threadgroup int2 n = int2(0, 1); threadgroup float *p = gamma; threadgroup atomic_uint c = {0};
    threadgroup array<float, 2> q = {};
    if (i == 0) {
        beta = 1; gamma[1] = 2; delta = 3; n = int2(4, 5); q[1] = 7;
        atomic_store_explicit(&c, 6u, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = beta + 10 * p[1] + 100 * delta + 1000 * n.y + 10000 * q[1] +
           100000 * atomic_load_explicit(&c, memory_order_relaxed);
}
kernel void unwritten(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup float beta = 3;
    y[i] = beta;
}
"""


def shaders(folder):
    (folder / "values.metal").write_text(SHADER)
    return Shaders(folder, folder)


def test_all_threads_share_the_variable(tmp_path):
    findings, (y,) = shaders(tmp_path).run(
        "values", 0, "written", [Empty(64)], threadgroups=(1, 1, 1), threads=(64, 1, 1)
    )
    assert findings == []
    assert y.tolist() == [675321] * 64


def test_the_value_is_not_there(tmp_path):
    findings, _ = shaders(tmp_path).run("values", 0, "unwritten", [Empty(2)], threadgroups=(1, 1, 1), threads=(2, 1, 1))
    assert ("uninitialised read", "beta") in {(each.kind, each.buffer) for each in findings}


def test_they_count_as_threadgroup_memory(tmp_path):
    function = compile_text(tmp_path, SHADER).functions["written"]
    assert function.static_threadgroup_length == 4 + 16 + 4 + 8 + 4 + 8
