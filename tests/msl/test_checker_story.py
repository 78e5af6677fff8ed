"""The forward pass of the built-in model on the checker: prefill, decode and sampling. Two layers stand for all, which
run the same kernels; all of them run with -m exhaustive."""

import pytest
from support.checkpoints import short_storyteller

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.generation.settings import Sampling

PROMPT, COUNT = [1, 2, 3], 3  # a prefill, and two decode steps


@pytest.fixture(scope="module")
def short_model(tmp_path_factory):
    return short_storyteller(tmp_path_factory.mktemp("short") / "model")


def tokens_on(device, *settings, model, prompt=PROMPT, count=COUNT):
    """The tokens of each of the settings (temperature, Sampling)."""
    with p.open_checkpoint(model) as checkpoint:
        loaded = p.load_model(checkpoint, device=device)
        loaded.end_tokens = ()
        requests = [
            p.Request(i, prompt, count, temperature, 7, sampling) for i, (temperature, sampling) in enumerate(settings)
        ]
        events = list(p.Generator(loaded, batch_size=len(requests)).run(requests))
        return [
            event.tokens
            for event in sorted((e for e in events if isinstance(e, p.generation.Finished)), key=lambda e: e.index)
        ]


@pytest.mark.parametrize("threads", [1024, 96])
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_the_storyteller_is_clean_and_says_what_the_cpu_says(threads, whole, short_model):
    checker, model = p.open_device("checker", threads=threads), builtin_model() if whole else short_model
    expected = tokens_on(p.open_device("cpu"), (0.0, Sampling()), model=model)
    assert tokens_on(checker, (0.0, Sampling()), model=model) == expected
    assert [str(finding) for finding in checker.findings] == []


@pytest.mark.parametrize("rows", [3, 5])
def test_a_prefill_that_fills_no_tile_is_clean(rows, short_model):
    """Projections take four rows at a time; what is not a row of the run is neither read nor written."""
    checker, prompt = p.open_device("checker", threads=64), [9, 8, 7, 6, 5, 4][: rows + 1]  # the last one is decoded
    expected = tokens_on(p.open_device("cpu"), (0.0, Sampling()), model=short_model, prompt=prompt, count=1)
    assert tokens_on(checker, (0.0, Sampling()), model=short_model, prompt=prompt, count=1) == expected
    assert [str(finding) for finding in checker.findings] == []


def test_a_batch_with_settings_of_its_own_is_clean(short_model):
    settings = [
        (0.0, Sampling()),
        (0.8, Sampling(top_k=40, top_p=0.9)),
        (0.9, Sampling(repetition_penalty=1.2, logprobs=3)),
    ]
    checker, few = p.open_device("checker", threads=64), {"model": short_model, "prompt": [1, 2], "count": 2}
    assert tokens_on(checker, *settings, **few) == tokens_on(p.open_device("cpu"), *settings, **few)
    assert [str(finding) for finding in checker.findings] == []
