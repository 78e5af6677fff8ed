"""The size of a generator that a device's own memory has room for."""

import itertools
import re
from types import SimpleNamespace

import pytest

from pipeline.errors import UsageError
from pipeline.models import fitting
from pipeline.models.fitting import CONTEXT_UNIT, MARGIN, Size, fit

WEIGHTS, POSITION = 50_000, 10  # bytes


def cache_bytes(size):
    return size.batch_size * size.context * POSITION


def scratch_bytes(size):
    return 1000 + 300 * size.batch_size + size.context // 8


def needs(size):
    return WEIGHTS + cache_bytes(size) + scratch_bytes(size)


def model(left, weights=WEIGHTS, unified=False):
    """A model whose device has `left` bytes to give."""
    free = -(-left * 32 // 31)  # and the margin
    assert int(free * (1 - MARGIN)) in (left, left + 1)
    device = SimpleNamespace(name="gpu", unified=unified, free_bytes=lambda: free, total_bytes=lambda: 1 << 30)
    device.core = SimpleNamespace(working_set=weights + cache_bytes(Size(4, 1000)))
    return SimpleNamespace(device=device, unplaced_bytes=weights, mapped_bytes=weights, repacked_bytes=0)


def fitted(left, wanted, least, dtype="f16", **others):
    return fit(model(left, **others), Size(*wanted), Size(*least), dtype, cache_bytes, scratch_bytes)


def contexts(wanted, least):
    """Those to which a context may be lowered, the largest first."""
    units = range(wanted // CONTEXT_UNIT * CONTEXT_UNIT, least - 1, -CONTEXT_UNIT)
    return [*(n for n in units if n < wanted), least]


@pytest.mark.parametrize(
    "wanted, least", [((8, 2000), (1, 300)), ((8, 2000), (8, 300)), ((8, 2000), (2, 2000)), ((1, 700), (1, 256))]
)
def test_the_largest_size_that_fits_is_found(wanted, least):
    """The batch first, then the context, as if each size were tried."""
    batches = [(n, wanted[1]) for n in range(wanted[0], least[0] - 1, -1)]
    order = [Size(*each) for each in (*batches, *((least[0], n) for n in contexts(wanted[1], least[1])))]
    for left in range(WEIGHTS, needs(order[0]) + 3000, 997):
        found = next((size for size in order if needs(size) <= left), None)
        # A smaller context needs a little less scratch memory, which the search leaves free.
        near = next((size for size in order if needs(size) + wanted[1] // 8 <= left), None)
        if found is None:
            with pytest.raises(UsageError, match=r"^a KV cache of "):
                fitted(left, wanted, least)
            continue
        size, line = fitted(left, wanted, least)
        assert size in (found, near) and needs(size) <= left
        assert (line == "") == (size == Size(*wanted))


def test_what_was_lowered_is_said_with_the_figures():
    size, line = fitted(needs(Size(3, 1500)), (4, 1500), (1, 100))
    assert size == Size(3, 1500) and line == (
        "KV cache: lowered from 4 × 1,500 positions to 3 × 1,500 positions, which takes 43.9 KiB in f16, the weights "
        "48.8 KiB, scratch memory 2.0 KiB; the device gpu has 94.8 KiB left of 1.0 GiB; --kv-cache q8 has room for more"
    )
    assert "q8 has" not in fitted(needs(Size(3, 1500)), (4, 1500), (1, 100), "q8")[1]


def test_what_was_named_is_kept_to_the_byte_or_refused():
    for batch_size, context in itertools.product((1, 4), (1, 255, 256, 2000)):
        named, all_of_it = (batch_size, context), needs(Size(batch_size, context))
        assert fitted(all_of_it, named, named) == (Size(*named), "")
        with pytest.raises(UsageError) as refused:
            fitted(all_of_it - 2, named, named)
        assert "\n" not in str(refused.value)
        fits = re.search(r"give --context (\d+) or less", str(refused.value))
        assert (fits is not None) == (context > 1)
        if fits:
            assert 0 < int(fits[1]) < context
            fitted(all_of_it - 2, (batch_size, int(fits[1])), (batch_size, int(fits[1])))


@pytest.mark.parametrize(
    "batch_size, dtype, cures",
    [
        (
            4,
            "f16",
            "give --context 99 or less, or a smaller --batch-size, or --kv-cache q8, or a checkpoint of fewer bits",
        ),
        (1, "q8", "give --context 99 or less, or a checkpoint of fewer bits"),
    ],
)
def test_a_refusal_has_the_figures_and_what_helps(batch_size, dtype, cures):
    left = needs(Size(batch_size, 100)) - 10
    with pytest.raises(UsageError) as refused:
        fitted(left, (batch_size, 100), (batch_size, 100), dtype)
    figures = {4: ("3.9 KiB", "2.2", "54.9"), 1: ("1000 B", "1.3", "51.1")}[batch_size]
    words = "a KV cache of {} × 100 positions takes {} in {}, the weights 48.8 KiB, scratch memory {} KiB; "
    words = words.format(batch_size, figures[0], dtype, figures[1])
    assert str(refused.value) == f"{words}the device gpu has {figures[2]} KiB left of 1.0 GiB; {cures}"


def test_weights_alone_may_be_too_much():
    with pytest.raises(
        UsageError, match=r"^the weights take 48.8 KiB; the device gpu has 48.8 KiB left of 1.0 GiB; use"
    ):
        fitted(WEIGHTS - 2, (1, 100), (1, 1))
    with pytest.raises(
        UsageError, match=r"^a KV cache of 1 × 1 positions.* of 1.0 GiB; give a checkpoint of fewer bits$"
    ):
        fitted(WEIGHTS + 500, (1, 100), (1, 1))


def test_weights_that_are_there_count_no_more():
    size = Size(2, 300)
    assert fitted(needs(size) - WEIGHTS, (2, 300), (2, 300), weights=0) == (size, "")


def test_memory_that_is_the_machines_lowers_nothing(monkeypatch):
    size = Size(4, 1000)
    monkeypatch.setattr(fitting, "machine_bytes", lambda: cache_bytes(size))
    unasked = lambda size: pytest.fail("nothing is planned")  # noqa: E731
    shared = model(100, unified=True)
    assert fit(shared, size, Size(1, 1), "f16", cache_bytes, unasked) == (size, "")
    shared.device.core.working_set -= 1
    lowered, line = fit(shared, size, Size(1, 1), "f16", cache_bytes, unasked)
    assert lowered == size and line.startswith("memory: the weights take 48.8 KiB and the KV cache ")
    monkeypatch.setattr(fitting, "machine_bytes", lambda: cache_bytes(size) - 1)
    with pytest.raises(
        UsageError, match=r"^a KV cache of 4 × 1,000 positions in f16 takes 39.1 KiB, this machine has "
    ):
        fit(shared, size, Size(1, 1), "f16", cache_bytes, unasked)
