"""Calls of tools, in the form of each family, as OpenAI's client sees them."""

import json

import numpy as np
import pytest
import tokenizers

import pipeline
from pipeline.checkpoints.chat import Chat
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.checkpoints.tokenizer import Tokenizer
from pipeline.errors import PromptError
from pipeline.language.answers import Answer
from pipeline.language.tool_formats import HARMONY, tool_format
from pipeline.language.tool_grammars import tool_grammar

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }
]
ASKED = {"city": "Köln", "days": 2}
TEMPLATES = {
    "hermes": "{{ tools }}<tool_call>{{ messages[-1].content }}",
    "qwen_xml": "{{ tools }}<tool_call><function=f><parameter=x>{{ messages[-1].content }}",
    "llama": '{{ tools }}<|start_header_id|>"parameters"<|python_tag|>{{ messages[-1].content }}',
    "mistral": "{{ tools }}[TOOL_CALLS]{{ messages[-1].content }}",
    "harmony": "{{ tools }}<|start|>assistant<|channel|>{{ messages[-1].content }}",
}
ARGUMENTS = json.dumps(ASKED, ensure_ascii=False)
HERMES = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
XML = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
    "</function>\n</tool_call>"
)
LLAMA = f'{{"name": "get_weather", "parameters": {ARGUMENTS}}}'
MISTRAL = f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {ARGUMENTS}}}]'
COMMENTARY = f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ARGUMENTS}"
SAYS = [  # form, what the model says, content, calls, reasoning
    ("hermes", HERMES, None, 1, ""),
    ("hermes", f"Let me look.\n{HERMES}\n{HERMES}", "Let me look.", 2, ""),
    ("hermes", "It is <b>warm</b>.", "It is <b>warm</b>.", 0, ""),
    ("hermes", "<tool_call>\nnot JSON\n</tool_call>", "<tool_call>\nnot JSON\n</tool_call>", 0, ""),
    ("qwen_xml", XML, None, 1, ""),
    ("qwen_xml", f"I look. {XML}\n{XML}", "I look.", 2, ""),
    ("llama", LLAMA, None, 1, ""),
    ("llama", f"<|python_tag|>{LLAMA}; {LLAMA}", None, 2, ""),
    ("llama", "Use {braces}, please.", "Use {braces}, please.", 0, ""),
    ("llama", "{braces} first", "{braces} first", 0, ""),
    ("mistral", MISTRAL, None, 1, ""),
    ("mistral", f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}", None, 2, ""),
    ("mistral", "A fox.", "A fox.", 0, ""),
    (
        "harmony",
        f"<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant{COMMENTARY}",
        None,
        1,
        "I need it.",
    ),
    (
        "harmony",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi",
        "Hi",
        0,
        "Hm.",
    ),
    ("harmony", "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant" + COMMENTARY, "I look.", 1, ""),
    ("harmony", "Just a text.", "Just a text.", 0, ""),
]

BAD_CHOICES = [
    ("always", "must be"),
    (5, "must be"),
    ({"type": "function"}, "must be"),
    ({"type": "function", "function": {"name": "fly"}}, "no tool 'fly'"),
]


@pytest.fixture(scope="module")
def tokenizer():
    """The built-in one, with the special tokens of all forms; hermes's are ordinary text, as where a vocabulary has
    none of them."""
    core = tokenizers.Tokenizer.from_file(str(builtin_model() / "tokenizer.json"))
    names = "<|python_tag|> [TOOL_CALLS] [ARGS] <|channel|> <|message|> <|constrain|> <|start|> <|end|>".split()
    core.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in names])
    return Tokenizer(core)


def parts_of(tokenizer, form, says, tools=TOOLS, stops=()):
    answer = Answer(tokenizer, (), stops, form, tools)
    return [part for token in tokenizer.encode(says, complete=True) for part in answer.push(token)[1]] + answer.finish()


