"""The generator: what it refuses, what it says while it runs, and that rows and generators do not disturb each
other."""

import itertools
import threading

import numpy as np
import pytest
from support import reference as ref
from support.axes import each
from support.paths import golden
from support.stages import keep_stages

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import UsageError
from pipeline.generation.requests import Failed, Finished, Prefilled, Token
from pipeline.models.cache import NO_BLOCK

GOLDEN = golden("golden")["4bit"]
PROMPTS = [tuple(entry["prompt_ids"]) for entry in GOLDEN]
TOKENS = [tuple(entry["tokens"]) for entry in GOLDEN]

# Two scores of a draw nearer than this may fall either way: the logits of two chains differ by rounding.
NEAR_TIE = 1e-3

# Generation is not about kernels.
pytestmark = pytest.mark.one_processor


@pytest.fixture(scope="module")
def model(processor):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        model.end_tokens = ()
        yield model


def events_of(model, requests, **options):
    return list(p.Generator(model, **options).run(requests))


def finished(events):
    return {event.index: event for event in events if isinstance(event, Finished)}


# What is refused


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(max_tokens=0), "max_tokens 0: impossible; give a whole number of at least 1"),
        (dict(max_tokens=1.5), "max_tokens 1.5: impossible"),
        (dict(temperature=float("nan")), "temperature nan: impossible; give a number that is not NaN or inf"),
        (dict(temperature=float("inf")), "temperature inf: impossible"),
        (dict(temperature=-float("inf")), "temperature -inf: impossible"),
        (dict(temperature="1"), "temperature '1': impossible"),
        (dict(seed=-1), "seed -1: impossible"),
        (dict(seed=2**64), "seed 18446744073709551616: impossible"),
    ],
)
def test_impossible_requests(change, message):
    with pytest.raises(UsageError, match=message):
        p.Request(**{"index": 0, "tokens": (0,), "max_tokens": 5, **change})


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(context=0), "a context of 0 is not possible; the model has 1024"),
        (dict(context=1025), "a context of 1025 is not possible"),
        (dict(batch_size=0), "batch size 0 is not possible"),
        (dict(batch_size=1.5), "batch size 1.5 is not possible; use a whole number"),
        (dict(context=1.5), "context 1.5 is not possible; use a whole number"),
        (dict(kv_cache="bf16"), "a KV cache of bf16 is not possible; use one of f16, f32, q8"),
    ],
)
def test_impossible_generators(model, options, message):
    with pytest.raises(UsageError, match=message):
        p.Generator(model, **options)


def test_prompts_that_cannot_run_fail_alone(model):
    bad = [(), (0,) * 16, (0, 4096), (0, -1)]
    requests = [p.Request(i, tokens, 4) for i, tokens in enumerate([bad[0], PROMPTS[0], *bad[1:]])]
    events = events_of(model, requests, batch_size=2, context=16)
    failed = {event.index: event.error for event in events if isinstance(event, Failed)}
    assert failed == {
        0: "an empty prompt has nothing to continue; give at least one token",
        2: "16 prompt tokens do not fit a context of 16; use at most 15",
        3: "token 4096 is not in the vocabulary of 4096",
        4: "token -1 is not in the vocabulary of 4096",
    }
    assert finished(events)[1].tokens == list(TOKENS[0][:4])


# What it says


@pytest.mark.parametrize("batch_size", [1, 3])
def test_events_tell_the_whole_run(model, batch_size):
    generator = p.Generator(model, batch_size=batch_size)
    counts = [3, 1, 7, 5, 2]
    events = list(generator.run([p.Request(i, PROMPTS[i], n) for i, n in enumerate(counts)]))
    for i, n in enumerate(counts):
        mine = [event for event in events if event.index == i]
        fills, tokens, (end,) = ([e for e in mine if isinstance(e, kind)] for kind in (Prefilled, Token, Finished))
        assert mine == [*fills, *tokens, end]  # in this order
        assert sum(e.tokens for e in fills) == fills[-1].done == len(PROMPTS[i]) - 1 and fills[-1].total == len(
            PROMPTS[i]
        )
        assert [e.token for e in tokens] == end.tokens == list(TOKENS[i][:n]) and [
            e.logprob for e in tokens
        ] == end.logprobs
        assert end.reason == "length"
    stats = generator.stats
    assert stats.prompt_tokens == sum(len(PROMPTS[i]) for i in range(5))
    assert stats.generated_tokens == stats.decode_tokens == sum(counts)
    assert stats.command_buffers == stats.decode_steps and stats.readback_bytes == 8 * sum(counts)
    # Each token goes to 4 experts in each of 8 layers; a prompt's earlier ones end before the last layer's.
    prefilled = sum(len(PROMPTS[i]) - 1 for i in range(5))
    assert stats.expert_counts.sum(1).tolist() == [4 * (prefilled + sum(counts))] * 7 + [4 * sum(counts)]


