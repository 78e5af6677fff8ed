"""The tests of the benchmark have a cache folder of their own, a tiny shape and a machine that counts as idle."""

import pytest
from support.bench import TINY

from pipeline.benching import bandwidth, machine, shapes, weights


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A cache of its own, a tiny shape, and a small buffer to read."""
    monkeypatch.setenv("OB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(shapes.SHAPES, "tiny", TINY)
    monkeypatch.setattr(bandwidth, "LEAST_BYTES", 1 << 20)
    monkeypatch.setattr(bandwidth, "CACHES", 0)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    """The tiny shape cut to one layer and 256 tokens, written once."""
    folder = tmp_path_factory.mktemp("models")
    shape = shapes.Shape("tiny", TINY | {"num_hidden_layers": 1, "vocab_size": 256})
    return weights.ensure_checkpoint(shape, lambda line: None, folder)


@pytest.fixture(autouse=True)
def idle(monkeypatch):
    """A machine that others may use without a word about it."""
    monkeypatch.setattr(machine, "busy_cores", lambda: 0.0)