@pytest.mark.parametrize("name, says, content, calls, reasoning", SAYS)
def test_parts(tokenizer, name, says, content, calls, reasoning):
    form = tool_format([TEMPLATES[name]])
    assert form.name == name
    parts = parts_of(tokenizer, form, says)
    assert "".join(part.content for part in parts).strip() == (content or "")
    assert "".join(part.reasoning for part in parts) == reasoning
    found = [part.call for part in parts if part.call]
    assert len(found) == calls and all(call.name == "get_weather" for call in found)
    assert all(json.loads(call.arguments) == ASKED for call in found)


def test_content_comes_at_once(tokenizer):
    """Only what may begin a call is held back."""
    answer = Answer(tokenizer, (), (), tool_format([TEMPLATES["hermes"]]), TOOLS)
    shown = ["".join(part.content for part in answer.push(token)[1]) for token in tokenizer.encode("It is warm < here")]
    assert "".join(shown[:3]) and "".join(shown) == "It is warm < here"


def test_without_tools_a_call_is_text(tokenizer):
    form = tool_format([TEMPLATES["hermes"]])
    assert "".join(part.content for part in parts_of(tokenizer, form, HERMES, ())) == HERMES
    assert tool_format(["{{ messages }}"]) is None and tool_format(["<tool_call> <arg_key>"]) is None


def test_stops_end_harmony_and_calls(tokenizer):
    says = "<|channel|>final<|message|>One. Two. Three."
    assert "".join(part.content for part in parts_of(tokenizer, HARMONY, says, (), (" Two",))) == "One."
    parts = parts_of(tokenizer, tool_format([TEMPLATES["hermes"]]), "A fox ran. " + HERMES, TOOLS, ("ran",))
    assert "".join(part.content for part in parts) == "A fox " and not any(part.call for part in parts)


@pytest.mark.parametrize("name, says, content, calls, reasoning", [SAYS[i] for i in (1, 4, 7, 10, 13, 14)])
def test_the_client_sees_them(tokenizer, name, says, content, calls, reasoning):
    openai = pytest.importorskip("openai")
    pytest.importorskip("uvicorn")
    from support.serving import Script, application  # it needs the packages

    driver = Script(tokenizer, says)
    with (
        Chat("m", {"default": TEMPLATES[name]}, {}) as chat,
        application(tokenizer, chat, driver) as address,
        openai.OpenAI(base_url=address + "/v1", api_key="x", max_retries=0) as client,
    ):
        asked = dict(model="m", messages=[{"role": "user", "content": "How is it?"}], tools=TOOLS)
        (choice,) = client.chat.completions.create(**asked).choices
        assert (choice.message.content or "").strip() == (content or "")
        assert choice.finish_reason == ("tool_calls" if calls else "stop")
        found = choice.message.tool_calls or []
        assert [json.loads(call.function.arguments) for call in found] == [ASKED] * calls
        assert len({call.id for call in found}) == calls
        streamed, text, thought, reason = {}, "", "", None
        for chunk in client.chat.completions.create(**asked, stream=True):
            delta = chunk.choices[0].delta
            text, reason = text + (delta.content or ""), chunk.choices[0].finish_reason or reason
            thought += getattr(delta, "reasoning_content", None) or ""
            for call in delta.tool_calls or []:
                streamed[call.index] = call.function.name, json.loads(call.function.arguments)
        assert text.strip() == (content or "") and thought == reasoning and reason == choice.finish_reason
        assert streamed == {at: ("get_weather", ASKED) for at in range(calls)}
        back = [*asked["messages"], choice.message.model_dump(exclude_none=True)]
        if calls:
            back.append({"role": "tool", "tool_call_id": found[0].id, "content": "warm"})
        assert client.chat.completions.create(**asked | {"messages": back}).choices  # an answer goes back as it is
        assert b"get_weather" in tokenizer.decode(driver.asked[0].tokens).encode()  # the template had the tools
        none = client.chat.completions.create(**asked, tool_choice="none")
        assert not none.choices[0].message.tool_calls or name == "harmony"
        for choice, words in BAD_CHOICES:
            with pytest.raises(openai.BadRequestError, match=words) as wrong:
                client.chat.completions.create(**asked, extra_body={"tool_choice": choice})
            assert wrong.value.param == "tool_choice"


# Calls that must come

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
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "x"}}}]}, "cannot be had"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}]}, "cannot go on"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "parameters of 'f'"),
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
