"""Rows with grammars: the device draws none but tokens that the mask allows, whatever runs beside them."""

import itertools

import numpy as np
import pytest
from support.axes import each

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.generation.requests import Failed, Finished, Token
from pipeline.generation.scheduler import Scheduler
from pipeline.generation.settings import Sampling

pytestmark = pytest.mark.one_processor


class Steps:
    """A grammar whose token number i is one of `allowed[i]`; it is complete behind the last one."""

    def __init__(self, allowed, broken=None):
        self.allowed, self.broken, self.begun = allowed, broken, 0

    def begin(self):
        self.begun += 1
        return Place(self)


class Place:
    def __init__(self, grammar):
        self.grammar, self.at, self.error, self.filled = grammar, 0, None, 0

    def fill(self, words):
        self.filled += 1
        words[:] = 0
        if self.grammar.broken == self.at:
            self.error = "it is too complex"
            return
        for token in self.grammar.allowed[self.at]:
            words[token // 32] |= np.uint32(1 << token % 32)

    def take(self, token):
        assert token in self.grammar.allowed[self.at]
        self.at += 1
        return self.at == len(self.grammar.allowed)


@pytest.fixture(scope="module")
def model(processor):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        yield p.load_model(checkpoint, device=processor)


def run(model, requests, **options):
    generator = p.Generator(model, context=400, **options)
    events = list(generator.run(requests))
    return {event.index: event for event in events if isinstance(event, (Finished, Failed))}, generator


def lists(seed, count, vocab, size=3):
    rng = np.random.default_rng(seed)
    return [sorted(rng.choice(np.arange(1, vocab), size, replace=False).tolist()) for _ in range(count)]


@each(
    "temperature, settings", [0.0, 1.0], [Sampling(), Sampling(top_k=5, repetition_penalty=1.4), Sampling(logprobs=2)]
)
def test_a_text_follows_its_grammar(model, temperature, settings):
    grammar = Steps(lists(1, 12, model.vocab_size))
    request = p.Request(0, (5, 6, 7), 50, temperature, 3, settings, grammar=grammar)
    ends, _ = run(model, [request])
    assert ends[0].reason == "stop" and len(ends[0].tokens) == 12
    assert all(token in allowed for token, allowed in zip(ends[0].tokens, grammar.allowed))
    assert np.isfinite(ends[0].logprobs).all() and max(ends[0].logprobs) <= 0
    if not temperature and settings == Sampling():  # the most probable of those that are allowed, under the model
        scored = p.score(model, [[5, 6, 7, token] for token in grammar.allowed[0]])
        best = max(range(3), key=lambda i: scored[i].logprobs[-1])
        assert ends[0].tokens[0] == grammar.allowed[0][best]
        assert ends[0].logprobs[0] == pytest.approx(scored[best].logprobs[-1], abs=1e-4)


def test_a_bias_does_not_lift_a_mask(model):
    grammar = Steps([[9, 4095], [64, 4095], [1, 31, 32]])
    request = p.Request(0, (5,), 9, 0.0, 0, Sampling(logit_bias={77: 1e6, 9: 50.0}), grammar=grammar)
    tokens = run(model, [request])[0][0].tokens
    assert tokens[0] == 9 and 77 not in tokens and len(tokens) == 3


@each("prompt_rows, batch", [256, 7, 0], [2, 3])
def test_neighbours_do_not_notice(model, prompt_rows, batch):
    """Rows with grammars and without, of any length, that join and leave: each text is what it is alone."""
    made = []
    for i in range(8):
        grammar = Steps(lists(i, 5 + 3 * i, model.vocab_size, 4)) if i % 2 else None
        tokens = tuple(range(1 + i, 3 + 17 * i + 1))
        made.append(p.Request(i, tokens, 20, 1.0, i, Sampling(top_p=0.9) if i % 3 else Sampling(), grammar=grammar))
    ends, _ = run(model, made, batch_size=batch, prompt_rows=prompt_rows)
    for request in made:
        assert run(model, [request])[0][request.index].tokens == ends[request.index].tokens


def test_samples_have_places_of_their_own(model):
    grammar = Steps(lists(4, 9, model.vocab_size, 8))
    ends, _ = run(model, [p.Request(i, (5, 6), 20, 1.0, i, grammar=grammar) for i in range(6)], batch_size=3)
    assert grammar.begun == 6 and len({tuple(end.tokens) for end in ends.values()}) > 1


def test_no_mask_is_made_twice_and_no_step_is_wasted(model):
    """A step with a grammar is not committed ahead, and one mask per token is made."""
    grammar = Steps(lists(2, 10, model.vocab_size))
    ends, generator = run(model, [p.Request(0, (5, 6, 7), 50, grammar=grammar)])
    assert generator.stats.command_buffers == len(ends[0].tokens) == 10
    scheduler = Scheduler(model, context=100)
    handle = scheduler.submit(p.Request(0, (5, 6, 7), 6, grammar=(counted := Steps(lists(2, 10, model.vocab_size)))))
    places = []
    begin = counted.begin
    counted.begin = lambda: places.append(begin()) or places[-1]
    while handle.end is None:
        scheduler.step()
    assert handle.end.reason == "length" and len(places) == 1 and places[0].filled == 6


def test_a_grammar_that_cannot_go_on_fails_its_row_alone(model):
    good, bad = Steps(lists(3, 8, model.vocab_size)), Steps(lists(5, 8, model.vocab_size), broken=3)
    requests = [p.Request(0, (5, 6), 20, grammar=good), p.Request(1, (5, 6), 20, grammar=bad), p.Request(2, (5, 6), 8)]
    ends, _ = run(model, requests, batch_size=3)
    assert isinstance(ends[1], Failed) and "too complex" in ends[1].error
    assert len(ends[0].tokens) == 8 and ends[2].tokens == run(model, [requests[2]])[0][2].tokens


def test_given_up_blocks_do_not_lose_the_place(model, monkeypatch):
    """Where the cache is full, a sequence is computed again, and goes on in its grammar where it was."""
    from support.scheduling import few_blocks

    requests = [p.Request(i, tuple(range(1, 40 + i)), 100, 1.0, i, grammar=Steps(lists(i, 90, 4096))) for i in range(4)]
    alone = [run(model, [request])[0][request.index].tokens for request in requests]
    few_blocks(monkeypatch, model, 6)
    ends, generator = run(model, requests, batch_size=4)
    assert generator.stats.preemptions > 0
    assert [ends[i].tokens for i in range(4)] == alone


def test_end_tokens_end_a_text_that_may_end(model):
    end = model.end_tokens[0]
    grammar = Steps([[7], [end], [9]])
    ends, _ = run(model, [p.Request(0, (5,), 9, 1.0, grammar=grammar)])
    assert ends[0].tokens == [7] and ends[0].reason == "stop"


def test_prompts_are_scored_beside_a_grammar(model):
    scored = Sampling(prompt_logprobs=1)
    plain = run(model, [p.Request(0, (5, 6, 7, 8), 4, sampling=scored)])[0][0]
    both = p.Request(0, (5, 6, 7, 8), 4, sampling=scored, grammar=Steps(lists(1, 4, model.vocab_size)))
    ends, _ = run(model, [both, p.Request(1, (5, 6, 7, 8), 4, sampling=scored)], batch_size=2)
    assert ends[0].prompt_logprobs == ends[1].prompt_logprobs == plain.prompt_logprobs
    assert ends[1].tokens == plain.tokens and len(list(itertools.chain(*both.grammar.allowed))) == 12


def test_events_come_as_for_other_rows(model):
    generator = p.Generator(model, context=100)
    events = list(generator.run([p.Request(0, (5, 6), 20, grammar=Steps(lists(1, 5, model.vocab_size)))]))
    assert [event.token for event in events if isinstance(event, Token)] == events[-1].tokens
