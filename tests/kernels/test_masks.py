"""Masks of tokens, on every device: a token whose bit is 0 is not drawn, whatever else a row has."""

import numpy as np
import pytest
from support.axes import each

import pipeline as p
from pipeline.generation.sampler import Features, Sampler
from pipeline.generation.settings import Sampling
from pipeline.graph.transfers import Writes
from pipeline.models.row_state import Rows

pytestmark = pytest.mark.one_processor


def draw(device, logits, masks, temperature=0.0, settings=(), seed=0):
    """(tokens, logprobs) of rows; a mask of None is none."""
    rows, vocab = logits.shape
    state, settings = Rows.zeros(rows), settings or [Sampling()] * rows
    sampler = Sampler(Features.of(settings, True), rows, rows, 16, vocab)
    pipe = p.Pipeline(device, rows=rows)
    chain = pipe.build(sampler.add(pipe, pipe.input("logits", (rows, vocab)), state))
    with Writes(device) as writes:
        writes.add(state.temperatures, [temperature] * rows)
        writes.add(state.seeds, [(seed + i, 0) for i in range(rows)])
        writes.add(state.slots, list(range(rows)))
        for row, (mask, each) in enumerate(zip(masks, settings)):
            sampler.seat(writes, row, each, [0], 1, row, mask is not None)
    words = sampler.masks.numpy(device)
    words[:] = 0xA5A5A5A5  # what nobody wrote is not read
    for row, mask in enumerate(masks):
        if mask is not None:
            padded = np.zeros(words.shape[1] * 32, bool)
            padded[:vocab] = mask
            words[row] = np.packbits(padded, bitorder="little").view(np.uint32)
    result = np.asarray(chain.run(logits=logits)).reshape(rows, 2)
    return result[:, 0].astype(int), result[:, 1].view(np.float32)


def oracle(logits, mask):
    return int(np.argmax(logits if mask is None else np.where(mask, logits, -np.inf)))


@each("vocab, share", [1, 31, 33, 100, 1000, 8192, 8225, 20000], [0.5, 0.02, 1.0])
def test_the_largest_that_is_allowed(device, vocab, share):
    rng = np.random.default_rng(vocab)
    logits = rng.standard_normal((4, vocab)).astype(np.float32)
    masks = [rng.random(vocab) < share for _ in range(4)]
    masks[1] = None
    for mask in masks:
        if mask is not None:
            mask[rng.integers(vocab)] = True
    tokens, logprobs = draw(device, logits, masks)
    assert tokens.tolist() == [oracle(*pair) for pair in zip(logits, masks)]
    exact = logits.astype(np.float64)
    totals = exact.max(1) + np.log(np.exp(exact - exact.max(1, keepdims=True)).sum(1))
    expected = exact[np.arange(4), tokens] - totals  # under the model: masks do not change it
    np.testing.assert_allclose(logprobs, expected, atol=1e-4)


@each(
    "settings", [Sampling(), Sampling(top_k=3), Sampling(top_p=0.8), Sampling(min_p=0.1), Sampling(logit_bias={2: 9.0})]
)
def test_draws_stay_within(device, settings):
    rng = np.random.default_rng(3)
    logits = np.repeat(rng.standard_normal((1, 90)).astype(np.float32), 24, 0)
    mask = np.zeros(90, bool)
    mask[[4, 31, 32, 64, 89]] = True
    tokens, _ = draw(device, logits, [mask] * 24, 1.5, [settings] * 24, 5)
    assert set(tokens) <= {4, 31, 32, 64, 89} and len(set(tokens)) > (
        1 if settings.top_k or settings == Sampling() else 0
    )


def test_one_token_and_none(device):
    """A mask with one token leaves no choice. One with none fails its row alone, with the number of the step."""
    logits, only = np.zeros((2, 70), np.float32), np.arange(70) == 69
    assert draw(device, logits, [only, only])[0].tolist() == [69, 69]
    tokens, steps = draw(device, logits, [only, only & False])
    assert tokens.tolist() == [69, p._core.NONE] and steps.view(np.uint32)[1] > 0
