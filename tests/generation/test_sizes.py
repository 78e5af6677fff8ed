"""What a generator takes of a device's own memory: sizes that follow from what is left, and refusals with the figures.

The checker stands for such a device. Its memory is as small as a test says, and what is allocated counts.
"""

import re

import pytest

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.device.device import Device
from pipeline.errors import UsageError
from pipeline.generation.settings import Sampling
from pipeline.models import fitting
from pipeline.models.fitting import MARGIN, Room

MIB = 1 << 20
POSITION = 4096  # bytes of the built-in model's cache per position in f16


class Limited:
    """The checker with a memory of its own of `total` bytes."""

    def __init__(self, monkeypatch):
        self.device = p.open_device("checker", threads=32)
        self.total = 1 << 40
        self._before = self.device.core.allocated
        monkeypatch.setattr(Device, "total_bytes", lambda device: self.total)
        monkeypatch.setattr(Device, "free_bytes", lambda device: max(self.total - self.taken, 0))

    @property
    def taken(self):
        return self.device.core.allocated - self._before


@pytest.fixture
def limited(monkeypatch):
    return Limited(monkeypatch)


@pytest.fixture
def model(limited):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        yield p.load_model(checkpoint, device=limited.device)


def needs(model, batch_size, context, **options):
    """The figures of a refusal of that size, in MiB: (weights, scratch, all)."""
    room = Room.of(model)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UsageError) as refused:
        patch.setattr(Device, "free_bytes", lambda device: room.weights)
        p.Generator(model, batch_size=batch_size, context=context, **options)
    cache, weights, scratch = re.search(
        r"takes ([\d.]+ [KM]iB), the weights ([\d.]+ MiB), scratch memory ([\d.]+ [KM]iB); ", str(refused.value)
    ).groups()
    return mib(cache), mib(weights), mib(scratch)


def mib(text):
    number, unit = text.split()
    return float(number) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]


def requests(model, count, context):
    return [p.Request(i, tuple(range(1, context // 2)), context) for i in range(count)]


def test_a_size_that_was_asked_for_is_taken_or_refused(limited, model):
    cache, weights, scratch = needs(model, 2, 512)
    assert cache == 2 * 512 * POSITION / MIB and weights == pytest.approx(model.unplaced_bytes / MIB, abs=0.1)
    need = int((cache + weights + scratch) * MIB)
    limited.total = need - MIB // 2
    before = limited.taken
    with pytest.raises(
        UsageError, match=r"^a KV cache of 2 × 512 positions .* a smaller context: (\d+) fits"
    ) as refused:
        p.Generator(model, batch_size=2, context=512)
    assert limited.taken == before and model.unplaced_bytes  # nothing was allocated, nothing went up
    fits = int(re.search(r"context: (\d+) fits", str(refused.value))[1])
    assert 0 < fits < 512
    assert p.Generator(model, batch_size=2, context=fits).context == fits


def test_what_fits_by_the_figures_fits_in_memory(limited, model):
    """A whole batch runs to the end of its context, and never more is allocated than the device has."""
    cache, weights, scratch = needs(model, 3, 40)
    limited.total = int((cache + weights + scratch + 0.2) * MIB)
    generator = p.Generator(model, batch_size=3, context=40)
    most = []
    for _ in generator.run(requests(model, 3, 40)):
        most.append(limited.taken)
    print(max(most), limited.total)
    assert limited.total - MIB // 2 < max(most) <= limited.total
    assert limited.device.findings == []


@pytest.mark.parametrize("kv_cache", ["f16", "q8"])
def test_a_context_that_nobody_named_is_what_is_left(limited, model, kv_cache):
    _, weights, scratch = needs(model, 1, model.context, kv_cache=kv_cache)
    room = 600 * model.cache(1, 1, kv_cache).nbytes / MIB
    limited.total = int((weights + scratch + room) * MIB / (1 - MARGIN))
    notes = []
    generator = p.Generator(model, kv_cache=kv_cache, notice=notes.append)
    assert generator.context == 512  # 600, in whole units
    (note,) = notes
    assert note.startswith("room for 1 × 512 positions, not 1 × 1,024 positions: the device checker has ")
    assert ("--kv-cache q8" in note) == (kv_cache == "f16") and "scratch memory" in note and "\n" not in note
    assert limited.taken <= limited.total


def test_a_context_that_fits_is_the_models(limited, model):
    notes = []
    assert p.Generator(model, notice=notes.append).context == model.context == 1024 and notes == []


def test_too_little_for_any_context_is_refused(limited, model):
    limited.total = model.unplaced_bytes + MIB // 2
    with pytest.raises(UsageError, match=r"^a KV cache of 1 × 256 positions in f16 takes 1.0 MiB, the weights"):
        p.Generator(model)
    limited.total = model.unplaced_bytes - 1
    with pytest.raises(
        UsageError, match=r"^the weights take [\d.]+ MiB; the device checker has [\d.]+ MiB; use a check"
    ):
        p.Generator(model)
    assert model.unplaced_bytes


def test_the_batch_is_lowered_before_the_context(limited, model):
    cache, weights, scratch = needs(model, 16, 512)
    few = needs(model, 3, 512)
    limited.total = int((weights + few[0] + scratch) * MIB / (1 - MARGIN)) + POSITION
    notes = []
    generator = p.Generator(model, batch_size=16, context=512, least=(1, 100), notice=notes.append)
    assert (generator.batch_size, generator.context) == (3, 512)
    assert notes[0].startswith("room for 3 × 512 positions, not 16 × 512 positions: ")


def test_then_the_context_is_lowered_down_to_the_least(limited, model):
    _, weights, scratch = needs(model, 2, 512)
    notes = []
    for positions, found in ((300, 256), (260, 256), (250, 100), (101, 100)):
        limited.total = int((weights + scratch) * MIB / (1 - MARGIN)) + int(2 * positions * POSITION / (1 - MARGIN))
        generator = p.Generator(model, batch_size=2, context=512, least=(2, 100), notice=notes.append)
        assert (generator.batch_size, generator.context) == (2, found)
        weights = Room.of(model).weights  # they are there from now on
        limited._before = limited.device.core.allocated
    assert len(notes) == 4
    limited.total = int(scratch * MIB / 2)
    with pytest.raises(UsageError, match=r"^a KV cache of 2 × 100 positions"):
        p.Generator(model, batch_size=2, context=512, least=(2, 100))


def test_filters_and_penalties_count(limited, model):
    plain = needs(model, 4, 64)[2]
    assert needs(model, 4, 64, sampling=Sampling(top_k=5, presence_penalty=1.0, logprobs=8))[2] > plain


def test_the_machine_lowers_a_context_that_nobody_named(monkeypatch):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        model = p.load_model(checkpoint, device=p.open_device("cpu", threads=1))
        machine = 1024 * POSITION - 1  # less than the cache that the model's context would take
        monkeypatch.setattr(fitting, "machine_bytes", lambda: machine + 0)
        with pytest.raises(
            UsageError, match=r"1 × 1,024 positions .*; this machine has 4.0 MiB; give a smaller context"
        ):
            p.Generator(model, context=1024)
        assert p.Generator(model, context=1023).context == 1023  # the weights are the file's
        notes = []
        assert p.Generator(model, notice=notes.append).context == 256  # the least
        assert notes[0].startswith("room for 1 × 256 positions, not 1 × 1,024 positions: this machine has 4.0 MiB; ")
