"""The checker as a device: its settings, what it tells of a finding, and memory in every form."""

import mmap

import numpy as np
import pytest

import pipeline as p
from pipeline import _core
from pipeline.device.findings import KINDS, Access
from pipeline.errors import DeviceError, OnebufError, RunError

HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"
COPY = (
    HEADER
    + """
kernel void copy(device const float *from [[buffer(0)]], device float *to [[buffer(1)]],
                 uint i [[thread_index_in_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
    if (i < 32) to[32 * group + i] = from[32 * group + i];
}
"""
)


def buffer_of(device, array):
    buffer = device.core.buffer(array.nbytes)
    np.frombuffer(buffer, array.dtype)[:] = array.reshape(-1)
    return buffer


def chain_of(device, source, name, buffers, groups=1, lengths=None, label="step"):
    """A chain of one dispatch with whole buffers, or the first bytes of them, bound in order."""
    kernel = device.core.compile(source).kernel(name)
    lengths = lengths or [len(memoryview(buffer)) for buffer in buffers]
    bindings = [(slot, buffer, 0, nbytes) for slot, (buffer, nbytes) in enumerate(zip(buffers, lengths))]
    return device.core.chain([_core.Dispatch(kernel, bindings, None, (groups, 1, 1), 0, label)])


@pytest.fixture
def checker():
    return p.open_device("checker", threads=64)


def test_an_access_that_ends_behind_what_is_bound(checker):
    arguments = "device const ulong *x [[buffer(0)]], device ulong *y [[buffer(1)]]"
    source = HEADER + f"kernel void over({arguments}) {{ y[0] = x[1]; }}"
    x, y = buffer_of(checker, np.ones(2, np.uint64)), buffer_of(checker, np.zeros(1, np.uint64))
    chain_of(checker, source, "over", [x, y]).run()
    with pytest.raises(RunError, match="bytes 8 to 15 of 12"):
        chain_of(checker, source, "over", [x, y], lengths=[12, 8]).run()


def test_it_is_one_of_the_devices(checker):
    assert checker.name == "checker" and checker.threads == 64 and checker.core.schedules == 1
    assert p.open_device("checker").threads == 1024
    with pytest.raises(DeviceError, match="checker"):
        p.open_device("check")


@pytest.mark.parametrize(
    "settings, words", [({"threads": 1025}, "1 to 1024 threads"), ({"schedules": 1001}, "1 to 1000")]
)
def test_impossible_settings(settings, words):
    with pytest.raises(OnebufError, match=words):
        p.open_device("checker", **settings)


def test_other_devices_have_no_schedules():
    with pytest.raises(OnebufError, match="checker"):
        p.open_device("cpu", schedules=2)
    assert p.open_device("cpu").findings == []


def test_a_finding_as_an_object(checker):
    source = (
        HEADER
        + """
kernel void race(device float *out [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    shared[i] = i;
    out[i] = shared[63 - i];
}
"""
    )
    chain_of(checker, source, "race", [checker.core.buffer(256)]).run()
    race = next(finding for finding in checker.findings if finding.kind == "race")
    assert {race.here.line, race.there.line} == {6, 7} and {race.here.kind, race.there.kind} == {"read", "write"}
    assert isinstance(race.here, Access) and race.here.threadgroup == (0, 0, 0) and len(race.here.thread) == 3
    assert (race.kernel, race.here.step, race.file, race.buffer, race.index) == (
        "race",
        "step",
        "source.metal",
        "shared",
        None,
    )
    assert (race.space, race.length, race.size, race.severity) == ("threadgroup", 256, 4, "error") and race.count >= 1
    assert "threadgroup_barrier" in race.fix and race.fix in str(race) and "source.metal:" in str(race)
    assert all(finding.kind in KINDS for finding in checker.findings)
    checker.clear_findings()
    assert checker.findings == []


def test_the_bound_length_counts_and_not_the_buffers(checker):
    given, made = buffer_of(checker, np.ones(64, np.float32)), checker.core.buffer(256)
    chain_of(checker, COPY, "copy", [given, made], 2).run()
    assert checker.findings == [] and (np.frombuffer(made, np.float32) == 1).all()
    with pytest.raises(RunError, match="out of bounds.*'from' at buffer index 0"):
        chain_of(checker, COPY, "copy", [given, made], 2, [4 * 40, 256]).run()
    finding = checker.findings[0]
    assert (finding.kind, finding.length, finding.line) == ("out of bounds", 4 * 40, 6) and finding.offset >= 4 * 40


def test_memory_that_nothing_has_written(checker):
    given, made = checker.core.buffer(8192), checker.core.buffer(8192)
    chain_of(checker, COPY, "copy", [given, made], 64).run()
    assert {finding.kind for finding in checker.findings} == {"uninitialised read"}
    assert {finding.buffer for finding in checker.findings} == {"from"}


@pytest.mark.parametrize("value", [0, 1])
def test_what_the_host_wrote_is_written(checker, value):
    given, made = buffer_of(checker, np.full(2048, value, np.float32)), checker.core.buffer(8192)
    chain_of(checker, COPY, "copy", [given, made], 64).run()
    assert checker.findings == [] and (np.frombuffer(made, np.float32) == value).all()


