"""Calls that must come: tool_choice is required, or names a function."""

import json

import numpy as np
import pytest
import tokenizers
from support.tool_forms import MISTRAL, SAYS, TEMPLATES, TOOLS, form_tokenizer, parts_of

import pipeline
from pipeline.checkpoints.chat import Chat
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.checkpoints.tokenizer import Tokenizer
from pipeline.errors import PromptError
from pipeline.language.answers import Answer
from pipeline.language.tool_formats import HARMONY, tool_format
from pipeline.language.tool_grammars import tool_grammar

BOUNDED = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Köln", "Ulm <a>"]},
        "days": {"type": "integer", "minimum": 0, "maximum": 9},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
FORCED = [
    {"type": "function", "function": {"name": name, "parameters": BOUNDED}} for name in ("get_weather", "set-alarm.1")
]


@pytest.fixture(scope="module")
def tokenizer():
    return form_tokenizer()


def compiled(tokenizer, form, tools, several=True):
    pytest.importorskip("llguidance")
    from pipeline.language.grammars import Grammars

    vocab = tokenizer.vocab_size
    return Grammars(tokenizer, vocab, [0]).compiled("grammar", tool_grammar(form, tools, tokenizer, several))


def walk(tokenizer, grammar, seed):
    """A text of random tokens that a grammar allows. It ends where it may."""
    chance, place, made = np.random.default_rng(seed), grammar.begin(), []
    for _ in range(300):
        words = np.zeros(-(-tokenizer.vocab_size // 32), np.uint32)
        place.fill(words)
        allowed = np.unpackbits(words.view(np.uint8), bitorder="little").nonzero()[0]
        assert len(allowed) and place.error is None
        if 0 in allowed:  # the end token
            return made
        special = allowed[allowed >= 4096]  # of the added tokens: else random words would go on for ever
        made.append(int(chance.choice(special if len(special) and chance.random() < 0.3 else allowed)))
        if place.take(made[-1]):
            return made
    raise AssertionError(tokenizer.decode(made))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_forced_text_is_a_call(tokenizer, name):
    form = tool_format([TEMPLATES[name]])
    grammar = compiled(tokenizer, form, FORCED)
    seen = set()
    for seed in range(12):
        answer = Answer(tokenizer, (), (), form, FORCED)
        tokens = walk(tokenizer, grammar, seed)
        parts = [part for token in tokens for part in answer.push(token)[1]] + answer.finish()
        calls = [part.call for part in parts if part.call]
        assert calls and not "".join(part.content for part in parts).strip()
        for call in calls:
            value = json.loads(call.arguments)
            assert value["city"] in ("Köln", "Ulm <a>") and 0 <= value["days"] <= 9
            assert set(value) <= {"city", "days", "tags"} and set(value.get("tags", ())) <= {"a", "b"}
            seen.add(call.name)
    assert seen == {"get_weather", "set-alarm.1"}


@pytest.mark.parametrize("name, says, content, calls, reasoning", [each for each in SAYS if each[3] and not each[2]])
def test_what_models_say_is_allowed(tokenizer, name, says, content, calls, reasoning):
    if says.startswith(("<|python_tag|>", "[TOOL_CALLS][")):  # another way to say the same
        pytest.skip("one form is forced")
    grammar = compiled(tokenizer, tool_format([TEMPLATES[name]]), TOOLS, several=calls > 1)
    place, ended = grammar.begin(), False
    for token in tokenizer.encode(says, complete=True):
        words = np.zeros(-(-tokenizer.vocab_size // 32), np.uint32)
        place.fill(words)
        assert words[token // 32] >> token % 32 & 1, tokenizer.decode([token])
        ended = place.take(token)
    words[:] = 0
    place.fill(words)
    assert ended or words[0] & 1


def test_a_vocabulary_without_names_of_arguments_has_lists_of_calls(tokenizer):
    core = tokenizers.Tokenizer.from_file(str(builtin_model() / "tokenizer.json"))
    core.add_special_tokens([tokenizers.AddedToken("[TOOL_CALLS]", special=True)])
    older, form = Tokenizer(core), tool_format([TEMPLATES["mistral"]])
    parts = [part for part in parts_of(older, form, MISTRAL) if part.call]
    tokens = walk(older, compiled(older, form, FORCED, several=False), 1)
    assert older.decode(tokens).startswith('[{"name": ') and len(parts) == 1


def test_a_tool_whose_parameters_are_no_schema(tokenizer):
    with pytest.raises(PromptError, match="parameters of 'f' must be an object"):
        tool_grammar(HARMONY, [{"function": {"name": "f", "parameters": 5}}], tokenizer, False)


def of(*properties, **schema):
    return {"type": "object", "properties": dict(properties), "required": [key for key, _ in properties]} | schema


TEXTS = of(
    ("short", {"type": "string", "maxLength": 3, "minLength": 1}),
    ("number", {"type": "string", "pattern": "^[0-9]{2}$"}),
    ("part", {"type": "string", "pattern": "^a/b[0-9]?$"}),
    ("same", {"type": "string", "const": "12"}),
)


def test_texts_without_quotation_marks_keep_their_bounds(tokenizer):
    form, tools = tool_format([TEMPLATES["qwen_xml"]]), [{"function": {"name": "f", "parameters": TEXTS}}]
    grammar = compiled(tokenizer, form, tools, several=False)
    for seed in range(8):
        (call,) = form.parse(tokenizer.decode(walk(tokenizer, grammar, seed)), tools)
        value = json.loads(call.arguments)
        assert 1 <= len(value["short"]) <= 3 and value["number"].isdecimal() and len(value["number"]) == 2
        assert value["part"].startswith("a/b") and value["same"] == "12"


@pytest.mark.parametrize(
    "forms, name, parameters, wanted",
    [
        (TEMPLATES, "f", {"type": "string", "maxLength": 5}, "parameters of 'f' must have the type object"),
        (TEMPLATES, "f", {"type": "array"}, "must have the type object"),
        (["hermes"], "f", of(("e", {"const": "</tool_call>\n<tool_call>"})), "has the text '<tool_call>'"),
        (["mistral"], "f", of(("e", {"const": "][TOOL_CALLS]f[ARGS]{}"})), r"has the text '\[TOOL_CALLS\]'"),
        (["qwen_xml"], "f", of(("e", {"const": {"q": "</function>"}})), "has the text '</function>'"),
        (["qwen_xml"], "g>h", of(), "the name 'g>h' cannot stand in a tag"),
        (["qwen_xml"], "f", of(("a>b", {})), "the name 'a>b' cannot stand in a tag"),
        (["qwen_xml"], "f", of(anyOf=[{"required": ["x"]}]), "asks for 'anyOf'"),
        (["qwen_xml"], "f", of(required=["gone"]), "asks for 'gone'"),
        (["qwen_xml"], "f", of(("e", {"type": "string", "not": {}})), "asks for 'e: not'"),
        (["qwen_xml"], "f", of(("e", {"type": "string", "pattern": "a", "maxLength": 3})), "several bounds of a text"),
    ],
)
def test_what_a_form_cannot_be_held_to_is_refused(tokenizer, forms, name, parameters, wanted):
    tools = [{"function": {"name": name, "parameters": parameters}}]
    for form in forms:
        with pytest.raises(PromptError, match=wanted):
            tool_grammar(tool_format([TEMPLATES[form]]), tools, tokenizer, True)


@pytest.fixture(scope="module")
def hermes():
    """A client of the built-in model, whose template teaches hermes's form."""
    openai = pytest.importorskip("openai")
    pytest.importorskip("uvicorn")
    pytest.importorskip("llguidance")
    from support.serving import application  # it needs the packages

    with (
        pipeline.load("storyteller", batch_size=4, context=600) as model,
        Chat("m", {"default": TEMPLATES["hermes"]}, {}) as chat,
        application(model.tokenizer, chat, model.driver) as address,
        openai.OpenAI(base_url=address + "/v1", api_key="x", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "set-alarm.1"}}])
def test_a_model_that_must_call(hermes, choice):
    asked = dict(model="m", messages=[{"role": "user", "content": "How is it?"}], tools=FORCED, max_tokens=150)
    asked |= dict(tool_choice=choice, parallel_tool_calls=False)
    for seed in range(3):
        (found,) = hermes.chat.completions.create(**asked, temperature=1, seed=seed).choices
        (call,) = found.message.tool_calls
        assert found.finish_reason == "tool_calls" and found.message.content is None
        assert call.function.name in ("set-alarm.1", "get_weather" if choice == "required" else "")
        assert 0 <= json.loads(call.function.arguments)["days"] <= 9
    streamed = [
        call.function
        for chunk in hermes.chat.completions.create(**asked, temperature=1, seed=2, stream=True)
        for call in chunk.choices[0].delta.tool_calls or ()
    ]
    assert [(each.name, each.arguments) for each in streamed] == [(call.function.name, call.function.arguments)]


@pytest.mark.parametrize(
    "more, words",
    [
        ({"tools": []}, "tool_choice: needs tools"),
        ({"response_format": {"type": "json_object"}}, "leave response_format out"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": of(("a", {"type": "x"}))}}]},
            "cannot be had",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}]}, "cannot go on"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "parameters of 'f'"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls must be true or false"),
    ],
)
def test_a_call_that_cannot_be_forced(hermes, more, words):
    import openai

    asked = {"tools": FORCED, "tool_choice": "required", "max_tokens": 60} | more
    with pytest.raises(openai.BadRequestError, match=words):
        hermes.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], extra_body=asked)


def test_a_server_without_the_package(hermes, monkeypatch):
    import sys

    import openai

    monkeypatch.setitem(sys.modules, "llguidance", None)
    tools = [{"type": "function", "function": {"name": "not_yet_compiled"}}]
    asked = dict(model="m", messages=[{"role": "user", "content": "x"}], tools=tools)
    with pytest.raises(openai.BadRequestError, match="pip install onebuf.structured."):
        hermes.chat.completions.create(**asked, tool_choice="required")
