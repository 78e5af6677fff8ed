"""A chain that is run for fewer rows than it was made for: what kernels see of it."""

import itertools
import threading
from collections import Counter

import numpy as np
import pytest
from support.axes import axis, each
from support.processors import CHECKERS, PROCESSORS
from support.stages import keep_stages

import pipeline as p
from pipeline import _core
from pipeline.errors import BuildError

# Rows are counted by the core, in kernels that are not native.
pytestmark = pytest.mark.one_processor
SOURCE = """
#include <metal_stdlib>
using namespace metal;
struct Args { uint before; uint rows; float after; };
struct Short { uint rows; };
struct Other { float rows; };

// Adds what it sees to a list: out[0] counts, out[1] .. are the entries.
kernel void note(device uint *out [[buffer(0)]], constant Args &args [[buffer(1)]]) {
    out[1 + out[0]] = args.before == 7 && args.after == 0.5f ? args.rows : 99999;
    out[0] += 1;
}
kernel void note_short(constant Short &args [[buffer(0)]], device uint *out [[buffer(1)]]) {
    out[1 + out[0]] = args.rows;
    out[0] += 1;
}
kernel void note_other(device uint *out [[buffer(0)]], constant Other &args [[buffer(1)]]) {
    out[1 + out[0]] = uint(args.rows);
    out[0] += 1;
}
kernel void nothing(device uint *out [[buffer(0)]]) { out[0] += 0; }
"""
LENGTH = 4096


@pytest.fixture(scope="module")
def device(opened):
    """The device, with threadgroups of one thread: these kernels are for one."""
    yield p.open_device("checker", threads=1) if opened.name == "checker" else opened


