"""What a generator takes of a device's own memory: its size follows from what is left, and a refusal takes nothing.

The checker stands for such a device. Its memory is as small as a test says, and what is allocated counts.
"""

import gc
import re
import time

import pytest
from support.limited import MIB, Limited, mib
from support.stages import keep_stages

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import UsageError
from pipeline.generation.settings import Sampling

POSITION = 4096  # bytes of the built-in model's cache per position in f16


@pytest.fixture
def limited(monkeypatch):
    device = p.open_device("checker", threads=32)
    keep_stages(device)  # the host's on a GPU
    return Limited(monkeypatch, device)


@pytest.fixture
def model(limited):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        yield p.load_model(checkpoint, device=limited.device)


def needs(limited, model, batch_size, context, **options):
    """The figures of a refusal of that size in bytes: (cache, weights, scratch)."""
    before, limited.left = limited.left, model.unplaced_bytes
    with pytest.raises(UsageError) as refused:
        p.Generator(model, batch_size=batch_size, context=context, **options)
    limited.left = before
    pattern = r"takes ([\d.]+ \wiB) in \w+, the weights ([\d.]+ \wiB), scratch memory ([\d.]+ \wiB); "
    return [mib(text) * MIB for text in re.search(pattern, str(refused.value)).groups()]


def test_a_size_that_was_named_is_taken_or_refused_before_anything_goes_up(limited, model):
    cache, weights, scratch = needs(limited, model, 2, 512)
    assert cache == 2 * 512 * POSITION and weights == pytest.approx(model.unplaced_bytes, abs=MIB / 10)
    before, total = limited.taken, model.unplaced_bytes
    limited.left = int(cache + weights + scratch) - MIB // 2
    with pytest.raises(
        UsageError, match=r"^a KV cache of 2 × 512 positions .*; give --context (\d+) or less, "
    ) as refused:
        p.Generator(model, batch_size=2, context=512, progress=lambda *each: pytest.fail("weights go up"))
    assert limited.taken == before and model.unplaced_bytes == total
    fits = int(re.search(r"--context (\d+)", str(refused.value))[1])
    assert 400 < fits < 512
    assert p.Generator(model, batch_size=2, context=fits).context == fits
    assert limited.taken <= before + limited.left


@pytest.mark.parametrize("batch_size, context", [(2, 6), (5, 300)])
def test_the_figures_are_what_is_allocated(limited, model, batch_size, context):
    cache, weights, scratch = needs(limited, model, batch_size, context)
    assert weights == pytest.approx(model.unplaced_bytes, abs=MIB / 10)
    generator = p.Generator(model, batch_size=batch_size, context=context)
    parts = generator.scheduler._parts
    assert parts.prefill.chain and parts.mixed.chain  # which prompts would make
    before = limited.taken
    del generator, parts  # nothing else changes meanwhile, as memory for transfers would
    gc.collect()
    goes, end = cache + scratch, time.monotonic() + 5
    while before - limited.taken < goes - MIB / 5 and time.monotonic() < end:
        time.sleep(0.001)  # a thread of the device lets go of what runs used
    assert before - limited.taken == pytest.approx(goes, abs=MIB / 5)  # they are rounded, and leave out what is small


@pytest.mark.parametrize("kv_cache", ["f16", "q8"])
def test_a_context_that_nobody_named_is_what_is_left(limited, model, kv_cache):
    _, weights, scratch = needs(limited, model, 1, model.context, kv_cache=kv_cache)
    limited.left = int(weights + scratch) + 600 * model.cache(1, 1, kv_cache).nbytes
    lines = []
    generator = p.Generator(model, kv_cache=kv_cache, notice=lines.append)
    assert generator.context == 512  # 600, in whole units
    assert len(lines) == 1 and lines[0].startswith("KV cache: lowered from 1 × 1,024 positions to 1 × 512 positions, ")
    assert limited.taken <= limited.left


def test_a_context_that_fits_is_the_models(limited, model):
    lines = []
    assert p.Generator(model, notice=lines.append).context == model.context == 1024 and lines == []


def test_the_batch_is_lowered_before_the_context(limited, model):
    few, wanted = needs(limited, model, 3, 512), {"batch_size": 16, "context": 512}
    limited.left = int(sum(few)) + POSITION * 100
    lines = []
    generator = p.Generator(model, **wanted, least=(1, 100), notice=lines.append)
    assert (generator.batch_size, generator.context) == (3, 512)
    assert lines[0].startswith("KV cache: lowered from 16 × 512 positions to 3 × 512 positions, ")


def test_filters_and_penalties_count(limited, model):
    plain = needs(limited, model, 4, 64)[2]
    assert needs(limited, model, 4, 64, sampling=Sampling(top_k=5, presence_penalty=1.0, logprobs=8))[2] > plain
