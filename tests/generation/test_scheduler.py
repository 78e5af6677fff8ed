"""The scheduler: requests join and leave a running batch, and none of them notices the others."""

import threading

import numpy as np
import pytest
from support.axes import each
from support.paths import golden

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import PromptError, RunError, UsageError
from pipeline.generation.requests import Failed, Finished, Prefilled, Token
from pipeline.generation.scheduler import Scheduler
from pipeline.generation.settings import Sampling

PROMPTS = [tuple(entry["prompt_ids"]) for entry in golden("golden")["4bit"]]
SAMPLINGS = [
    Sampling(),
    Sampling(top_k=20, top_p=0.9),
    Sampling(repetition_penalty=1.3, repetition_window=16),
    Sampling(logprobs=3),
    Sampling(logit_bias={5: 2.0, 9: -3.0}),
]

# Scheduling is not about kernels.
pytestmark = pytest.mark.one_processor


@pytest.fixture(scope="module")
def model(processor):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        yield p.load_model(checkpoint, device=processor)


def made(rng, index):
    """A request of any length and settings."""
    length = int(rng.choice([1, 2, 7, 30, 90, 300]))
    prompt = tuple(rng.integers(0, 4096, length).tolist()) if rng.random() < 0.7 else PROMPTS[index % 5]
    temperature = float(rng.choice([0.0, 0.8]))
    sampling = SAMPLINGS[rng.integers(len(SAMPLINGS))]
    return p.Request(index, prompt, int(rng.integers(1, 25)), temperature, int(rng.integers(2**40)), sampling)


def alone(model, request, context=400):
    (end,) = (e for e in p.Generator(model, context=context).run([request]) if isinstance(e, Finished))
    return end


@each("seed, prompt_rows", [1, 2], [256, 5, 0])
def test_arrivals_and_cancels_at_any_time(model, seed, prompt_rows):
    """What a request gives is what it gives alone, for as long as it is let; slots come back."""
    rng = np.random.default_rng(seed)
    scheduler = Scheduler(model, batch_size=4, context=400, prompt_rows=prompt_rows)
    handles, events, steps = [], [], 0
    while len(handles) < 14 or not scheduler.idle:
        while len(handles) < 14 and rng.random() < 0.3:
            handles.append(scheduler.submit(made(rng, len(handles))))
        if handles and rng.random() < 0.04:
            scheduler.cancel(handles[rng.integers(len(handles))])
        events += scheduler.step()
        steps += 1
        assert steps < 3000
    assert sorted(scheduler._free) == [0, 1, 2, 3]
    for handle in handles:
        mine = [event for event in events if event.index == handle.request.index]
        expected, end = alone(model, handle.request), handle.end
        assert mine[-1] is end and isinstance(end, Finished)
        assert [event.token for event in mine if isinstance(event, Token)] == end.tokens
        count = len(end.tokens)
        assert end.tokens == expected.tokens[:count] and end.logprobs == expected.logprobs[:count]
        assert end.top == expected.top[:count]
        assert end.reason == expected.reason and count == len(expected.tokens) or handle.cancelled
        if end.reason != "cancelled":
            assert sum(e.tokens for e in mine if isinstance(e, Prefilled)) == len(handle.request.tokens) - 1
    assert any(handle.end.reason == "cancelled" for handle in handles)


def test_a_step_is_one_command_buffer_and_prompts_stop_no_row(model):
    """While a prompt of 200 goes through in steps of 16, each step brings the other row a token."""
    scheduler = Scheduler(model, batch_size=2, context=400, prompt_rows=16)
    scheduler.submit(p.Request(0, PROMPTS[0], 60))
    while not any(isinstance(event, Token) for event in scheduler.step()):
        pass
    long = tuple(np.random.default_rng(0).integers(0, 4096, 200).tolist())
    scheduler.submit(p.Request(1, long, 5))
    beside = 0
    while beside < 200 - 1:
        before = model.device.computing_command_buffers
        events = scheduler.step()
        tokens = [event for event in events if isinstance(event, Token) and event.index == 0]
        through = sum(event.tokens for event in events if isinstance(event, Prefilled))
        if through:
            assert model.device.computing_command_buffers - before == 1 and len(tokens) == 1 and through <= 16
        beside += through
    while not scheduler.idle:
        scheduler.step()


def test_a_short_prompt_does_not_wait_for_a_long_one(model):
    scheduler = Scheduler(model, batch_size=3, context=1000, prompt_rows=32)
    rng = np.random.default_rng(0)
    for index, length in enumerate((5, 900, 20)):
        scheduler.submit(p.Request(index, tuple(rng.integers(0, 4096, length).tolist()), 40))
    first = {}
    while len(first) < 3:
        for event in scheduler.step():
            if isinstance(event, Token):
                first.setdefault(event.index, len(first))
    assert list(first) == [0, 2, 1]
    scheduler.abandon()
    assert scheduler.idle and scheduler.step() == []


def test_threads_submit_and_cancel_while_one_steps(model):
    scheduler = Scheduler(model, batch_size=3, context=400)
    requests = [made(np.random.default_rng(index), index) for index in range(24)]
    handles, left = {}, threading.Semaphore(0)

    def submit(part):
        for request in requests[part::4]:
            handles[request.index] = scheduler.submit(request)
            if request.index % 6 == 5:
                scheduler.cancel(handles[request.index])
        left.release()

    threads = [threading.Thread(target=submit, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    events = []
    while any(thread.is_alive() for thread in threads) or not scheduler.idle:
        events += scheduler.step()
    ends = {event.index: event for event in events if isinstance(event, (Finished, Failed))}
    assert sorted(ends) == list(range(24)) and all(handles[i].end is ends[i] for i in ends)
    for request in requests[:5]:
        assert ends[request.index].tokens == alone(model, request).tokens


def test_what_can_never_run_is_refused_at_submit(model):
    scheduler = Scheduler(model, context=16)
    with pytest.raises(PromptError, match="16 prompt tokens do not fit a context of 16; use at most 15"):
        scheduler.submit(p.Request(0, (1,) * 16, 4))
    with pytest.raises(UsageError, match="-1 rows for prompts are not possible; use 0 or more"):
        Scheduler(model, prompt_rows=-1)
    assert scheduler.idle


def test_a_failed_command_buffer_fails_those_that_had_a_slot(model, monkeypatch):
    """Those that wait go on."""
    scheduler = Scheduler(model, batch_size=1, context=64)
    first, second = (scheduler.submit(p.Request(index, PROMPTS[index], 5)) for index in range(2))

    def broken(self, leading, prompts):
        raise RunError("mixed: the device is gone")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.generation.mixed.Mixed.run", broken)
        with pytest.raises(RunError, match="the device is gone"):
            scheduler.step()
    assert first.end == Failed(0, "mixed: the device is gone") and second.end is None
    while not scheduler.idle:
        scheduler.step()
    assert second.end.tokens == alone(model, second.request).tokens


def test_requests_come_as_there_is_room(model):
    """An iterator is asked for no more requests than have a slot, so that a long file costs no memory."""
    taken, done = 0, 0

    def requests():
        nonlocal taken
        for index in range(40):
            taken += 1
            yield p.Request(index, PROMPTS[index % 5], 3, sampling=SAMPLINGS[index // 10 % 2])

    for event in p.Generator(model, batch_size=4, context=64).run(requests()):
        done += isinstance(event, Finished)
        assert taken - done <= 4 + 1
    assert done == 40
