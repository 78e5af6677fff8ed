"""Dispatches whose counts of threadgroups are in memory: in Python and on the command line, and checked."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import _core, check
from pipeline.device.buffers import empty_buffer, new_buffer
from pipeline.device.findings import finding
from pipeline.device.kernels import Dispatch, DispatchChain, Library
from pipeline.errors import BuildError, RunError

SHADER = """\
#include <metal_stdlib>
using namespace metal;
kernel void plan(device uint *counts [[buffer(0)]], constant uint &n [[buffer(1)]]) {
    counts[0] = n;
    counts[1] = 1;
#ifndef PART
    counts[2] = 1;
#endif
}
kernel void visit(device uint *y [[buffer(0)]], uint i [[threadgroup_position_in_grid]]) { y[i] += 1; }
kernel void reset(device uint *counts [[buffer(0)]], device uint *y [[buffer(1)]],
                  uint i [[threadgroup_position_in_grid]], uint n [[threads_per_grid]]) {
    y[i] = n;
    if (i == 0) counts[0] = 0;
}
"""


@pytest.fixture(scope="module", params=["cpu", "checker"])
def library(request):
    device = _core.open_device(request.param)
    return Library(device, device.compile(SHADER))


@pytest.fixture(scope="module")
def checker():
    device = _core.open_device("checker")
    return Library(device, device.compile(SHADER))


def counts_of(library, *values):
    return new_buffer(library._device, np.array(values, np.uint32))


def findings(library, dispatches):
    """What the checker finds in a chain, whether or not it stops a kernel."""
    device = library._device
    device.findings.clear()
    try:
        DispatchChain(device, dispatches, "indirect").run()
    except RunError:
        assert device.findings
    return [finding(each) for each in device.findings]


def test_counts_of_an_earlier_kernel(library):
    counts, y = empty_buffer(library._device, 3, np.uint32), new_buffer(library._device, np.zeros(8, np.uint32))
    plan = Dispatch(library.kernel("plan"), counts, np.uint32(5), grid=1, threads=1)
    visit = Dispatch(library.kernel("visit"), y, threadgroups=counts, threads=1)
    chain = DispatchChain(library._device, [plan, visit], "indirect")
    assert chain.core.conflicts == [-1, 0]
    chain.run()
    assert y.array.tolist() == [1] * 5 + [0] * 3
    library.kernel("visit").run(y, threadgroups=counts, threads=1)
    assert y.array.tolist() == [2] * 5 + [0] * 3
    assert library._device.findings == []


def test_counts_of_zero_run_nothing(library):
    y = np.zeros(8, np.uint32)
    library.kernel("visit").run(y, threadgroups=counts_of(library, 0, 1, 1), threads=1)
    assert not y.any()


def test_a_kernel_may_change_its_own_counts(library):
    counts, y = counts_of(library, 4, 1, 1), np.zeros(4, np.uint32)
    library.kernel("reset").run(counts, y, threadgroups=counts, threads=1)
    assert counts.array.tolist() == [0, 1, 1] and y.tolist() == [4] * 4
    assert library._device.findings == []


def test_too_few_counts_are_refused(library):
    with pytest.raises(BuildError, match="three counts of threadgroups at offset 0 are not within a buffer of 8"):
        library.kernel("visit").run(np.zeros(8, np.uint32), threadgroups=counts_of(library, 1, 1), threads=1)


@pytest.mark.parametrize("counts", [(1 << 31, 2, 1), (70000, 70000, 70000), (0xFFFFFFFF, 1, 1)])
def test_counts_that_no_grid_has(checker, counts):
    y = new_buffer(checker._device, np.zeros(8, np.uint32))
    threads = 2 if counts[1] == 1 else 1
    (one,) = findings(
        checker, [Dispatch(checker.kernel("visit"), y, threadgroups=counts_of(checker, *counts), threads=threads)]
    )
    assert (one.kind, one.buffer, one.kernel) == ("out of bounds", "counts of threadgroups", "visit")
    assert " x ".join(map(str, counts)) in one.text and "2^32 - 1" in one.text


def test_counts_that_no_grid_has_fail_elsewhere():
    device = _core.open_device("cpu")
    library = Library(device, device.compile(SHADER))
    with pytest.raises(RunError, match=r"more than 2\^32 - 1 threads"):
        counts = counts_of(library, 70000, 70000, 70000)
        library.kernel("visit").run(np.zeros(8, np.uint32), threadgroups=counts, threads=1)


def test_counts_that_nobody_wrote(checker):
    y = new_buffer(checker._device, np.zeros(8, np.uint32))
    counts = empty_buffer(checker._device, 3, np.uint32)
    (one,) = findings(checker, [Dispatch(checker.kernel("visit"), y, threadgroups=counts, threads=1)])
    assert (one.kind, one.buffer, one.size) == ("uninitialised read", "counts of threadgroups", 12)


def test_counts_of_which_one_was_not_written(tmp_path, monkeypatch, capsys):
    words = [
        "--buffer",
        "c=empty:3:uint",
        "--buffer",
        "y=zeros:8:uint",
        "--dispatch",
        "plan grid=1 threads=1 0=c 1=2:uint",
    ]
    words += ["--dispatch", "visit threadgroups=c threads=1 0=y"]
    code, out = command(tmp_path, monkeypatch, capsys, *words, "-D", "PART")
    assert code == 1 and "uninitialised read: kernel 'visit', 'counts of threadgroups'" in out
    code, out = command(tmp_path, monkeypatch, capsys, *words, "--expect", "y=1,1,0,0,0,0,0,0:uint")
    assert code == 0 and "as many threadgroups as buffer c says" in out


def command(folder, monkeypatch, capsys, *words):
    monkeypatch.chdir(folder)
    Path("indirect.metal").write_text(SHADER)
    code = check.main(["indirect.metal", "--no-lint", *words])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_run_takes_counts_at_an_offset(tmp_path, monkeypatch, capsys):
    words = ["--run", "visit", "--threads", "1", "--buffer", "0=zeros:4:uint", "--buffer", "c=9,9,3,1,1:uint"]
    code, out = command(tmp_path, monkeypatch, capsys, *words, "--threadgroups", "c:8", "--expect", "0=1,1,1,0:uint")
    assert code == 0, out


def test_a_note_says_that_nothing_ran(tmp_path, monkeypatch, capsys):
    words = ["--run", "visit", "--threads", "1", "--buffer", "0=zeros:4:uint", "--buffer", "c=0,1,1:uint"]
    code, out = command(tmp_path, monkeypatch, capsys, *words, "--threadgroups", "c")
    assert code == 0 and "note: buffer c has 0,1,1 threadgroups for visit at the end; with these, nothing runs." in out


@pytest.mark.parametrize(
    "counts, message",
    [
        ("d", "no --buffer has the name d"),
        ("c:2", "a multiple of 4"),
        ("c:12", "three counts of threadgroups at offset 12 take 12"),
        ("c:", "write BUFFER or BUFFER:OFFSET"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, counts, message):
    words = ["--run", "visit", "--threads", "1", "--buffer", "0=zeros:4:uint", "--buffer", "c=1,1,1:uint"]
    code, out = command(tmp_path, monkeypatch, capsys, *words, "--threadgroups", counts)
    assert code == 2 and message in out, out
