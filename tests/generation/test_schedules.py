"""The scheduler against a model of it, over random schedules: requests of any kind arrive, are cancelled and share
beginnings, while memory ends. Two layers of the storyteller make a step short enough for hundreds of them."""

import dataclasses

import numpy as np
import pytest
from support.axes import each
from support.scheduling import check_blocks, check_nothing_is_lost, few_blocks, windowed

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.generation.requests import Failed, Finished, Prefilled, Token
from pipeline.generation.scheduler import Scheduler
from pipeline.generation.settings import Sampling

# Scheduling is not about kernels.
pytestmark = pytest.mark.one_processor
CONTEXT, LAYERS, KINDS = 300, 2, 24
SAMPLINGS = [
    Sampling(),
    Sampling(),
    Sampling(top_p=0.9, logprobs=2),
    Sampling(repetition_penalty=1.2, logit_bias={7: 1.5}),
    Sampling(prompt_logprobs=0),
    Sampling(prompt_logprobs=2, presence_penalty=0.5),
]


@pytest.fixture(scope="module")
def model(processor):
    """The first layers of the storyteller, which no text ends."""
    with p.open_checkpoint(builtin_model()) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        model.layers, model.config = model.layers[:LAYERS], dataclasses.replace(model.config, layers=LAYERS)
        model.end_tokens = ()
        yield model


def kinds():
    """The requests that schedules are made of: short and long, with beginnings in common."""
    rng = np.random.default_rng(5)
    beginnings = [rng.integers(1, 4096, 150).tolist() for _ in range(2)]
    made = []
    for index in range(KINDS):
        text = beginnings[index % 2][: int(rng.choice([0, 64, 129, 150]))] if index % 5 else []
        text = text + rng.integers(1, 4096, int(rng.choice([1, 2, 20, 63, 100]))).tolist()
        sampling, temperature = SAMPLINGS[index % len(SAMPLINGS)], 0.8 * (index % 3 == 1)
        scored = sampling.prompt_logprobs is not None
        most = 0 if scored and index % 4 == 0 else int(rng.choice([1, 5, 70, 200]))
        first = int(rng.integers(1, len(text) + 1)) if scored and index % 3 else 1
        made.append(p.Request(index, tuple(text), most, temperature, index, sampling, None, first))
    return made


def alone(model, requests, kv_cache):
    """What each request gives where nothing is shared and nothing else runs."""
    ends = {}
    generator = p.Generator(model, context=CONTEXT, kv_cache=kv_cache, shares=False)
    for request in requests:
        (ends[request.index],) = (e for e in generator.run([request]) if isinstance(e, Finished))
    return ends


class Expected:
    """The model: which requests are known, and what each has given so far."""

    def __init__(self, ends):
        self._ends = ends
        self._given = {}  # number of the request → its tokens, and tokens of its prompt
        self._over = set()
        self.handles = {}

    def submitted(self, number, handle, kind):
        self.handles[number] = handle, kind
        self._given[number] = [], [0]

    def stepped(self, scheduler, events):
        """Every event belongs to a request that has not ended, in order, and says what the request says alone."""
        for event in events:
            assert event.index not in self._over and not isinstance(event, Failed)
            (tokens, through), (handle, kind) = self._given[event.index], self.handles[event.index]
            end = self._ends[kind]
            if isinstance(event, Prefilled):
                through[0] += event.tokens
                assert event.tokens > 0 and through[0] <= len(handle.request.tokens)
            elif isinstance(event, Token):
                tokens.append(event.token)
                assert (event.token, event.logprob) == (end.tokens[len(tokens) - 1], end.logprobs[len(tokens) - 1])
            else:
                self._over.add(event.index)
                self._check_end(event, tokens, handle, end)
        # Those that run, or gave up their slots, joined in the order in which they came.
        batch = scheduler._batch
        running = [each.handle.number for each in batch.sequences]
        back = [each.handle.number for each in batch.returning]  # the youngest gave up first, and come back last
        known = running + back
        assert back == sorted(back) and (not back or max(running, default=-1) < back[0])
        waiting = [handle.number for handle in scheduler._waiting]
        assert waiting == sorted(waiting) and (not waiting or max(known, default=-1) < waiting[0])
        assert len(batch.sequences) <= scheduler.batch_size
        assert len(set(known)) == len(known)

    def _check_end(self, event, tokens, handle, end):
        assert event is handle.end and event.tokens == tokens
        count, scores = len(tokens), len(event.prompt_logprobs)
        assert event.logprobs == end.logprobs[:count] and event.top == end.top[:count]
        assert event.prompt_logprobs == end.prompt_logprobs[:scores]
        assert event.prompt_top == end.prompt_top[: len(event.prompt_top)]
        if event.reason != "cancelled":
            assert dataclasses.replace(event, index=end.index) == end
        else:
            assert handle.cancelled

    def all_over(self):
        return len(self._over) == len(self.handles)


@pytest.fixture(scope="module")
def known():
    return {}


@each(
    "windows, kv_cache, shares, batch, rows, seed",
    [0, 1, 2],
    ["f16", "q8"],
    [True, False],
    [1, 3, 5],
    [256, 7, 0, 64],
    range(24),
)
def test_any_schedule(model, known, monkeypatch, windows, kv_cache, shares, batch, rows, seed):
    if windows:
        windowed(monkeypatch, model, windows)
    if (windows, kv_cache) not in known:
        known[windows, kv_cache] = alone(model, kinds(), kv_cache)
    rng, all_kinds = np.random.default_rng(seed), kinds()
    few_blocks(monkeypatch, model, int(rng.integers(5, 10)))
    scheduler = Scheduler(model, batch_size=batch, context=CONTEXT, kv_cache=kv_cache, prompt_rows=rows, shares=shares)
    expected, quiet, before, count = Expected(known[windows, kv_cache]), 0, [], int(rng.integers(8, 25))
    while len(expected.handles) < count or not scheduler.idle:
        while len(expected.handles) < count and rng.random() < 0.2:
            number, kind = len(expected.handles), int(rng.integers(KINDS))
            request = dataclasses.replace(all_kinds[kind], index=number)
            expected.submitted(number, scheduler.submit(request), kind)
        if expected.handles and rng.random() < 0.03:
            scheduler.cancel(expected.handles[int(rng.integers(len(expected.handles)))][0])
        events = scheduler.step()
        expected.stepped(scheduler, events)
        if not scheduler._batch.in_flight:
            check_blocks(scheduler)
        now = [(each.handle.number, each.done, len(each.tokens)) for each in scheduler._batch.sequences]
        quiet, before = 0 if events or scheduler.idle or now != before else quiet + 1, now
        assert quiet < 3  # nothing stands still
    assert expected.all_over()
    check_nothing_is_lost(scheduler)
