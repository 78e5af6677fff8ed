"""The whole forward pass of the built-in model on the checker: prefill, decode and sampling, every layer."""

import pytest

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.generation.settings import Sampling

PROMPT, COUNT = [1, 2, 3], 3  # a prefill, and two decode steps


def tokens_on(device, *settings, prompt=PROMPT, count=COUNT):
    """The tokens of each of the settings (temperature, Sampling)."""
    with p.open_checkpoint(builtin_model()) as checkpoint:
        model = p.load_model(checkpoint, device=device)
        model.end_tokens = ()
        requests = [
            p.Request(i, prompt, count, temperature, 7, sampling) for i, (temperature, sampling) in enumerate(settings)
        ]
        events = list(p.Generator(model, batch_size=len(requests)).run(requests))
        return [
            event.tokens
            for event in sorted((e for e in events if isinstance(e, p.generation.Finished)), key=lambda e: e.index)
        ]


@pytest.mark.parametrize("threads", [1024, 96])
def test_the_storyteller_is_clean_and_says_what_the_cpu_says(threads):
    checker = p.open_device("checker", threads=threads)
    assert tokens_on(checker, (0.0, Sampling())) == tokens_on(p.open_device("cpu"), (0.0, Sampling()))
    assert [str(finding) for finding in checker.findings] == []


@pytest.mark.parametrize("rows", [3, 5])
def test_a_prefill_that_fills_no_tile_is_clean(rows):
    """Projections take four rows at a time; what is not a row of the run is neither read nor written."""
    checker, prompt = p.open_device("checker", threads=64), [9, 8, 7, 6, 5, 4][: rows + 1]  # the last one is decoded
    expected = tokens_on(p.open_device("cpu"), (0.0, Sampling()), prompt=prompt, count=1)
    assert tokens_on(checker, (0.0, Sampling()), prompt=prompt, count=1) == expected
    assert [str(finding) for finding in checker.findings] == []


def test_a_batch_with_settings_of_its_own_is_clean():
    settings = [
        (0.0, Sampling()),
        (0.8, Sampling(top_k=40, top_p=0.9)),
        (0.9, Sampling(repetition_penalty=1.2, logprobs=3)),
    ]
    checker, few = p.open_device("checker", threads=64), {"prompt": [1, 2], "count": 2}
    assert tokens_on(checker, *settings, **few) == tokens_on(p.open_device("cpu"), *settings, **few)
    assert [str(finding) for finding in checker.findings] == []