def test_a_trace_has_every_dispatch_of_every_step(model):
    generator = p.Generator(model, trace=True)
    tokens = finished(generator.run([p.Request(0, PROMPTS[0], 3)]))[0].tokens
    events = generator.trace()
    assert tokens == list(TOKENS[0][:3])
    plan = generator._batch.parts.decode.chain.plan
    assert [(e.name, e.step) for e in events] == [(d.kernel, d.step) for d in plan.dispatches] * 3
    assert [e.command_buffer for e in events] == [i for i in range(3) for _ in plan.dispatches]
    assert all(e.end_seconds >= e.start_seconds for e in events)
    assert all(a.end_seconds <= b.start_seconds for a, b in itertools.pairwise(events))
    assert generator.explain() == str(plan)
    assert p.Generator(model).trace() == []


def test_one_token_prompts_need_no_prefill(model):
    events = events_of(model, [p.Request(0, (0,), 5)])
    assert not any(isinstance(event, Prefilled) for event in events)
    assert finished(events)[0].tokens == finished(events_of(model, [p.Request(0, (0,), 5)], batch_size=2))[0].tokens


# Draws


def test_draws_are_the_oracles_over_the_models_logits(model):
    seed, temperature = 2**63 + 12345, 0.8
    request = p.Request(0, PROMPTS[0], 40, temperature, seed)
    end = finished(events_of(model, [request]))[0]
    logits = model.logits(list(PROMPTS[0]) + end.tokens)[len(PROMPTS[0]) - 1 : -1].astype(np.float64)
    clear = 0
    for step, (row, token) in enumerate(zip(logits, end.tokens)):
        noise = ref.gumbel_noise(len(row), len(PROMPTS[0]) - 1 + step, (seed & 0xFFFFFFFF, seed >> 32))
        order = np.argsort(scores := row / temperature + noise)
        if scores[order[-1]] - scores[order[-2]] > NEAR_TIE:
            clear += 1
            assert token == order[-1]
        np.testing.assert_allclose(end.logprobs[step], ref.log_softmax(row)[token], atol=NEAR_TIE)
    assert clear > 35


def test_both_halves_of_a_seed_count(model):
    texts = {
        seed: tuple(finished(events_of(model, [p.Request(9, PROMPTS[1], 20, 1.0, seed)]))[9].tokens)
        for seed in (0, 1, 2**32, 2**32 + 1, 2**64 - 1)
    }
    assert len(set(texts.values())) == len(texts)
    assert texts[1] == tuple(finished(events_of(model, [p.Request(0, PROMPTS[1], 20, 1.0, 1)]))[0].tokens)


def test_greedy_and_drawn_rows_share_a_batch(model):
    requests = [
        p.Request(i, PROMPTS[i], 15, temperature, seed=i) for i, temperature in enumerate((0.0, 1.5, -1.0, 0.3))
    ]
    together = finished(events_of(model, requests, batch_size=4))
    for request in requests:
        assert together[request.index] == finished(events_of(model, [request]))[request.index]
    assert together[0].tokens == list(TOKENS[0][:15]) and together[2].tokens == list(TOKENS[2][:15])


# Steps in flight


class Watched:
    """A run that notes when it is waited for."""

    def __init__(self, run, log):
        self.run, self.log = run, log

    def wait(self):
        self.run.wait()
        self.log.append("wait")


def watch(generator, monkeypatch):
    """(what is committed and waited for, in order; the runs)."""
    log, runs, commit = [], [], generator._batch.parts.decode.chain.commit

    def noted(rows, copy):
        log.append("commit")
        runs.append(commit(rows, copy))
        return Watched(runs[-1], log)

    monkeypatch.setattr(generator._batch.parts.decode.chain, "commit", noted)
    return log, runs


def test_a_step_is_committed_before_the_one_before_is_waited_for(model, monkeypatch):
    generator = p.Generator(model, prompt_rows=0)
    log, _ = watch(generator, monkeypatch)
    list(generator.run([p.Request(0, PROMPTS[0], 5)]))
    assert log == ["commit", "commit", "wait", "commit", "wait", "commit", "wait", "commit", "wait", "wait"]


def test_no_step_goes_beyond_an_end_that_is_known(model, monkeypatch):
    """The shortest row's, by max_tokens or by the context."""
    generator = p.Generator(model, batch_size=2, context=len(PROMPTS[1]) + 4, prompt_rows=0)
    log, _ = watch(generator, monkeypatch)
    ends = finished(generator.run([p.Request(0, PROMPTS[0], 2), p.Request(1, PROMPTS[1], 99)]))
    assert [len(ends[i].tokens) for i in (0, 1)] == [2, 4]
    assert log == ["commit", "commit", "wait", "wait"] * 2


def test_a_run_that_is_left_has_nothing_in_flight(model, monkeypatch):
    generator = p.Generator(model, prompt_rows=0)
    _, runs = watch(generator, monkeypatch)
    run = generator.run([p.Request(0, PROMPTS[0], 20)])
    while not isinstance(next(run), Token):
        pass
    run.close()
    assert len(runs) == 3 and all(each.done for each in runs)
    assert generator.stats.command_buffers == 3 and generator.stats.decode_steps == 1


