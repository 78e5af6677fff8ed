"""What a chain keeps for a number of rows: recorded commands and struct arguments, made once and used again."""

import threading

import numpy as np
import pytest
from support.axes import axis, each
from support.processors import CHECKERS, PROCESSORS
from support.stages import keep_stages

import pipeline
from pipeline import _core
from pipeline.errors import BuildError

pytestmark = pytest.mark.one_processor  # recording is not about threads of the device
once = each("opened", axis(PROCESSORS + CHECKERS, daily=PROCESSORS[-1:]), indirect=["opened"])

ROWS = 30
KEPT = 8  # numbers of rows besides all, as OBPreparedRuns.h says

# Adds the rows of the run, as the struct says, to each row of the run, as the grid says.
SOURCE = """
#include <metal_stdlib>
using namespace metal;
struct Args { uint rows; };
kernel void add(device float *x [[buffer(0)]], constant Args &args [[buffer(1)]],
                uint3 at [[threadgroup_position_in_grid]]) { x[at.y] += args.rows; }
kernel void slow(device uint *x [[buffer(0)]]) {
    uint a = x[0];
    for (uint k = 0; k < 300000u; k++) a = a * 1664525u + 1013904223u;
    x[0] = a;
}
kernel void copy(device const uint *x [[buffer(0)]], device uint *y [[buffer(1)]]) { y[0] = x[0]; }
kernel void twice(device float *x [[buffer(0)]]) { x[0] *= 2.0f; }
kernel void shared(device float *x [[buffer(0)]], threadgroup float *room [[threadgroup(0)]]) { x[0] += 1.0f; }
"""


@pytest.fixture(scope="module")
def device(opened):
    return pipeline.open_device("checker", threads=1) if opened.name == "checker" else opened


@pytest.fixture(scope="module")
def kernels(device):
    return device.core.compile(SOURCE)


@pytest.fixture
def x(device):
    return device.core.buffer(4 * ROWS)


def floats(buffer):
    return np.frombuffer(buffer, np.float32)


def adding(device, kernels, x, times=1, label="adding"):
    """A chain of `times` dispatches, each of which waits for the one before."""
    add = kernels.kernel("add")
    constants = (1, add.pack("args", {"rows": ROWS}))
    dispatch = _core.Dispatch(add, [(0, x, 0, 4 * ROWS)], constants, (1, ROWS, 1), 1, rows_member="rows")
    return device.core.chain([dispatch] * times, label)


def expected(runs, times=1):
    """Row i of each run has its number of rows added, if it has that row."""
    total = np.zeros(ROWS, np.float32)
    for rows in runs:
        rows = min(rows or ROWS, ROWS)
        total[:rows] += times * rows
    return total.tolist()


def test_more_numbers_of_rows_than_are_kept_are_in_flight(device, kernels, x):
    chain = adding(device, kernels, x, times=3)
    order = [*range(1, ROWS + 1), 0, *range(ROWS, 0, -1), 5, 5, 99]
    runs = [chain.commit(rows) for rows in order]
    for run in runs:
        run.wait()
    assert len(order) > 2 * KEPT and floats(x).tolist() == expected(order, times=3)


def test_runs_outlive_what_the_chain_keeps_and_the_chain(device, kernels, x):
    chain = adding(device, kernels, x, times=20)
    order = [7, *range(10, 10 + KEPT + 1), 7]
    runs = [chain.commit(rows) for rows in order]
    chain.close()
    del chain
    for run in runs:
        run.wait()
    assert floats(x).tolist() == expected(order, times=20)


def test_threads_commit_one_chain_with_other_rows(device, kernels, x):
    chain = adding(device, kernels, x, times=2)
    order = [[1 + (3 * thread + i) % ROWS for i in range(40)] for thread in range(4)]
    together, failed = threading.Barrier(4), []

    def work(mine):
        together.wait()
        try:
            for rows in mine:
                chain.run(rows)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in order]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert floats(x).tolist() == expected(sum(order, []), times=2)


def test_the_second_dispatch_waits_for_the_first(device, kernels, x):
    """Two threads would run them at the same time."""
    slow = _core.Dispatch(kernels.kernel("slow"), [(0, x, 0, 4)])
    copy = _core.Dispatch(kernels.kernel("copy"), [(0, x, 0, 4), (1, x, 4, 4)])
    chain, seen = device.core.chain([slow, copy]), np.frombuffer(x, np.uint32)
    for _ in range(10):
        chain.run()
        assert seen[0] == seen[1] != 0


def test_a_trace_computes_what_a_run_does(device, kernels, x):
    chain = adding(device, kernels, x, times=2)
    for rows in (0, 1, ROWS - 1, ROWS, 3):
        floats(x)[:] = 0
        assert len(chain.trace(rows)) == 2
        assert floats(x).tolist() == expected([rows], times=2)


@once
def test_commands_are_recorded_once_per_number_of_rows(device, kernels, x):
    """On the checker they are not recorded: its encoders tell more than commands could."""
    twice = device.core.chain([_core.Dispatch(kernels.kernel("twice"), [(0, x, 0, 4)])] * 2, "twice")
    before = device.core.allocated
    twice.run()
    recorded = device.core.allocated - before
    assert (recorded > 0) == (device.name != "checker")
    for rows in (0, 1, 2, 99):  # its dispatches do not go by rows
        twice.run(rows)
    assert device.core.allocated == before + recorded
    twice.close()
    assert device.core.allocated == before

    chain = adding(device, kernels, x)
    chain.run(0)
    keep_stages(device)
    before = device.core.allocated
    chain.run(ROWS)
    chain.run(ROWS + 1)
    assert device.core.allocated == before  # these are all rows
    sizes = []
    for rows in (*range(1, 2 * KEPT), 2 * KEPT - 1, 2 * KEPT - 2, KEPT):
        chain.run(rows)
        sizes.append(device.core.allocated - before)
    each_takes = sizes[0]
    assert each_takes > 0
    assert sizes == [each_takes * min(rows, KEPT) for rows in range(1, 2 * KEPT)] + [each_takes * KEPT] * 3


def test_the_numbers_of_rows_that_ran_last_are_kept(device, kernels, x):
    """A run keeps what it executes: what is prepared anew meanwhile takes memory of its own."""
    chain = adding(device, kernels, x)
    chain.run()
    keep_stages(device)
    before, held = device.core.allocated, chain.commit(1)
    each_takes = device.core.allocated - before
    for rows in range(2, 3 * KEPT):
        chain.run(rows)
        chain.run(1)
    assert device.core.allocated - before == each_takes * KEPT
    for rows in range(2, 2 + KEPT):
        chain.run(rows)
    assert device.core.allocated - before == each_takes * (KEPT + 1)
    held.close()
    assert device.core.allocated - before == each_takes * KEPT


@once
def test_what_cannot_be_recorded_is_refused_each_time(device, kernels, x):
    """The device refuses it when it is encoded, or recorded; nothing of it stays."""
    room = [_core.Dispatch(kernels.kernel("shared"), [(0, x, 0, 4)], threadgroup_memory={0: 1 << 16})]
    bad, good = device.core.chain(room, "bad"), adding(device, kernels, x)
    good.run()
    floats(x)[:] = 0
    before = device.core.allocated
    for rows in (0, 1, 0):
        with pytest.raises(BuildError, match="'bad': 65536 bytes at index 0 are more than maxThreadgroupMemoryLength"):
            bad.run(rows)
        good.run()
    assert device.core.allocated == before
    assert floats(x).tolist() == expected([0, 0, 0])
