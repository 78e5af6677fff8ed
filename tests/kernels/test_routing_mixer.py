"""The routing of SparseMixer: the two largest logits, each among those that are near it."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import reference as ref
from support.kernels import ELEMENTARY, activations, assert_close, assert_rows_alone, run

import pipeline as p
from pipeline.errors import RunError, ShapeError
from pipeline.graph.tensors import Storage

pytestmark = pytest.mark.one_processor  # it has no native kernel


def mixed(logits, distance):
    """(ids, weights, margin) in float64; margin: how near a choice or a distance is to another one."""
    ids, weights, margin = [], [], np.inf
    for row in logits.astype(np.float64):
        left, picked, shares = row.copy(), [], []
        for _ in range(2):
            best = int(np.argmax(left))
            with np.errstate(invalid="ignore", divide="ignore"):
                far = (left[best] - row) / np.maximum(np.abs(row), left[best])
            margin = min(
                margin, np.nanmin(np.abs(far - distance)[np.isfinite(left) & (row != left[best])], initial=np.inf)
            )
            near = np.where((far > distance) | ~np.isfinite(left), 0.0, np.exp(left - left[best]))
            picked.append(best)
            shares.append(1 / near.sum())
            left[best] = -np.inf
        ordered = np.sort(row)[::-1]
        margin = min(margin, np.min(ordered[:2] - ordered[1:3], initial=np.inf) if len(row) > 2 else np.inf)
        ids.append(picked)
        weights.append(shares)
    return np.array(ids, np.uint32), np.array(weights), margin


def check(device, logits, distance):
    wanted, shares, margin = mixed(logits, distance)
    if margin < 1e-6:  # f32 does not tell such logits apart
        return False
    ids, weights = run(device, len(logits), lambda pipe, logits: pipe.mixer_routing(logits, distance), logits=logits)
    np.testing.assert_array_equal(ids, wanted)
    assert_close(weights, shares, 4 * ELEMENTARY * shares)
    return True


@pytest.mark.parametrize("experts", [2, 3, 16, 33, 100])
@pytest.mark.parametrize("distance", [0.0, 0.02, 0.5, 3.0])
def test_mixer(device, experts, distance):
    assert check(device, activations(np.random.default_rng(experts), 6, experts), distance)


@given(experts=st.integers(2, 40), distance=st.floats(0, 2, width=32), seed=st.integers(0, 99))
def test_mixer_of_any_size(device, experts, distance, seed):
    assume(check(device, 4 * activations(np.random.default_rng(seed), 3, experts), distance))


def test_logits_below_zero_and_alike(device):
    """The distance is relative to the larger of |x| and the largest logit, which may be below 0; 0 / 0 is near."""
    logits = np.array([[-1.0, -1.01, -3.0, -8.0], [0.0, 0.0, 0.0, -1.0]], np.float32)
    ids, weights = run(device, 2, lambda pipe, logits: pipe.mixer_routing(logits, 0.02), logits=logits)
    assert ids.tolist() == [[0, 1], [0, 1]]
    assert_close(weights, np.array([[1 / (1 + np.exp(-0.01)), 1.0], [1 / 3, 1 / 2]]), 1e-6)


def test_logits_that_are_no_numbers(device):
    """NaN is never chosen, and a row without a number fails."""
    logits = np.array([[np.nan, 2.0, np.nan], [1.0, np.nan, 3.0]], np.float32)
    ids, weights = run(device, 2, lambda pipe, logits: pipe.mixer_routing(logits, 0.02), logits=logits)
    assert ids.tolist() == [[1, ref.NONE], [2, 0]] and weights[0].tolist() == [1.0, 0.0]
    with pytest.raises(RunError, match="mixer_routing had nothing to choose from"):
        run(
            device,
            1,
            lambda pipe, logits: pipe.mixer_routing(logits, 0.02),
            logits=np.full((1, 3), -np.inf, np.float32),
        )


def test_rows_alone_and_in_a_batch(device):
    logits = activations(np.random.default_rng(1), 5, 16)
    assert_rows_alone(device, lambda pipe, logits: pipe.mixer_routing(logits, 0.5)[1], logits=logits)


def test_counts(device):
    logits, counts = activations(np.random.default_rng(3), 9, 7), Storage.zeros((7,), "u32")
    steps = lambda pipe, logits: pipe.mixer_routing(logits, 0.02, pipe.state("counts", counts))  # noqa: E731
    ids, _ = run(device, 9, steps, logits=logits)
    np.testing.assert_array_equal(counts.read(device), np.bincount(ids.reshape(-1), minlength=7))


def test_one_expert_is_refused():
    pipe = p.Pipeline(rows=2)
    with pytest.raises(ShapeError, match="top_k = 2 of 1 experts"):
        pipe.mixer_routing(pipe.input("logits", (2, 1)), 0.02)