@pytest.fixture(scope="module")
def library(device, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield device.core.compile(SOURCE)


class Notes:
    """A chain of one dispatch for each of `rows`, and the list that its runs make."""

    def __init__(self, device, library, *rows, member="rows"):
        self.out = device.core.buffer(4 * LENGTH)
        self.values = np.frombuffer(self.out, np.uint32)
        self.values[:] = 0
        kernel = library.kernel("note")
        made = [kernel.pack("args", {"before": 7, "rows": most, "after": 0.5}) for most in rows]
        self.chain = device.core.chain(
            [_core.Dispatch(kernel, [(0, self.out, 0, 4 * LENGTH)], (1, each), rows_member=member) for each in made]
        )

    def taken(self):
        """The list so far, which then is empty."""
        found = self.values[1 : 1 + self.values[0]].tolist()
        self.values[:] = 0
        return found


def test_kernels_see_the_rows_of_the_run(device, library):
    notes = Notes(device, library, 5)
    for rows in (0, 1, 2, 5, 4, 3, 0, 1):
        notes.chain.run(rows)
    assert notes.taken() == [5, 1, 2, 5, 4, 3, 5, 1]


def test_never_more_than_the_dispatch_was_made_for(device, library):
    notes = Notes(device, library, 3, 8, 1)
    for rows in (0, 2, 5, 8, 1000, 2**32 - 1):
        notes.chain.run(rows)
    assert notes.taken() == [3, 8, 1, 2, 2, 1, 3, 5, 1, 3, 8, 1, 3, 8, 1, 3, 8, 1]


def test_a_struct_of_which_no_member_is_named_stays(device, library):
    notes = Notes(device, library, 5, member=None)
    for rows in (0, 1, 4):
        notes.chain.run(rows)
    assert notes.taken() == [5, 5, 5]


def test_dispatches_with_other_structs_and_with_none(device, library):
    notes = Notes(device, library, 5)
    everything = (notes.out, 0, 4 * LENGTH)
    other, short = library.kernel("note_other"), library.kernel("note_short")
    chain = device.core.chain(
        [
            _core.Dispatch(library.kernel("nothing"), [(0, *everything)]),
            _core.Dispatch(other, [(0, *everything)], (1, other.pack("args", {"rows": 6.0}))),
            _core.Dispatch(short, [(1, *everything)], (0, short.pack("args", {"rows": 9})), rows_member="rows"),
            _core.Dispatch(short, [(1, *everything)], (0, short.pack("args", {"rows": 9}))),
        ]
    )
    for rows in (3, 0, 7):
        chain.run(rows)
    assert notes.taken() == [6, 3, 9, 6, 9, 9, 6, 7, 9]
    device.core.chain([_core.Dispatch(library.kernel("nothing"), [(0, *everything)])]).run(3)  # no struct at all


@each("opened", axis(PROCESSORS + CHECKERS, daily=PROCESSORS[-1:]), indirect=["opened"])
@pytest.mark.parametrize(
    "kernel, member, given",
    [
        ("note", "lines", True),
        ("note", "after", True),
        ("note", "", True),
        ("note_other", "rows", True),
        ("nothing", "rows", False),
    ],
)
def test_a_member_that_cannot_hold_rows(device, library, kernel, member, given):
    found = library.kernel(kernel)
    constants = (1, bytes(found.argument("args").size)) if given else None
    dispatch = _core.Dispatch(found, [(0, device.core.buffer(64), 0, 64)], constants, label="step", rows_member=member)
    with pytest.raises(
        BuildError, match=rf"^step \({kernel}\): its struct argument has no member '{member}' of type uint"
    ):
        device.core.chain([dispatch])


def test_runs_of_many_numbers_in_flight(device, library):
    notes = Notes(device, library, 200)
    order = [*range(1, 201), *range(200, 0, -1), *([1, 150, 0] * 30)]
    runs = [notes.chain.commit(rows) for rows in order]
    runs[-1].wait()
    assert notes.taken() == [rows or 200 for rows in order]
    assert all(run.done for run in runs)


def test_threads_that_commit_different_numbers(device, library):
    notes = Notes(device, library, 64)
    orders = [[1 + (7 * i + 5 * n) % 64 for i in range(100)] for n in range(6)]

    def work(order):
        for run in [notes.chain.commit(rows) for rows in order]:
            run.wait()

    threads = [threading.Thread(target=work, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(notes.taken()) == Counter(itertools.chain(*orders))


def test_memory_does_not_grow_with_the_numbers(device, library):
    notes = Notes(device, library, 1000)
    notes.chain.run()
    keep_stages(device)
    before = device.core.allocated
    notes.chain.run(1)
    each_takes = device.core.allocated - before
    for rows in range(2, 1001):
        notes.chain.run(rows)
    assert notes.taken() == [1000, *range(1, 1001)]
    assert each_takes > 0 and device.core.allocated - before == 8 * each_takes


def test_a_run_outlives_chain_and_kept_buffers(device, library):
    notes = Notes(device, library, 100)
    runs = [notes.chain.commit(rows) for rows in range(1, 51)]
    notes.chain.close()
    for run in runs:
        run.wait()
    assert notes.taken() == list(range(1, 51))


def test_a_trace_sees_the_rows(device, library):
    notes = Notes(device, library, 4, 6)
    notes.chain.trace(2)
    notes.chain.trace(5)
    notes.chain.trace()
    assert notes.taken() == [2, 2, 4, 5, 4, 6]


def test_a_tile_of_rows_ends_with_the_run(processor):
    """The rows after the last one of the run keep what they had, also in its tile."""
    pipe = p.Pipeline(processor, rows=7)
    x = pipe.input("x", (7, 64))
    y = pipe.linear(x, np.ones((32, 64), np.float32))
    chain = pipe.build(y)
    view, given = chain.view(y), np.arange(7, dtype=np.float32)[:, None] + np.zeros((7, 64), np.float32)
    for rows in (1, 2, 3, 5, 6, 7):
        view[:] = -1
        chain.run(rows=rows, x=given)
        assert (view[:rows] == 64 * given[:rows, :32]).all() and (view[rows:] == -1).all()
