"""Calls of tools, in the form of each family, as OpenAI's client sees them."""

import json

import pytest
from support.tool_forms import ASKED, HERMES, SAYS, TEMPLATES, TOOLS, form_tokenizer, parts_of

from pipeline.checkpoints.chat import Chat
from pipeline.language.answers import Answer
from pipeline.language.tool_formats import HARMONY, tool_format

BAD_CHOICES = [
    ("always", "must be"),
    (5, "must be"),
    ({"type": "function"}, "must be"),
    ({"type": "function", "function": {"name": "fly"}}, "no tool 'fly'"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return form_tokenizer()


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
