"""Conversations in prompt files: one that cannot be rendered fails alone; parts, tool calls, template variables."""

import json
import shutil
from pathlib import Path

import pytest
from support.programs import fake, refuse, rows_of

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import PromptError
from pipeline.language.conversations import chat_values, checked_messages

# It writes the conversation as JSON, so that the prompt's tokens tell what it was given.
TEMPLATE = (
    "{% for m in messages %}{% if m.content == 'refuse' %}{{ raise_exception('not that') }}{% endif %}"
    "{% if m.content == 'fail' %}{{ 1 // 0 }}{% endif %}[{{ m.role }}]{{ m.content }}{{ m.tool_calls | tojson if "
    "m.tool_calls }}{% endfor %}{{ tools | tojson if tools }}{{ mood }}{{ '[answer]' if add_generation_prompt }}"
)
HELLO = {"role": "user", "content": "Hello"}


@pytest.fixture
def model(tmp_path):
    folder = Path(shutil.copytree(builtin_model(), tmp_path / "model"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return folder


@pytest.fixture
def rows(model, tmp_path):
    """Runs lines of a file; the exit code, the rows, and standard error."""

    def rows(*lines, options=()):
        prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
        prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
        code, _, err = fake("--model", model, "--prompts", prompts, "--out", out, "--max-tokens", 2, *options)
        return code, rows_of(out), err

    return rows


def rendered(*lines, model, options=()):
    """What the template made of each line: of a prompt that stays unfinished, its tokens are decoded."""
    from pipeline.checkpoints.opening import open_checkpoint
    from pipeline.cli.jobs import Job, JobMaker
    from pipeline.cli.lines import parse_line
    from pipeline.cli.prompts import Prompt
    from pipeline.cli.settings import Settings

    prompts = [parse_line(json.dumps(line).encode(), True, Prompt(i, i, "")) for i, line in enumerate(lines)]
    settings = Settings(prompts="p.jsonl", **dict(options)).checked()
    with open_checkpoint(model) as checkpoint, checkpoint.chat() as chat:
        tokenizer = checkpoint.tokenizer()
        decoder = type("Model", (), {"vocab_size": 4096, "context": 1024})
        maker = JobMaker(tokenizer, decoder, settings, lambda: chat)
        jobs = [maker.make(prompt) for prompt in prompts]
        assert all(isinstance(job, Job) for job in jobs), jobs
        return [tokenizer.decode(job.tokens) for job in jobs], jobs


def test_one_that_cannot_be_rendered_fails_alone(rows):
    contents = ["fine", "refuse", "fail", [{"type": "image_url", "image_url": {"url": "x"}}], "fine"]
    code, found, err = rows(*({"messages": [{"role": "user", "content": content}]} for content in contents))
    assert code == 1 and ["error" in row for row in found] == [False, True, True, True, False]
    assert "not that" in found[1]["error"] and "division" in found[2]["error"] and "line 1" in found[2]["error"]
    assert "'image_url' is no text" in found[3]["error"]
    assert err.count("onebuf: ") == 3 and found[0]["text"] and found[4]["text"]


def test_conversations_without_a_template_fail_alone(tmp_path):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    lines = [{"messages": [HELLO]}, {"prompt": "The fox"}]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, _ = fake("--prompts", prompts, "--out", out)
    rows = rows_of(out)
    assert code == 1 and "no chat template" in rows[0]["error"] and rows[1]["text"]
    prompts.write_text(json.dumps(lines[0]))
    refuse("--prompts", prompts, "--out", out, "--overwrite", program=fake, words=["no chat template"])


def test_parts_of_text_are_joined(model):
    parts = [{"type": "text", "text": "He"}, {"type": "input_text", "text": "llo"}, {"type": "text", "text": ""}]
    lines = [{"messages": [HELLO]}, {"messages": [{"role": "user", "content": parts}]}]
    texts, jobs = rendered(*lines, model=model)
    assert texts == ["[user]Hello[answer]"] * 2 and [job.text for job in jobs] == ["Hello", "Hello"]


def test_calls_of_tools(model):
    """A message with them needs no content. Arguments may be JSON within a string, as OpenAI has them."""
    calls = [{"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"q": "x"}'}}]
    as_objects = [{"id": "1", "type": "function", "function": {"name": "look", "arguments": {"q": "x"}}}]
    lines = [
        {"messages": [HELLO, {"role": "assistant", "tool_calls": each, **content}]}
        for each in (calls, as_objects)
        for content in ({}, {"content": ""})
    ]
    texts, jobs = rendered(*lines, model=model)
    assert len(set(texts)) == 1 and '"arguments": {"q": "x"}' in texts[0] and {job.text for job in jobs} == {""}
    for arguments in ("no JSON", "3", "[" * 99999):
        assert checked_messages([HELLO | {"tool_calls": [{"arguments": arguments}]}])[0]["tool_calls"] == [
            {"arguments": arguments}
        ]


@pytest.mark.parametrize(
    "template, expected",
    [
        ("{% for m in messages %}{{ m.role + ':' + m.content }};{% endfor %}", "user:Hello;assistant:;"),
        ("{% for m in messages %}{{ 'calls' if m.content is none else m.content }};{% endfor %}", "Hello;calls;"),
    ],
    ids=["fails without content", "knows calls by it"],
)
def test_content_that_is_null(model, template, expected):
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    calls = [{"type": "function", "function": {"name": "look", "arguments": "{}"}}]
    line = {"messages": [HELLO, {"role": "assistant", "content": None, "tool_calls": calls}]}
    assert rendered(line, model=model)[0] == [expected]


def test_variables_of_the_template(model):
    tool = {"type": "function", "function": {"name": "look"}}
    lines = [
        {"messages": [HELLO], "tools": [tool]},
        {"messages": [HELLO], "chat_template_kwargs": {"mood": "good", "add_generation_prompt": False}},
        {"messages": [HELLO], "add_generation_prompt": False},
        {"messages": [HELLO], "tools": None, "chat_template_kwargs": None},
    ]
    texts, _ = rendered(*lines, model=model)
    assert texts == [
        f"[user]Hello{json.dumps([tool])}[answer]",
        "[user]Hellogood",
        "[user]Hello",
        "[user]Hello[answer]",
    ]


def test_a_last_message_is_continued(model):
    """Its text is that of the prompt, which the generated text continues; without the key it is answered."""
    messages = [HELLO, {"role": "assistant", "content": "The sum "}]
    lines = [
        {"messages": messages},
        {"messages": messages, "continue_final_message": True},
        {"messages": messages, "chat_template_kwargs": {"continue_final_message": True}},
        {"messages": messages, "continue_final_message": False},
    ]
    texts, jobs = rendered(*lines, model=model)
    assert texts[0] == texts[3] == "[user]Hello[assistant]The sum [answer]"
    assert texts[1] == texts[2] == "[user]Hello[assistant]The sum "
    assert [job.answers for job in jobs] == [True, False, False, True]
    assert jobs[1].before == jobs[1].tokens and jobs[1].text == "The sum "


def test_a_system_message_of_the_line_stays(model):
    options = {"chat": True, "system": "Be brief."}
    lines = [{"messages": [{"role": role, "content": "x"}, HELLO]} for role in ("system", "developer", "user")]
    texts, _ = rendered(*lines, {"prompt": "Hello"}, model=model, options=options)
    assert [text.count("Be brief.") for text in texts] == [0, 0, 1, 1]


MESSAGES = [
    (None, "messages must be"),
    ([], "messages must be"),
    ("x", "messages must be"),
    ([HELLO, "x"], "message 2: messages must be"),
    ([{"content": "x"}], "message 1: messages must be"),
    ([{"role": "user"}], "message 1 has no content"),
    ([{"role": "user", "content": None}], "message 1 has no content"),
    ([{"role": "user", "tool_calls": [{}]}], "message 1 has no content"),
    ([{"role": "assistant", "tool_calls": []}], "message 1 has no content"),
    ([{"role": "user", "content": 3}], "message 1: content must be"),
    ([{"role": "user", "content": {"a": 1}}], "message 1: content must be"),
    ([{"role": "user", "content": [3]}], "message 1: a part is no text"),
    ([{"role": "user", "content": [{"type": "text"}]}], "message 1: a part is no text"),
    ([{"role": "user", "content": [{"type": "x" * 999, "text": "y"}]}], "of type 'xxx"),
    ([HELLO | {"tool_calls": "x"}], "message 1: tool_calls must be"),
    ([HELLO | {"tool_calls": ["x"]}], "message 1: tool_calls must be"),
]


@pytest.mark.parametrize("messages, word", MESSAGES)
def test_messages_that_are_wrong(messages, word):
    with pytest.raises(PromptError) as caught:
        checked_messages(messages)
    assert word in str(caught.value) and len(str(caught.value)) < 200


def test_messages_that_are_right():
    thought = {"role": "assistant", "reasoning_content": "hm"}
    result = {"role": "tool", "content": {"a": 1}}
    for message in (thought, result, HELLO, {"role": "user", "content": ""}):
        assert checked_messages([message]) == (message,)
    assert checked_messages([{"role": "user", "content": []}]) == ({"role": "user", "content": ""},)
    assert checked_messages([{"role": "user", "content": ["a", "b"]}]) == ({"role": "user", "content": "ab"},)


VALUES = [
    ({"tools": {}}, "tools must be"),
    ({"tools": ["x"]}, "tools must be"),
    ({"documents": "x"}, "documents must be"),
    ({"reasoning_effort": 3}, "reasoning_effort must be"),
    ({"chat_template_kwargs": []}, "chat_template_kwargs must be"),
    ({"chat_template_kwargs": {"messages": []}}, "cannot set 'messages'"),
    ({"chat_template_kwargs": {"self": 1}}, "cannot set 'self'"),
    ({"chat_template_kwargs": {"add_generation_prompt": "x"}}, "add_generation_prompt must be"),
    ({"add_generation_prompt": 2}, "add_generation_prompt must be"),
    ({"continue_final_message": 1}, "continue_final_message must be"),
    ({"continue_final_message": ""}, "continue_final_message must be"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "has both"),
]


@pytest.mark.parametrize("line, word", VALUES)
def test_variables_that_are_wrong(line, word):
    with pytest.raises(PromptError, match=word):
        chat_values(line)


def test_variables_without_a_conversation(rows):
    code, found, _ = rows(
        {"prompt": "The fox", "tools": []}, {"tokens": [5], "chat_template_kwargs": {}}, {"prompt": "x"}
    )
    assert code == 1 and ["error" in row for row in found] == [True, True, False]
    assert "tools: only for conversations" in found[0]["error"] and "--chat" in found[1]["error"]
