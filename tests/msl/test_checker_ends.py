"""What the checker says of writes of one line, of loops without an end, and of stacks that overflow."""

import pytest
from support.checking import Empty, Shaders

SHADER = """
#include <metal_stdlib>
using namespace metal;
kernel void same_value(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup float s[1];
    s[0] = 3;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = s[0];
}
kernel void same_vector(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup float4 s[1];
    s[0] = float4(1, 2, 3, 4);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = s[0].y;
}
kernel void other_values(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup float s[1];
    s[0] = i / 40;  // equal ones, too
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = s[0];
}
kernel void same_in_groups(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    if (i == 0) y[0] = 5;
}
kernel void in_place(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup float s[64];
    s[i] = i;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    s[i] = s[63 - i];
    y[i] = s[i];
}
kernel void endless(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    uint k = i;
    for (uint n = 0; n < 2; n++) {
        while (k != 7) k = k * 2 + 8;  // here
    }
    y[i] = k;
}
kernel void in_turn(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup atomic_uint turn;
    if (i == 0) atomic_store_explicit(&turn, 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    while (atomic_load_explicit(&turn, memory_order_relaxed) != i) {}  // here
    y[i] = i;
    atomic_store_explicit(&turn, i + 1, memory_order_relaxed);
}
kernel void until_it_is_told(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup atomic_uint told;
    if (i == 0) atomic_store_explicit(&told, 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i != 0) while (atomic_load_explicit(&told, memory_order_relaxed) == 0) {}  // here
    else atomic_store_explicit(&told, 1, memory_order_relaxed);
    y[i] = i;
}
kernel void locked(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup atomic_uint lock;
    if (i == 0) atomic_store_explicit(&lock, 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    while (atomic_exchange_explicit(&lock, 1, memory_order_relaxed) != 0) {}  // here
    y[i] = i;
    atomic_store_explicit(&lock, 0, memory_order_relaxed);
}
kernel void one_lane_in_turn(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup atomic_uint turn;
    if (i == 0) atomic_store_explicit(&turn, 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i % 32 == 0) while (atomic_load_explicit(&turn, memory_order_relaxed) != i / 32) {}
    simdgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = i;
    if (i % 32 == 31) atomic_store_explicit(&turn, i / 32 + 1, memory_order_relaxed);
}
kernel void large(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {  // here
    uint a[100000];
    for (uint k = 0; k < 100000; k += 1000) a[k] = k * i;
    y[i] = a[uint(y[0])];
}
"""


def place(kernel):
    """The line of `// here` in a kernel."""
    lines = SHADER.split("\n")
    start = next(number for number, line in enumerate(lines) if f"void {kernel}(" in line)
    return next(number for number, line in enumerate(lines, 1) if number > start and line.endswith("// here"))


@pytest.fixture(scope="module")
def shaders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ends")
    (folder / "ends.metal").write_text(SHADER)
    return Shaders(folder, folder)


def run(shaders, kernel, groups=1, threads=64):
    sizes = {"threadgroups": (groups, 1, 1), "threads": (threads, 1, 1)}
    return shaders.run("ends", 0, kernel, [Empty(128)], **sizes)[0]


@pytest.mark.parametrize("kernel", ["same_value", "same_vector"])
def test_writes_of_one_value_are_a_warning(shaders, kernel):
    (finding,) = run(shaders, kernel)
    assert (finding.kind, finding.severity) == ("race", "warning") and finding.fix.startswith("let one thread write it")


def test_threadgroups_that_write_one_value_are_a_warning(shaders):
    (finding,) = run(shaders, "same_in_groups", groups=3)
    assert (finding.kind, finding.severity) == ("race between threadgroups", "warning")


def test_writes_of_one_line_need_no_barrier_between_them(shaders):
    race = next(each for each in run(shaders, "other_values") if each.kind == "race")
    assert race.severity == "error" and race.line == race.there.line
    assert race.fix.startswith("let one thread write it, or give each an element of its own")


def test_a_line_that_reads_and_writes_is_taken_apart(shaders):
    races = [each for each in run(shaders, "in_place") if each.kind == "race"]
    assert races and all(each.fix.startswith("read into a variable, put threadgroup_barrier(") for each in races)


def test_a_loop_without_an_end_is_stopped(shaders):
    (finding,) = run(shaders, "endless", threads=1)
    assert (finding.kind, finding.line) == ("no end", place("endless")) and "2^31" in finding.text
    assert finding.here.kind == "" and finding.fix.startswith("let the loop come to an end")


@pytest.mark.parametrize("kernel", ["in_turn", "until_it_is_told", "locked"])
def test_lanes_of_one_simdgroup_cannot_wait_for_one_another(shaders, kernel):
    finding = next(each for each in run(shaders, kernel, threads=32) if each.kind == "no end")
    assert (finding.line, finding.there.kind) == (place(kernel), "atomic write")
    assert "another lane of its simdgroup" in finding.text and finding.fix.startswith(
        "let one lane of a simdgroup wait"
    )


def test_simdgroups_can(shaders):
    assert run(shaders, "one_lane_in_turn", threads=128) == []


def test_a_stack_that_overflows_is_a_finding(shaders):
    (finding,) = run(shaders, "large", threads=2)
    assert (finding.kind, finding.line) == ("stack overflow", place("large")) and finding.here.kind == ""
