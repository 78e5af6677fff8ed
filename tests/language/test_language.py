"""pipeline.load: texts in, texts out, for threads and event loops."""

import asyncio
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from support.programs import certain

import pipeline
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import CheckpointError, ClosedError, PromptError, RunError, UsageError
from pipeline.generation.requests import Finished, Request

pytestmark = pytest.mark.one_processor
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ mood }}assistant:"


@pytest.fixture(scope="module")
def model(processor, tmp_path_factory):
    folder = Path(shutil.copytree(builtin_model(), tmp_path_factory.mktemp("talking") / "model"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    with pipeline.load(folder, device=processor, batch_size=4, context=300) as loaded:
        yield loaded


def by_generator(model, text, count):
    request = Request(0, model.tokenizer.encode(text), count)
    generator = pipeline.Generator(model.driver.scheduler.model, context=300)
    (end,) = (event for event in generator.run([request]) if isinstance(event, Finished))
    return end


def test_a_text_is_the_generators(model):
    text, end = model.generate("The old fox", max_tokens=12), by_generator(model, "The old fox", 12)
    assert text.tokens == end.tokens and text.logprobs == end.logprobs and text.finish_reason == end.reason
    assert text == model.tokenizer.decode(end.tokens, model.tokenizer.encode("The old fox"))
    assert text.prompt_tokens == 3 or text.prompt_tokens == len(model.tokenizer.encode("The old fox"))
    assert model.generate(list(model.tokenizer.encode("The old fox")), max_tokens=12) == text


def test_several_prompts_are_what_each_is_alone(model):
    prompts = [f"The little {name}" for name in ("cat", "dog", "fox", "bird", "frog", "bear")]  # more than rows
    texts = model.generate(prompts, max_tokens=6)
    assert texts == [model.generate(prompt, max_tokens=6) for prompt in prompts]
    drawn = model.generate([prompts[0]] * 3, max_tokens=8, temperature=1.0, seed=5)
    assert len(set(drawn)) == 3 and drawn[0] == model.generate(prompts[0], max_tokens=8, temperature=1.0, seed=5)
    assert len({model.generate(prompts[0], max_tokens=8, temperature=1.0) for _ in range(4)}) > 1  # seeds are random


def test_a_stream_is_the_text_in_pieces(model):
    whole = model.generate("Once upon a time", max_tokens=15)
    with model.stream("Once upon a time", max_tokens=15) as stream:
        assert stream.result is None
        pieces = list(stream)
    assert len(pieces) > 5 and "".join(pieces) == whole == stream.result
    assert stream.result.tokens == whole.tokens and stream.result.finish_reason == "length"


def test_stops_end_a_text_and_its_stream(model):
    whole = model.generate("Once upon a time", max_tokens=20)
    stop = whole[9:12]
    text = model.generate("Once upon a time", max_tokens=20, stop=stop)
    assert text == whole[: whole.index(stop)] and text.finish_reason == "stop"
    assert "".join(model.stream("Once upon a time", max_tokens=20, stop=[stop])) == text


def test_who_stops_reading_gives_the_row_back(model):
    stream = model.stream("Once upon a time", max_tokens=250)
    next(stream)
    stream.close()
    del stream
    dropped = model.stream("Once upon a time", max_tokens=250)
    next(dropped)
    del dropped
    assert model.generate("A", max_tokens=2).finish_reason == "length"
    for _ in range(200):
        if not model.driver.running:
            break
        model.generate("A", max_tokens=2)
    assert model.driver.running == 0


def test_chat_goes_through_the_template(model):
    def by_hand(text):  # the template's text has its special tokens, or none
        return model.generate(model.tokenizer.encode(text, complete=True), max_tokens=8)

    assert model.chat("The fox", max_tokens=8).strip() == by_hand("user: The fox\nassistant:").strip()
    messages = [{"role": "user", "content": "The fox"}]
    assert model.chat(messages, max_tokens=8) == model.generate(messages, max_tokens=8)
    assert model.generate([messages, messages], max_tokens=8) == [model.chat("The fox", max_tokens=8)] * 2
    happy = model.chat("The fox", template={"mood": "happy "}, max_tokens=8)
    assert happy.strip() == by_hand("user: The fox\nhappy assistant:").strip()


def test_scores(model, processor):
    tokens = [model.tokenizer.encode(text) for text in ("The fox ran", "A dog")]
    expected = pipeline.score(model.driver.scheduler.model, tokens, top=2)
    found = model.score(["The fox ran", "A dog"], top=2)
    assert [each.logprobs for each in found] == [each.logprobs for each in expected]
    assert found[0].top == expected[0].top and model.score("A dog").logprobs == expected[1].logprobs


def test_asynchronous_texts_are_the_same(model):
    async def all_of_them():
        pieces = [piece async for piece in model.astream("The fox", max_tokens=9)]
        texts = await asyncio.gather(*(model.agenerate(f"The {name}", max_tokens=7) for name in ("cat", "dog")))
        return pieces, texts, await model.achat("The fox", max_tokens=5), await model.ascore("A dog")

    pieces, texts, answer, score = asyncio.run(all_of_them())
    assert "".join(pieces) == model.generate("The fox", max_tokens=9)
    assert texts == model.generate(["The cat", "The dog"], max_tokens=7)
    assert answer == model.chat("The fox", max_tokens=5) and score.logprobs == model.score("A dog").logprobs


def test_a_task_that_is_cancelled_ends_its_text(model):
    async def cancelled():
        async with asyncio.timeout(0.05):
            await model.agenerate(["Once upon a time"] * 4, max_tokens=280)

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())

    async def left():
        async with model.astream("Once upon a time", max_tokens=280) as stream:
            async for _ in stream:
                break

    asyncio.run(left())
    model.generate("A", max_tokens=2)
    model.generate("A", max_tokens=2)
    assert model.driver.running == 0


def test_threads_share_a_model(model):
    expected = {name: model.generate(f"The {name}", max_tokens=6) for name in ("cat", "dog", "fox", "bird")}
    found = {}

    def work(name):
        found[name] = model.generate(f"The {name}", max_tokens=6)

    threads = [threading.Thread(target=work, args=(name,)) for name in expected]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == expected


@pytest.mark.parametrize(
    "prompt, settings, error, words",
    [
        ([], {}, PromptError, "empty"),
        ("x", {"temperature": float("nan")}, UsageError, "temperature"),
        ("x", {"max_tokens": 0}, UsageError, "max_tokens"),
        ("x", {"stop": ""}, UsageError, "stop"),
        ("x", {"top_pp": 1}, TypeError, "top_pp"),
        ([5, 10**6], {}, PromptError, "vocabulary"),
        (7, {}, PromptError, "a prompt is a text"),
        ([{"role": "user"}], {}, PromptError, "content"),
        (["The fox", []], {}, PromptError, "empty"),
        ([5] * 300, {}, PromptError, "context"),
    ],
)
def test_what_is_impossible_is_said_at_once(model, prompt, settings, error, words):
    with pytest.raises(error, match=words):
        model.generate(prompt, **settings)
    assert model.generate("A", max_tokens=2)  # the others go on


def test_a_step_that_fails_fails_its_texts_alone(model, monkeypatch):
    scheduler = model.driver.scheduler
    real = scheduler._step

    def broken():
        monkeypatch.setattr(scheduler, "_step", real)
        scheduler._batch.join(scheduler._waiting)
        raise RunError("the command buffer failed")

    monkeypatch.setattr(scheduler, "_step", broken)
    with pytest.raises(RunError, match="the command buffer failed"):
        model.generate("The fox", max_tokens=4)
    monkeypatch.setattr(scheduler, "_step", lambda: (_ for _ in ()).throw(ValueError("again and again")))
    with pytest.raises(RunError, match="again and again"):
        model.generate("The fox", max_tokens=4)
    monkeypatch.setattr(scheduler, "_step", real)
    assert model.generate("The fox", max_tokens=4).finish_reason == "length"


def test_closing(processor):
    loaded = pipeline.load(device=processor, batch_size=2, context=200)
    stream = loaded.stream("Once upon a time", max_tokens=190)
    next(stream)
    loaded.close()
    assert stream.close() is None and loaded.driver.running == 0
    with pytest.raises(ClosedError):
        loaded.generate("The fox")
    with pytest.raises(CheckpointError):
        pipeline.load("no such folder")


def test_golden_text(processor):
    from support.paths import golden

    case = golden("golden")["4bit"][0]
    with pipeline.load(device=processor) as loaded:
        text = loaded.generate(case["prompt_ids"], max_tokens=20)
    expected = certain(case)[:20]
    assert text.tokens[: len(expected)] == expected and np.isfinite(text.logprobs).all()


@pytest.mark.parametrize(
    "prompt, settings, kind, words",
    [
        ([2**70], {}, PromptError, "token 1180591620717411303424 is not in the vocabulary"),
        ([-1], {}, PromptError, "token -1"),
        ([True], {}, PromptError, "token True"),
        ("x", {"stop": 5}, UsageError, "5 cannot stop a text; give a string or a list of strings"),
        ("x", {"stop": ["a", None]}, UsageError, "cannot stop a text"),
        ("x", {"stop": {"a": 1}}, UsageError, "cannot stop a text"),
        ("x", {"bogus": 1}, TypeError, "'bogus' is no setting of a text; settings are max_tokens, .*, choice"),
        ("x", {"number": 1}, TypeError, "'number' is no setting"),
        ("x", {"grammars": 1}, TypeError, "'grammars' is no setting"),
        ("x", {"json_schema": {"a": {1}}}, PromptError, "json_schema: is no JSON"),
    ],
)
def test_what_a_caller_may_get_wrong(model, prompt, settings, kind, words):
    """One line of one of the errors that are documented, from every method."""
    asked = {"max_tokens": 2} | settings
    for call in (
        lambda: model.generate(prompt, **asked),
        lambda: list(model.stream(prompt, **asked)),
        lambda: asyncio.run(model.agenerate(prompt, **asked)),
        lambda: asyncio.run(anext(model.astream(prompt, **asked))),
    ):
        with pytest.raises(kind, match=words) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_numbers_of_numpy_are_token_ids(model):
    assert model.generate(list(np.array([5, 6])), max_tokens=3) == model.generate([5, 6], max_tokens=3)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"device": 5}, "device 5: impossible; give the name of a device"),
        ({"path": 5}, "path 5"),
        ({"isa": 5}, "isa 5"),
        ({"threads": "x"}, "threads 'x': impossible; give a whole number"),
        ({"threads": 1.5}, "threads 1.5"),
        ({"batch_size": True}, "batch_size True"),
        ({"context": "8"}, "context '8'"),
        ({"prompt_rows": None}, "prompt_rows None"),
    ],
)
def test_what_cannot_be_loaded(settings, words):
    with pytest.raises(UsageError, match=words):
        pipeline.load(**settings)


def test_a_template_that_is_no_mapping(model):
    with pytest.raises(UsageError, match="template 5: impossible; give a mapping"):
        model.chat("Hello", template=5)
