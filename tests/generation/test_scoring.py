"""Log-probabilities of prompts: each token's, beside rows that decode, whatever of it is in the cache already."""

import math

import numpy as np
import pytest
from support import reference as ref
from support.axes import each

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import PromptError, UsageError
from pipeline.generation.requests import Finished
from pipeline.generation.scheduler import Scheduler
from pipeline.generation.scoring import Perplexity, windows
from pipeline.generation.settings import Sampling
from pipeline.models.cache import Cache

# Scheduling is not about kernels.
pytestmark = pytest.mark.one_processor

# log(Σ exp) in f32, of logits that are the same bits.
LOGPROB = 1e-5


@pytest.fixture(scope="module")
def model(processor):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        yield p.load_model(checkpoint, device=processor)


def text(length, seed=0):
    return tuple(np.random.default_rng(seed).integers(0, 4096, length).tolist())


def expected(model, tokens):
    """By the logits of all positions, which the host reads."""
    return ref.log_softmax(model.logits(tokens).astype(np.float64))


def finished(events):
    return {event.index: event for event in events if isinstance(event, Finished)}


def run(scheduler):
    events = []
    while not scheduler.idle:
        events += scheduler.step()
    return finished(events)


def check(model, end, tokens, top=0, first=1):
    wanted = expected(model, tokens)
    places = np.arange(first, len(tokens))
    np.testing.assert_allclose(end.prompt_logprobs, wanted[places - 1, np.array(tokens)[places]], atol=LOGPROB)
    assert len(end.prompt_top) == (len(places) if top else 0)
    for place, pairs in zip(places, end.prompt_top):
        best = np.sort(wanted[place - 1])[::-1][:top]
        np.testing.assert_allclose([value for _, value in pairs], best, atol=LOGPROB)
        np.testing.assert_allclose(wanted[place - 1, [token for token, _ in pairs]], best, atol=LOGPROB)


@each("prompt_rows, top, kind", [256, 7, 0], [0, 3], [Sampling(), Sampling(top_k=5), Sampling(presence_penalty=1.0)])
def test_prompts_are_scored_beside_rows_that_decode(model, prompt_rows, top, kind):
    """Their log-probabilities, and the tokens of all, are what they are alone."""
    plain = [p.Request(index, text(30 + index, index), 40, 0.8, index, kind) for index in range(2)]
    scored = [
        p.Request(2, text(200, 2), 0, sampling=Sampling(prompt_logprobs=top)),
        p.Request(3, text(90, 3), 12, sampling=Sampling(prompt_logprobs=top)),
        p.Request(4, text(1, 4), 0, sampling=Sampling(prompt_logprobs=top)),
        p.Request(5, text(1, 5), 3, sampling=Sampling(prompt_logprobs=top)),
        p.Request(6, text(130, 6), 4, 0.8, 9, Sampling(prompt_logprobs=top, top_p=0.9), score_from=100),
    ]
    scheduler = Scheduler(model, batch_size=4, context=300, prompt_rows=prompt_rows)
    for request in (*plain, *scored):
        scheduler.submit(request)
    ends = run(scheduler)
    for request in (*plain, *scored):
        alone = p.Generator(model, context=300).run([request])
        assert ends[request.index] == finished(alone)[request.index]
    for request in scored:
        check(model, ends[request.index], request.tokens, top, request.score_from)
        assert len(ends[request.index].tokens) == request.max_tokens or ends[request.index].reason == "stop"
    assert not ends[0].prompt_logprobs and len(ends[0].tokens) > 5


