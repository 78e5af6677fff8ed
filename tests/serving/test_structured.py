"""Structured output of the server and of batch rows, as OpenAI's client and vLLM's keys ask for it."""

import json
import re
import shutil
from pathlib import Path
from typing import Literal

import pytest
from support.programs import rows_of, run

from pipeline.checkpoints.storyteller import builtin_model

openai = pytest.importorskip("openai")
for package in ("starlette", "uvicorn", "llguidance"):
    pytest.importorskip(package)

from support.serving import program  # noqa: E402  # it needs the packages

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
HELLO = [{"role": "user", "content": "The fox"}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "fox"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "legs"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "animal", "strict": True, "schema": SCHEMA}}

# It begins, and has no end.
ENDLESS = {
    "type": "object",
    "properties": {"a": {"$ref": "#/properties/a"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = Path(shutil.copytree(builtin_model(), tmp_path_factory.mktemp("structured") / "teller"))
    (made / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return made


@pytest.fixture(scope="module")
def client(folder):
    with program("--model", folder, "--batch-size", 4, "--context", 300) as (address, *_):
        yield openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0, timeout=60)


def is_animal(text):
    value = json.loads(text)
    return set(value) == {"kind", "legs"} and value["kind"] in ("cat", "fox") and 0 <= value["legs"] <= 9


def test_a_schema(client):
    asked = dict(model="teller", messages=HELLO, response_format=FORMAT, max_tokens=120, n=3, seed=1)
    choices = client.chat.completions.create(**asked).choices
    assert all(is_animal(choice.message.content) and choice.finish_reason == "stop" for choice in choices)
    streamed = {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert streamed == {choice.index: choice.message.content for choice in choices}


def test_parsed_as_a_class(client):
    pydantic = pytest.importorskip("pydantic")

    class Animal(pydantic.BaseModel):
        kind: Literal["cat", "fox"]
        tame: bool

    answer = client.chat.completions.parse(model="teller", messages=HELLO, response_format=Animal, max_tokens=120)
    assert answer.choices[0].message.parsed.kind in ("cat", "fox")


def test_an_object_and_guides(client):
    def text(**more):
        asked = dict(model="teller", prompt="The fox", max_tokens=40, temperature=1) | more
        return client.completions.create(**asked).choices[0]

    assert re.fullmatch("[a-f]{4}[0-9]", text(extra_body={"guided_regex": "[a-f]{4}[0-9]"}).text)
    assert text(extra_body={"guided_choice": ["one", "two"]}, stop=["three"]).text in ("one", "two")
    assert text(extra_body={"guided_grammar": 'root ::= "fox" | "dog"'}).text in ("fox", "dog")
    assert is_animal(text(extra_body={"guided_json": SCHEMA}, max_tokens=120).text)
    made = client.chat.completions.create(
        model="teller", messages=HELLO, response_format={"type": "json_object"}, max_tokens=200, temperature=0
    ).choices[0]
    assert made.message.content.startswith("{")


@pytest.mark.parametrize(
    "more, word",
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "schema"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": 5}, "response_format"),
        ({"guided_json": {"type": "nothing"}}, "json_schema"),
        ({"guided_json": {"$ref": "#"}}, "no text can be found for it"),
        ({"guided_json": ENDLESS, "max_tokens": 50}, "json_schema: cannot go on"),
        ({"guided_json": ENDLESS, "max_tokens": 50, "stream": True}, "json_schema: cannot go on"),
        ({"guided_regex": "(a"}, "regex"),
        ({"guided_choice": "a"}, "choice"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "both"),
    ],
)
def test_a_guide_that_is_wrong_is_its_requests_error(client, more, word):
    wrong = openai.APIError if more.get("stream") else openai.BadRequestError  # a stream has its status by then
    with pytest.raises(wrong, match=word) as raised:
        stream = more.get("stream", False)
        list(client.chat.completions.create(model="teller", messages=HELLO, stream=stream, extra_body=more))
    assert raised.value.type == "invalid_request_error"
    assert client.completions.create(model="teller", prompt="The", max_tokens=2).choices


def test_batch_rows(folder, tmp_path):
    bodies = {
        "a": ("completions", {"prompt": "x", "response_format": FORMAT}),
        "b": ("chat/completions", {"messages": HELLO, "guided_regex": "[0-9]{3}"}),
        "c": ("completions", {"prompt": "x", "guided_regex": "(a"}),
        "d": ("completions", {"prompt": "The fox", "max_tokens": 3}),
    }
    lines = [
        {"custom_id": name, "method": "POST", "url": f"/v1/{path}", "body": body}
        for name, (path, body) in bodies.items()
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ("--model", folder, "--batch-size", 3, "--temperature", 1, "--seed", 5)
    assert run(*arguments, "--prompts", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")[0] == 1
    first, second, third, fourth = rows_of(tmp_path / "out.jsonl")
    assert is_animal(first["response"]["body"]["choices"][0]["text"])
    assert re.fullmatch("[0-9]{3}", second["response"]["body"]["choices"][0]["message"]["content"])
    assert "regex" in third["error"]["message"] and fourth["error"] is None
    own = [{"prompt": "x", "guided_json": SCHEMA, "max_tokens": 120}, {"prompt": "x", "guided_choice": ["yes", "no"]}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in own))
    assert run(*arguments, "--prompts", tmp_path / "own.jsonl", "--out", tmp_path / "rows.jsonl")[0] == 0
    rows = rows_of(tmp_path / "rows.jsonl")
    assert is_animal(rows[0]["text"]) and rows[1]["text"] in ("yes", "no") and rows[1]["finish_reason"] == "stop"