@each("batch_size, temperature", [1, 2, 3, 8], [0.0, 0.9])
def test_a_row_that_stops_disturbs_no_other(model, monkeypatch, batch_size, temperature):
    """The step ahead of a stop is wasted for its row alone, and whoever takes its place starts afresh."""
    requests = [p.Request(i, PROMPTS[i % 5], 30, temperature, seed=i) for i in range(10)]
    whole = {i: end.tokens for i, end in finished(events_of(model, requests, batch_size=1)).items()}
    stops = {min(whole[i], key=lambda token: sum(token in tokens for tokens in whole.values())) for i in (0, 3, 9)}
    wanted = {i: list(itertools.takewhile(lambda token: token not in stops, tokens)) for i, tokens in whole.items()}
    assert 0 < sum(wanted[i] == whole[i] for i in wanted) < 8  # some stop
    monkeypatch.setattr(model, "end_tokens", tuple(stops))
    generator = p.Generator(model, batch_size=batch_size)
    ends = finished(generator.run(requests))
    assert {i: end.tokens for i, end in ends.items()} == wanted
    assert all(end.reason == ("length" if len(end.tokens) == 30 else "stop") for end in ends.values())
    stats, stopped = generator.stats, [end for end in ends.values() if end.reason == "stop"]
    assert stats.generated_tokens == sum(map(len, wanted.values()))
    assert stats.decode_tokens == stats.generated_tokens + len(stopped)
    if batch_size == 1:  # a step ahead of each stop, but for the first and the last token's
        ahead = sum(0 < len(end.tokens) < 29 for end in stopped)
        assert stats.command_buffers == stats.decode_steps + ahead and stats.decode_steps == stats.decode_tokens


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_row_that_its_request_ends_takes_no_token_more(model, batch_size):
    """`ends` sees every token once and in order, none of the step that was wasted."""
    whole = {i: finished(events_of(model, [p.Request(i, PROMPTS[i], 20)]))[i].tokens for i in range(5)}
    seen = {i: [] for i in range(5)}

    def ends_after(i, count):
        return lambda token: seen[i].append(token) or len(seen[i]) == count

    counts = [7, 1, 20, 19, 30]
    requests = [p.Request(i, PROMPTS[i], 20, ends=ends_after(i, count)) for i, count in enumerate(counts)]
    ends = finished(events_of(model, requests, batch_size=batch_size))
    for i, count in enumerate(counts):
        assert ends[i].tokens == seen[i] == whole[i][:count]
        assert ends[i].reason == ("stop" if count <= 20 else "length")


# Rows and generators apart


def test_a_spoiled_row_fails_alone_and_names_the_step(model):
    generator = p.Generator(model, batch_size=2)
    run = generator.run([p.Request(i, PROMPTS[i], 20) for i in range(3)])
    events = list(itertools.islice((event for event in run if isinstance(event, Token) and event.index == 1), 1))
    slot = int(generator._batch.parts.seats.rows.slots.read(model.device)[1])
    cache = generator._batch.parts.cache
    keys, table = cache.keys[3], cache.table(3).storage.read(model.device)
    for block in [block for block in table[slot].tolist() if block != NO_BLOCK]:
        keys.write(model.device, np.full(keys.shape[1:], np.nan), block)
    events += list(run)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.index == 1
    assert failed.error.startswith("layers.3.router had nothing to choose from: its input holds no number")
    for i in (0, 2):  # the one beside it, and the one that takes its slot: no NaN stays in the cache
        assert finished(events)[i].tokens == list(TOKENS[i][:20])


def test_a_run_that_is_left_early_leaves_nothing_behind(model):
    generator = p.Generator(model, batch_size=2)
    requests = [p.Request(i, PROMPTS[i], 20) for i in range(3)]
    for events in (1, 3, 9):
        run = generator.run(requests)
        list(itertools.islice(run, events))
        run.close()
    again = finished(generator.run(requests))
    assert {i: tuple(end.tokens) for i, end in again.items()} == {i: TOKENS[i][:20] for i in range(3)}


def test_a_generator_refuses_a_run_within_a_run(model):
    generator = p.Generator(model)
    run = generator.run([p.Request(0, PROMPTS[0], 5)])
    events = [next(run)]
    with pytest.raises(UsageError, match="this Generator runs already; end or close that run first"):
        next(generator.run([p.Request(1, PROMPTS[1], 5)]))
    events += list(run)  # undisturbed
    assert finished(events)[0].tokens == list(TOKENS[0][:5])
    assert finished(generator.run([p.Request(1, PROMPTS[1], 5)]))[1].tokens == list(TOKENS[1][:5])


def test_generators_of_one_model_in_threads_of_their_own(model):
    texts = {}

    def tell(i):
        texts[i] = finished(events_of(model, [p.Request(i, PROMPTS[i], 20)]))[i].tokens

    threads = [threading.Thread(target=tell, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {i: list(TOKENS[i][:20]) for i in range(4)}


def test_memory_of_a_generator_goes_with_it(model):
    events_of(model, [p.Request(0, PROMPTS[0], 2)])
    keep_stages(model.device)
    before = model.device.core.allocated
    for _ in range(3):
        events_of(model, [p.Request(0, PROMPTS[0], 2)], batch_size=8)
    assert model.device.core.allocated <= before