def test_the_hosts_own_memory_goes_in_and_comes_back(checker):
    given, made = mmap.mmap(-1, mmap.PAGESIZE), mmap.mmap(-1, mmap.PAGESIZE)
    count = mmap.PAGESIZE // 4
    chain = chain_of(checker, COPY, "copy", [checker.core.wrap(given), checker.core.wrap(made)], count // 32)
    for value in (3, 4):
        np.frombuffer(given, np.float32)[:] = value
        chain.run()
        assert (np.frombuffer(made, np.float32) == value).all() and checker.findings == []


def test_runs_in_flight_keep_their_own_findings(checker):
    source = (
        HEADER + "kernel void f(device uint *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) { y[0] = i; }\n"
    )
    good, bad = (
        chain_of(checker, COPY, "copy", [buffer_of(checker, np.ones(32, np.float32)), checker.core.buffer(128)]),
        None,
    )
    bad = chain_of(checker, source, "f", [checker.core.buffer(4)])
    runs = [good.commit(), bad.commit(), good.commit()]
    counts = []
    for run in runs:
        run.wait()
        counts.append(len(checker.findings))
    assert counts[0] == 0 and counts[1] == counts[2] > 0


def test_a_kernel_may_limit_its_threadgroup(checker):
    source = (
        HEADER
        + """
[[max_total_threads_per_threadgroup(48)]]
kernel void f(device uint *y [[buffer(0)]], uint threads [[threads_per_threadgroup]]) {
    if (simd_is_first()) y[0] = threads;
}
"""
    )
    made = checker.core.buffer(4)
    chain_of(checker, source, "f", [made]).run()
    assert np.frombuffer(made, np.uint32)[0] == 32  # the largest multiple of a simdgroup
    assert [finding.kind for finding in checker.findings] == []


@pytest.mark.parametrize(
    "fence", ["", "atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);"]
)
def test_fences_with_atomics_order_threadgroups(fence):
    """The last threadgroup adds up what the others left: right with a fence on both sides."""
    checker = p.open_device("checker", threads=64, schedules=6)
    source = (
        HEADER
        + """
kernel void total(device const float *x [[buffer(0)]], device float *parts [[buffer(1)]],
                  device atomic_uint *count [[buffer(2)]], device float *y [[buffer(3)]],
                  uint i [[thread_index_in_threadgroup]],
                  uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
    if (i != 0) return;
    parts[group] = x[group];
    FENCE
    bool last = atomic_fetch_add_explicit(count, 1u, memory_order_relaxed) == groups - 1;
    FENCE
    float sum = 0;
    for (uint g = 0; last && g < groups; g++) sum += parts[g];
    if (last) *y = sum;
}
"""
    ).replace("FENCE", fence)
    buffers = [
        buffer_of(checker, np.ones(20, np.float32)),
        checker.core.buffer(80),
        buffer_of(checker, np.zeros(1, np.uint32)),
        checker.core.buffer(4),
    ]
    chain_of(checker, source, "total", buffers, 20).run()
    assert np.frombuffer(buffers[3], np.float32)[0] == 20
    assert {finding.kind for finding in checker.findings} == (set() if fence else {"race between threadgroups"})


def test_a_division_of_integers_by_zero_is_found_and_stops_the_threadgroup_alone(checker):
    source = (
        HEADER
        + """
kernel void divide(device const uint *x [[buffer(0)]], device uint *y [[buffer(1)]],
                   uint i [[thread_index_in_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
    if (i == 0) y[group] = 12 / x[group];
}
"""
    )
    given, made = buffer_of(checker, np.array([3, 0, 4], np.uint32)), buffer_of(checker, np.zeros(3, np.uint32))
    with pytest.raises(RunError, match="division by zero"):
        chain_of(checker, source, "divide", [given, made], 3).run()
    assert np.frombuffer(made, np.uint32).tolist() == [4, 0, 3]
    assert [(finding.kind, finding.line) for finding in checker.findings] == [("division by zero", 6)]


WAIT = "threadgroup_barrier(mem_flags::mem_threadgroup)"


@pytest.mark.parametrize(
    "statement, other",
    [
        ("if (i < 32) wait(); else wait();", True),
        (f"if (i < 32) {WAIT}; else {WAIT};", True),
        ("for (uint k = 0; k < 2; k++) { if (i < 32) wait(); else wait(); }", True),
        ("if (n < 32) wait(); else wait();", False),  # all threads go one way
        ("for (uint k = 0; k < 2; k++) { if (i < 32) y[i] = 2; wait(); } wait();", False),
        ("if (i < 32) { y[i] = simd_sum(1.0f); } wait();", False),
    ],
)
def test_barriers_of_one_line_are_told_apart(checker, statement, other):
    arguments = "device float *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]"
    kernel = (
        f"kernel void k({arguments}, uint n [[threadgroup_position_in_grid]]) {{ y[i] = 1; {statement} y[i] = 3; }}"
    )
    source = HEADER + f"void wait() {{ {WAIT}; }}\n{kernel}"
    chain_of(checker, source, "k", [buffer_of(checker, np.zeros(64, np.float32))]).run()
    found = {finding.kind for finding in checker.findings}
    assert found == ({"divergent barrier"} if other else set())
