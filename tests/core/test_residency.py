"""Systems that keep buffers within the device's reach from run to run: macOS 15 has residency sets. OB_LIMITS=macOS=15
plays such a system; what a set has is read from the core."""

import gc

import numpy as np
import pytest

import pipeline as p
from pipeline import _core
from pipeline.checkpoints.storyteller import builtin_model

pytestmark = pytest.mark.one_processor

SOURCE = """
#include <metal_stdlib>
using namespace metal;
kernel void add(device float *x [[buffer(0)]], device const float *y [[buffer(1)]],
                uint3 at [[threadgroup_position_in_grid]]) { x[at.x] += y[at.x]; }
"""
FLOATS = 16384  # 64 KiB


@pytest.fixture(params=["cpu", "checker"])
def adding(request, monkeypatch):
    """A function that opens the device of a system and gives it with a way to make chains."""

    def opened(limits):
        monkeypatch.setenv("OB_LIMITS", limits)
        return Adding(p.open_device(request.param, threads=1))

    return opened


class Adding:
    """Chains that add one buffer to another."""

    def __init__(self, device):
        self.core = device.core
        self.kernel = self.core.compile(SOURCE).kernel("add")

    def buffers(self, count):
        found = [self.core.buffer(4 * FLOATS) for _ in range(count)]
        for number, buffer in enumerate(found):
            np.frombuffer(buffer, np.float32)[:] = number
        return found

    def chain(self, to, of):
        bindings = [(0, to, 0, 4 * FLOATS), (1, of, 0, 4 * FLOATS)]
        return self.core.chain([_core.Dispatch(self.kernel, bindings, None, (4, 1, 1), 1)], "adding")

    @property
    def resident(self):
        return self.core.resident


def test_what_a_chain_that_runs_again_binds_stays(adding):
    adding = adding("macOS=15")
    x, y, z = adding.buffers(3)
    chain = adding.chain(x, y)
    chain.run()
    assert adding.resident == 0  # a chain may run once
    chain.run()
    both = adding.resident
    assert 2 * 4 * FLOATS <= both < 3 * 4 * FLOATS
    chain.run()
    assert adding.resident == both
    assert np.frombuffer(x, np.float32)[:4].tolist() == [3.0] * 4

    other = adding.chain(z, y)  # y is held by two
    other.run()
    other.run()
    assert 4 * FLOATS <= adding.resident - both < 2 * 4 * FLOATS
    del chain
    assert 2 * 4 * FLOATS <= adding.resident < 3 * 4 * FLOATS
    del other
    assert adding.resident == 0


def test_an_older_system_keeps_nothing(adding):
    adding = adding("macOS=14")
    x, y = adding.buffers(2)
    chain = adding.chain(x, y)
    for _ in range(3):
        chain.run()
    assert adding.resident == 0
    assert np.frombuffer(x, np.float32)[:4].tolist() == [3.0] * 4


def test_no_more_stays_than_the_device_is_fast_with(adding):
    """What does not fit is brought for each run, as without a set."""
    limit = 3 * 4 * FLOATS // 2
    adding = adding(f"macOS=15 recommendedMaxWorkingSetSize={limit}")
    x, y, z = adding.buffers(3)
    chain, other = adding.chain(x, y), adding.chain(z, y)
    for _ in range(2):
        chain.run()
        other.run()
    assert 4 * FLOATS <= adding.resident <= limit
    assert [np.frombuffer(buffer, np.float32)[0] for buffer in (x, z)] == [2.0, 4.0]
    del chain
    del other
    assert adding.resident == 0


def test_a_models_weights_stay_until_it_goes(monkeypatch):
    monkeypatch.setenv("OB_LIMITS", "macOS=15")
    device = p.open_device("cpu")
    with p.open_checkpoint(builtin_model()) as checkpoint:
        generator = p.Generator(p.load_model(checkpoint, device=device))
        requests = [p.Request(0, (0, 819, 779, 259), max_tokens=6)]
        told = [event.token for event in generator.run(requests) if hasattr(event, "token")]
        weights = checkpoint.nbytes
        assert weights <= device.core.resident <= device.core.allocated
        del generator
        gc.collect()
        assert device.core.resident == 0
    monkeypatch.setenv("OB_LIMITS", "macOS=14")
    device = p.open_device("cpu")
    with p.open_checkpoint(builtin_model()) as checkpoint:
        generator = p.Generator(p.load_model(checkpoint, device=device))
        assert told == [event.token for event in generator.run(requests) if hasattr(event, "token")]
        assert device.core.resident == 0
