"""Every family against transformers: logits at all positions, greedy texts; as safetensors, MLX 4-bit and GGUF."""

import numpy as np
import pytest
from families import files, golden
from families.cases import CASES
from families.grid import tokens

import pipeline as p
from pipeline.generate import Finished, Generator, Request

# Of logits of deviation 3. What rounding in f32 leaves is a hundredth of it; a wrong term, rope or scale is a thousand times as much.
BOUND = 1e-3


@pytest.fixture(scope="session", params=CASES)
def name(request):
    return request.param


@pytest.fixture(scope="session")
def folder(name, tmp_path_factory):
    """transformers' checkpoint in float32."""
    folder = tmp_path_factory.mktemp(name)
    files.write_folder(folder, name, golden.load(name)[0])
    return folder


@pytest.fixture
def model(folder, processor):
    with p.open_checkpoint(folder) as checkpoint:
        yield p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == ()


def check(model, name, rows=golden.POSITIONS):
    """The logits of a pass of `rows` rows at a time; the largest error."""
    expected = golden.load(name)[1]
    found = model.logits(tokens(golden.POSITIONS, expected.shape[1]), rows, "f32")
    error = np.abs(found - expected).max(-1)
    assert error.max() < BOUND, f"off by {error.max():.3g}, first at position {np.argmax(error >= BOUND)}"
    return error.max()


@pytest.mark.parametrize("rows", [golden.POSITIONS, 7, 1])
def test_logits(model, name, rows):
    """A prompt at once, in parts, and step by step."""
    check(model, name, rows)


def test_greedy(model, name):
    expected = golden.load(name)[0]
    prompt = tokens(golden.POSITIONS, expected["config"]["vocab_size"])[: golden.PROMPT]
    generator = Generator(model, kv_cache="f32", context=golden.PROMPT + golden.GREEDY)
    events = list(generator.run([Request(0, tuple(prompt), golden.GREEDY)]))
    (finished,) = (event for event in events if isinstance(event, Finished))
    assert finished.tokens == expected["greedy"]
