"""The storyteller on its own stories against the oracle in float64, for every instruction set, with and without
native kernels; the oracle against transformers."""

import sys

import numpy as np
import pytest
from support import accuracy
from support import reference as ref
from support.reference_model import ReferenceModel, int8_blocks, kl_divergence

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model

MEAN_KL = 1e-4  # nats: what native kernels and a KV cache of f16 may cost on average
FLOAT32_KL = 1e-10  # nats: what the shaders may, with a KV cache of f32; unless rounding turns a choice of experts
TRANSFORMERS = 5e-5  # of a log-probability: transformers computes in float32, and golden.json has five decimals
SETTINGS = [("", "1", "f16"), ("", "1", "f32")] if sys.platform == "darwin" else accuracy.cpu_settings()

BEST = next(setting for setting in reversed(SETTINGS) if setting[1] == "1")


@pytest.fixture(scope="module")
def checkpoint():
    with p.open_checkpoint(builtin_model()) as opened:
        yield opened


@pytest.fixture(scope="module")
def oracle():
    return ReferenceModel(builtin_model())


@pytest.fixture(scope="module")
def texts(checkpoint):
    """The same for every setting, so that the oracle reads them once."""
    found = accuracy.stories(checkpoint)
    assert np.array(found).size >= 2000 and len({*map(tuple, found)}) == len(found)
    return found


@pytest.fixture(scope="module")
def expected(oracle, texts):
    return np.stack([oracle.logits(text) for text in texts])


@pytest.fixture(
    scope="module",
    params=SETTINGS,
    ids=lambda each: "-".join((each[0] or "best", "native" if each[1] == "1" else "shaders", each[2])),
)
def setting(request):
    return request.param


@pytest.fixture(scope="module")
def model(setting, checkpoint):
    device = p.open_device() if sys.platform == "darwin" else accuracy.open_cpu(*setting[:2])
    return p.load_model(checkpoint, device=device)


def test_the_oracle_gives_the_log_probabilities_of_transformers(oracle):
    for entry in accuracy.GOLDEN:
        logits = oracle.logits((entry["prompt_ids"] + entry["tokens"])[:-1])[len(entry["prompt_ids"]) - 1 :]
        found = np.take_along_axis(ref.log_softmax(logits), np.array(entry["top5_ids"]), -1)
        np.testing.assert_allclose(found, entry["top5_logprobs"], atol=TRANSFORMERS, rtol=0)


@pytest.mark.parametrize("path", accuracy.PATHS)
def test_distributions(model, setting, texts, expected, path):
    isa, _, kv_cache = setting
    count = len(texts)
    if isa == "baseline" or kv_cache == "f32":  # slow, no native kernels; a bound with room
        count = 1
    elif path == "decode" and setting != BEST:  # the best one has all texts, and test_rows.py holds rows apart
        count = 2
    divergence = kl_divergence(expected[:count], accuracy.PATHS[path](model, texts[:count], kv_cache))
    assert divergence.mean() <= (MEAN_KL if kv_cache == "f16" else FLOAT32_KL)


@pytest.mark.parametrize("rows", [1, 128])
def test_greedy_tokens_are_the_golden_ones(model, setting, rows):
    equal, compared = accuracy.golden_tokens(lambda tokens: model.logits(tokens, rows, setting[2]))
    assert equal == compared and compared > 0.9 * sum(len(entry["tokens"]) for entry in accuracy.GOLDEN)


def test_activations_of_eight_bits_would_be_noticed(oracle, texts, expected):
    rounded = np.stack([oracle.logits(text, int8_blocks) for text in texts[:3]])
    assert kl_divergence(expected[:3], rounded).mean() > 3 * MEAN_KL