@pytest.mark.parametrize("first", [1, 150, 192, 193])
def test_what_is_in_the_cache_loses_no_score(model, first):
    """A prompt whose beginning others computed is scored in full; only what is not to be scored is taken from there."""
    scheduler, common = Scheduler(model, batch_size=2, context=400), text(200)
    scheduler.submit(p.Request(0, (*common, 5), 4))
    run(scheduler)
    sampling = Sampling(prompt_logprobs=2)
    requests = [p.Request(1 + i, (*common, *text(40, i)), 2, sampling=sampling, score_from=first) for i in range(3)]
    before = scheduler.stats.prefix_tokens
    for request in requests:
        scheduler.submit(request)
    ends = run(scheduler)
    for request in requests:
        check(model, ends[request.index], request.tokens, 2, first)
    assert scheduler.stats.prefix_tokens - before == 3 * ((first - 1) // 64 * 64)


def test_memory_that_ends_loses_no_score(model, monkeypatch):
    """A sequence that gave up its blocks goes on where it was."""
    layers = model.cache_layers()
    monkeypatch.setattr(model, "end_tokens", ())

    def few(slots, context, *more):
        return Cache.paged(layers, slots, context, 9, *more)

    monkeypatch.setattr(model, "paged_cache", few)
    scheduler = Scheduler(model, batch_size=4, context=400, prompt_rows=16)
    requests = [
        p.Request(i, text(250 if i % 2 else 100, i), 60 if i % 2 else 150, sampling=Sampling(prompt_logprobs=i % 3))
        for i in range(6)
    ]
    for request in requests:
        scheduler.submit(request)
    ends = run(scheduler)
    assert scheduler.stats.preemptions > 0
    for request in requests:
        check(model, ends[request.index], request.tokens, request.sampling.prompt_logprobs)


def test_a_prompt_that_is_scored_alone_may_fill_the_context(model):
    (score,) = p.score(model, [text(50)], context=50)
    assert len(score.logprobs) == 49 and score.nll == pytest.approx(-sum(score.logprobs))
    with pytest.raises(PromptError, match="text 0: 51 prompt tokens do not fit a context of 50; use at most 50"):
        p.score(model, [text(51)], context=50)
    with pytest.raises(UsageError, match="max_tokens 0: impossible; give a whole number of at least 1"):
        p.Request(0, (1,), 0)
    with pytest.raises(UsageError, match="score_from 0: impossible"):
        p.Request(0, (1,), 0, sampling=Sampling(prompt_logprobs=0), score_from=0)
    with pytest.raises(UsageError, match="prompt_logprobs 65: impossible"):
        Sampling(prompt_logprobs=65)


@pytest.mark.parametrize("length, window, stride", [(1, 4, 2), (2, 4, 2), (5, 4, 4), (23, 8, 3), (24, 8, 8), (9, 2, 1)])
def test_windows_score_each_token_once(length, window, stride):
    found = [place for begin, end, first in windows(length, window, stride) for place in range(first, end)]
    left_out = range(0, length, window) if stride == window else [0]
    assert found == [place for place in range(length) if place not in left_out]
    for begin, end, first in windows(length, window, stride):
        assert begin < first < end <= begin + window


@pytest.mark.parametrize("window, stride", [(64, 64), (64, 20), (400, 100)])
def test_perplexity_is_that_of_the_logits(model, window, stride):
    tokens, nll, count = text(300), 0.0, 0
    for begin, end, first in windows(len(tokens), window, stride):
        wanted = expected(model, tokens[begin:end])
        for place in range(first, end):
            nll, count = nll - wanted[place - begin - 1, tokens[place]], count + 1
    found = p.perplexity(model, tokens, window=window, stride=stride, batch_size=3)
    assert found.tokens == count and found.nll == pytest.approx(nll, rel=1e-6)
    assert found.value == pytest.approx(math.exp(nll / count), rel=1e-6)


def test_windows_that_are_impossible_are_refused(model):
    with pytest.raises(UsageError, match="a window of 1 is not possible; give 2 to"):
        p.perplexity(model, (1, 2), window=1)
    with pytest.raises(UsageError, match="a stride of 9 is not possible; give 1 to 8, the window"):
        p.perplexity(model, (1, 2), window=8, stride=9)
    assert math.isnan(p.perplexity(model, (1,)).value) and Perplexity(1, 800.0).value == math.inf
