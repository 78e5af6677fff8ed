"""Systems that end command buffers which take too long: a run is cut into several, and a step of decoding stays one.

OB_LIMITS=watchdogThreadgroups=N plays such a system: a command buffer of more threadgroups fails, as Apple's do, and a
threadgroup takes a microsecond of the device's clock, so that the cuts are the same in each run."""

import numpy as np
import pytest

import pipeline as p
from pipeline import _core
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import RunError

pytestmark = pytest.mark.one_processor

STEPS = 40
SOURCE = """
#include <metal_stdlib>
using namespace metal;
kernel void add(device float *x [[buffer(0)]], uint3 at [[threadgroup_position_in_grid]]) { x[at.y] += 1.0f; }
"""


# The checker encodes each dispatch where cpu has recorded commands; it takes its time, and gets fewer rows.
@pytest.fixture(params=[("cpu", 4096), ("checker", 64)], ids=["cpu", "checker"])
def watched(request, monkeypatch):
    """A function that makes a chain on a device with so many threadgroups, per row, for a command buffer."""
    name, rows = request.param

    def adding(times, less=0):
        monkeypatch.setenv("OB_LIMITS", f"watchdogThreadgroups={int(times * rows) - less}")
        return Adding(p.open_device(name, threads=1), rows)

    return adding


class Adding:
    """A chain of STEPS dispatches over all rows, each of which waits for the one before."""

    def __init__(self, device, rows=4096):
        add = device.core.compile(SOURCE).kernel("add")
        self.device, self.rows, self.x = device, rows, device.core.buffer(4 * rows)
        dispatch = _core.Dispatch(add, [(0, self.x, 0, 4 * rows)], None, (1, rows, 1), 1)
        self.chain = device.core.chain([dispatch] * STEPS, "adding")

    def run(self, rows=0):
        """How many command buffers it took, and what it added to the first row and the last."""
        x = np.frombuffer(self.x, np.float32)
        before, (first, last) = self.device.command_buffers, x[[0, -1]]
        self.chain.run(rows)
        return self.device.command_buffers - before, (x[0] - first, x[-1] - last)


def test_a_long_run_is_several_command_buffers_and_a_short_one_is_one(watched):
    adding = watched(24)  # half of what is allowed holds 12 dispatches of all rows
    for _ in range(3):  # by what was estimated, and by what was measured
        assert adding.run() == (4, (STEPS, STEPS))
    assert adding.run(1) == (1, (STEPS, 0))
    assert adding.run(16) == (1, (STEPS, 0))
    assert adding.run(adding.rows - 1) == (4, (STEPS, 0))


def test_where_nothing_is_watched_a_run_is_one_command_buffer(monkeypatch):
    monkeypatch.delenv("OB_LIMITS", raising=False)
    assert Adding(p.open_device("cpu", threads=1)).run() == (1, (STEPS, STEPS))


def test_a_dispatch_that_takes_too_long_by_itself_says_what_helps(watched):
    adding = watched(1, less=1)
    with pytest.raises(RunError, match=r"it took too long, and the system ended it; fewer rows .*--prompt-rows"):
        adding.run()
    assert adding.run(adding.rows // 2 - 1) == (STEPS, (STEPS, 0))  # nothing is lost with it


def test_as_much_as_is_allowed_is_allowed(watched):
    assert watched(1).run() == (STEPS, (STEPS, STEPS))


def test_more_than_the_device_is_fast_with_is_said_before_it_runs(monkeypatch):
    def said(limits):
        monkeypatch.setenv("OB_LIMITS", limits)
        lines = []
        with p.open_checkpoint(builtin_model()) as checkpoint:
            model = p.load_model(checkpoint, device=p.open_device("cpu"))
            p.Generator(model, notice=lines.append)
        return lines

    (line,) = said("recommendedMaxWorkingSetSize=4000000")
    assert line.startswith("memory: the weights take 8.2 MiB and the KV cache ")
    assert "the device cpu is fast with up to 3.8 MiB in use, so this will be slow; use a checkpoint of fewer" in line
    assert said("recommendedMaxWorkingSetSize=4000000000") == []


def test_a_story_is_the_same_and_each_of_its_tokens_is_one_command_buffer(monkeypatch):
    def story():
        device = p.open_device("cpu")
        with p.open_checkpoint(builtin_model()) as checkpoint:
            generator = p.Generator(p.load_model(checkpoint, device=device))
            tokens, buffers = [], [device.computing_command_buffers]
            for event in generator.run([p.Request(0, [7 * i % 500 + 1 for i in range(500)], max_tokens=6)]):
                tokens += [event.token] if hasattr(event, "token") else []
                buffers.append(device.computing_command_buffers)
            return tokens, np.diff(buffers).tolist()

    plain, one = story()
    monkeypatch.setenv("OB_LIMITS", "watchdogThreadgroups=20000")
    cut, several = story()
    assert plain == cut and len(plain) == 6
    assert one[0] == 1 and several[0] > 10  # the prompt
    assert one[2:] == several[2:] and set(several[2:]) <= {0, 1}


def test_only_the_kernels_that_chains_run_are_compiled(monkeypatch):
    """Of several hundred. Where a pipeline state is made of a kernel, a GPU's driver compiles it."""
    run = set()
    monkeypatch.setattr(p.Device, "prepare", lambda self, names: run.update(names))
    device = p.open_device("cpu", threads=1)
    with p.open_checkpoint(builtin_model()) as checkpoint:
        p.Generator(p.load_model(checkpoint, device=device))
    made = set(device._kernels)
    assert run <= made and len(made - run) <= 2  # the package's own
    assert len(made) < 40 < 200 < len(device._library().kernel_names)
