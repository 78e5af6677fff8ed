"""What the checker advises against a race: a barrier that every thread between the two accesses comes to."""

import pytest
from support.checking import Empty, Shaders

SHADER = """
#include <metal_stdlib>
using namespace metal;
kernel void branch(device float *y [[buffer(0)]], uint lane [[thread_index_in_simdgroup]],
                   uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    threadgroup float s[32];
    if (simdgroup == 0) {
        s[lane] = float(lane);
        y[lane] = s[lane ^ 1];
    }
}
kernel void everywhere(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]],
                       uint size [[threads_per_threadgroup]]) {
    threadgroup float s[64];
    s[i] = float(i);
    for (uint k = 0; k < size / 32; k++) y[i] = s[k == 0 ? i ^ 1 : size - 1 - i];
}
kernel void on_the_device(device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    y[i] = float(i);
    float other = y[i ^ 1];
    if (other < 0) y[i] = 1;
}
"""
THREADGROUP, SIMDGROUP = "put threadgroup_barrier(mem_flags::mem_%s)", "put simdgroup_barrier(mem_flags::mem_%s)"


@pytest.fixture(scope="module")
def shaders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("advice")
    (folder / "advice.metal").write_text(SHADER)
    return Shaders(folder, folder)


@pytest.mark.parametrize(
    "kernel, threads, begins, says",
    [
        # The two are lanes of one simdgroup, and the others do not come here.
        ("branch", 64, SIMDGROUP % "threadgroup", "both are lanes of one simdgroup"),
        # There are races of lanes and of simdgroups: the larger barrier helps against both.
        ("everywhere", 64, THREADGROUP % "threadgroup", "between them"),
        # One simdgroup is all that runs: whether others would come cannot be seen.
        ("everywhere", 32, THREADGROUP % "threadgroup", "or simdgroup_barrier where not every thread comes"),
        ("on_the_device", 64, SIMDGROUP % "device", "lockstep"),
    ],
)
def test_the_barrier_that_helps(shaders, kernel, threads, begins, says):
    sizes = {"threadgroups": (1, 1, 1), "threads": (threads, 1, 1)}
    findings, _ = shaders.run("advice", 0, kernel, [Empty(threads)], **sizes)
    races = [each for each in findings if each.kind == "race"]
    assert races and all(each.fix.startswith(begins) and says in each.fix for each in races)
