"""Batch files of OpenAI's interface: requests in, rows of the same dialect out."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from support.programs import fake, refuse, rows_of, run

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.cli.lines import parse_line
from pipeline.cli.prompt import OPENAI, OWN, Prompt
from pipeline.cli.seen import Seen

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ tools | tojson if tools }}assistant:"
HELLO = [{"role": "user", "content": "The fox"}]


def request(name, url=COMPLETIONS, **body):
    return {"custom_id": name, "method": "POST", "url": url, "body": {"model": "m", **body}}


def parsed(line, dialect=""):
    return parse_line(json.dumps(line).encode(), True, Prompt(3, 3, "p.jsonl line 4"), dialect)


@pytest.fixture
def model(tmp_path):
    folder = Path(shutil.copytree(builtin_model(), tmp_path / "model"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return folder


def written(file, *lines):
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_request():
    body = {
        "messages": HELLO,
        "max_completion_tokens": 4,
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "stop": ["x"],
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 3,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logit_bias": {"5": -1},
        "chat_template_kwargs": {"enable_thinking": False},
        "tools": [],
        "user": "someone",
        "stream": False,
        "response_format": {"type": "text"},
        "metadata": None,
    }
    prompt = parsed(request("r1", CHAT, **body))
    assert prompt.error is None and prompt.id == "r1" and prompt.text == "The fox" and prompt.dialect == OPENAI
    assert prompt.samples == 2 and prompt.stop == ("x",) and prompt.chat["chat_template_kwargs"]
    assert (
        prompt.wanted.chat
        and prompt.wanted.logprobs
        and prompt.settings
        == {
            "max_tokens": 4,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 7,
            "logprobs": 3,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "logit_bias": {5: -1},
        }
    )
    prompt = parsed(request("r2", prompt=[5, 6], logprobs=0, max_tokens=2))
    assert prompt.tokens == (5, 6) and prompt.wanted.logprobs and not prompt.wanted.chat and prompt.error is None
    assert not parsed(request("r3", prompt="a")).wanted.logprobs
    assert parsed({"prompt": "a", "body": {}}).dialect == OWN


@pytest.mark.parametrize(
    "line, word",
    [
        ({"custom_id": "r", "body": 3}, "body must be"),
        ({"body": {"prompt": "a"}}, "custom_id must be"),
        ({"custom_id": 5, "body": {"prompt": "a"}}, "custom_id must be"),
        ({"custom_id": "r", "body": {}}, 'method must be "POST", and is not there'),
        ({"custom_id": "r", "method": "POST", "body": {"prompt": "a"}}, "url is not there; give /v1/completions"),
        ({"custom_id": "r", "method": "POST", "body": {"messages": HELLO}}, "not there; give /v1/chat/completions"),
        ({"custom_id": "r", "url": CHAT, "body": {"messages": HELLO}}, 'method must be "POST", and is not there'),
        (request("r"), "takes prompt"),
        (request("r", prompt="a") | {"method": "GET"}, "method must be"),
        (request("r", "/v1/embeddings", input="a"), "url: only"),
        (request("r", CHAT, prompt="a"), "takes messages, and not prompt"),
        (request("r", messages=HELLO), "takes prompt, and not messages"),
        (request("r", CHAT, messages=[]), "messages must be"),
        (request("r", prompt=["a", "b"]), "each prompt its own line"),
        (request("r", prompt="a", stream=True), "'stream' in body cannot be honoured"),
        (request("r", prompt="a", suffix="a", best_of=3), "'suffix', 'best_of' in body cannot be honoured"),
        (request("r", prompt="a", prompt_logprobs=3), "'prompt_logprobs' in body cannot be honoured"),
        (request("r", CHAT, messages=HELLO, echo=True), "'echo' in body cannot be honoured"),
        (request("r", CHAT, messages=HELLO, echo=False), "'echo' in body"),
        (request("r", CHAT, messages=HELLO, response_format={"type": "json_schema"}), "response_format"),
        (request("r", CHAT, messages=HELLO, tool_choice="required"), "'tool_choice'"),
        (request("r", prompt="a", temprature=1), "'temprature'"),
        (request("r", prompt="a", n=0), "n 0: impossible"),
        (request("r", prompt="a", n=129), "n 129: impossible"),
        (request("r", prompt="a", n=True), "n True: impossible"),
        (request("r", prompt="a", max_tokens=0), "max_tokens 0"),
        (request("r", prompt="a", temperature="hot"), "temperature 'hot'"),
        (request("r", CHAT, messages=HELLO, logprobs=3), "logprobs must be true or false"),
        (request("r", CHAT, messages=HELLO, top_logprobs=3), "needs logprobs"),
        (request("r", prompt="a", top_logprobs=3), "logprobs is the number"),
        (request("r", CHAT, messages=HELLO, stream=0), "'stream' in body cannot be honoured"),
        (request("r", CHAT, messages=HELLO, logprobs=True, top_logprobs=99), "logprobs 99"),
        (request("r", prompt="a", **{f"k{i}": 0 for i in range(99)}), "'k7' in body"),
    ],
)
def test_requests_that_cannot_be_honoured(line, word):
    prompt = parsed(line)
    assert word in prompt.error and prompt.dialect == OPENAI and len(prompt.error) < 300
    assert prompt.id == (line["custom_id"] if isinstance(line.get("custom_id"), str) else 3)


def test_one_file_has_one_dialect():
    other = parsed({"prompt": "a", "custom_id": "x"}, OPENAI)
    assert "has no body" in other.error and other.id == "x"
    assert "is a request of OpenAI" in parsed(request("y", prompt="a"), OWN).error
    assert parsed(request("y", prompt="a"), OPENAI).error is None and parsed({"prompt": "a"}, OWN).error is None


def test_rows_of_chats_and_completions(model, tmp_path):
    prompts, out, own, own_out = (tmp_path / name for name in ("p.jsonl", "o.jsonl", "q.jsonl", "r.jsonl"))
    sampled = {"max_tokens": 6, "temperature": 1, "seed": 5, "n": 3}
    tool = {"type": "function", "function": {"name": "look"}}
    written(
        prompts,
        request("chat", CHAT, messages=HELLO, max_tokens=5, logprobs=True, top_logprobs=2),
        request("three", prompt="The fox", **sampled),
        request("bad", prompt="The fox", stream=True),
        request("words", prompt="The fox", max_tokens=4, logprobs=2),
        {"prompt": "The fox"},
        request("tools", CHAT, messages=HELLO, max_tokens=2, tools=[tool]),
    )
    started = int(time.time())
    options = ("--model", model, "--batch-size", 4)
    code, _, err = run(*options, "--prompts", prompts, "--out", out)
    chat, three, bad, words, mixed, tools = rows_of(out)
    assert code == 1 and err.count("line 3: 'stream'") == 1
    for row in (chat, three, bad, words, mixed, tools):
        assert set(row) == {"id", "custom_id", "response", "error"}
    assert [row["id"] for row in rows_of(out)] == [f"batch_req_{i}" for i in range(6)]
    assert [row["custom_id"] for row in rows_of(out)] == ["chat", "three", "bad", "words", None, "tools"]
    assert bad["response"] is None and bad["error"]["code"] == "invalid_request" and "stream" in bad["error"]["message"]
    assert "has no body" in mixed["error"]["message"]

    written(
        own,
        {"messages": HELLO, "max_tokens": 5, "logprobs": 2},
        {"prompt": "The fox", **sampled},
        {"prompt": "The fox", "max_tokens": 4, "logprobs": 2},
        {"messages": HELLO, "max_tokens": 2, "tools": [tool]},
    )
    assert run(*options, "--prompts", own, "--out", own_out)[0] == 0
    same = rows_of(own_out)
    body = chat["response"]["body"]
    assert chat["error"] is None and chat["response"]["status_code"] == 200 and chat["response"]["request_id"]
    assert body["object"] == "chat.completion" and body["model"] == "model" and body["created"] >= started
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": same[0]["text"], "refusal": None}
    assert choice["index"] == 0 and choice["finish_reason"] == "length"
    tokens = choice["logprobs"]["content"]
    assert [token["logprob"] for token in tokens] == same[0]["logprobs"]
    assert "".join(token["token"] for token in tokens) == same[0]["text"]
    assert all(bytes(token["bytes"]).decode() == token["token"] for token in tokens)
    assert [[top["logprob"] for top in token["top_logprobs"]] for token in tokens] == [
        [value for _, value in top] for top in same[0]["top_logprobs"]
    ]
    count = body["usage"]["prompt_tokens"]
    assert count > 5 and body["usage"] == {"prompt_tokens": count, "completion_tokens": 5, "total_tokens": count + 5}

    body = three["response"]["body"]
    assert body["object"] == "text_completion" and [each["index"] for each in body["choices"]] == [0, 1, 2]
    assert [each["text"] for each in body["choices"]] == [row["text"] for row in same[1:4]]
    assert len({each["text"] for each in body["choices"]}) == 3 and body["choices"][0]["logprobs"] is None
    assert body["usage"]["completion_tokens"] == sum(len(row["tokens"]) for row in same[1:4])

    (choice,) = words["response"]["body"]["choices"]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"] == same[4]["text"]
    assert choice["logprobs"]["token_logprobs"] == same[4]["logprobs"]
    assert choice["logprobs"]["text_offset"][:2] == [0, len(choice["logprobs"]["tokens"][0])]
    assert [len(top) for top in choice["logprobs"]["top_logprobs"]] == [2] * 4
    assert tools["response"]["body"]["choices"][0]["message"]["content"] == same[5]["text"]
    assert tools["response"]["body"]["usage"]["prompt_tokens"] > count


def test_a_request_that_fails_while_it_runs(tmp_path):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    written(prompts, *(request(f"r{i}", prompt="a", n=2, max_tokens=2) for i in range(3)))
    code, printed, _ = fake("--prompts", prompts, "--out", out, "--json", env={"FAKE_FAIL": "1"})
    rows = rows_of(out)
    assert code == 1 and json.loads(printed)["failed"] == 1 and [row["custom_id"] for row in rows] == ["r0", "r1", "r2"]
    assert rows[1]["error"] == {"code": "generation_failed", "message": "layer 3: every logit is NaN"}
    assert [len(row["response"]["body"]["choices"]) for row in (rows[0], rows[2])] == [2, 2]


def test_a_batch_goes_on(tmp_path):
    """A row belongs to its custom_id and to the whole of its request."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    lines = [request(f"r{i}", prompt="a", n=1 + i % 2, max_tokens=2) for i in range(6)]
    lines[4]["body"]["stream"] = True
    written(prompts, *lines)
    assert fake("--prompts", prompts, "--out", out)[0] == 1
    whole = rows_of(out)
    kept = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(kept[5] + kept[1] + kept[4] + kept[0][:30])
    lines[4]["body"]["stream"] = False
    written(prompts, *lines)
    code, _, err = fake("--prompts", prompts, "--out", out, "--resume")
    rows = rows_of(out)
    assert code == 0 and "has rows of 2 of 6 prompts already" in err
    assert [row["custom_id"] for row in rows] == [f"r{i}" for i in range(6)]
    assert rows[1] == whole[1] and rows[5] == whole[5] and rows[4]["error"] is None
    lines[2]["body"]["max_tokens"] = 3
    written(prompts, *lines)
    refuse("--prompts", prompts, "--out", out, "--resume", program=fake, words=["index 2", "another prompt"])


def test_a_custom_id_belongs_to_one_request(tmp_path):
    """The first line has it; the others fail, also where the first one cannot run, and where a run goes on."""
    requests, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    body = {"prompt": "The fox", "max_tokens": 2}
    names = ["a", "b", "a", "c", "b", "c"]
    lines = [request(name, **(body if i != 3 else {"prompt": 5})) for i, name in enumerate(names)]
    written(requests, *lines, request("", **body), {"prompt": "own", "id": "a"})
    assert fake("--prompts", requests, "--out", out)[0] == 1
    rows = rows_of(out)
    errors = [row["error"]["message"] if row["error"] else None for row in rows]
    assert [row["custom_id"] for row in rows] == [*names, "", None] and errors[:2] == [None, None]
    for row, error in list(zip(rows, errors))[2:6]:
        wanted = f'custom_id "{row["custom_id"]}" is that of an earlier line; each request needs its own'
        assert error == wanted or row["id"] == "batch_req_3" and "prompt" in error
    first = out.read_text().splitlines(keepends=True)
    out.write_text("".join(first[1:]))
    assert fake("--prompts", requests, "--out", out, "--resume")[0] == 1
    assert [row["error"] and row["error"]["message"] for row in rows_of(out)] == errors


def test_names_take_a_few_bytes_each():
    seen, rng = Seen(), np.random.default_rng(0)
    names, before = [f"request-{number}" for number in rng.integers(0, 30_000, 60_000).tolist()], set()
    for name in names:
        assert seen.add(name) == (name not in before)
        before.add(name)
    assert seen.nbytes <= 8 * len(before)


def test_a_bad_first_line_has_the_dialect_of_the_next(tmp_path):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    prompts.write_text("bad\n" + json.dumps(request("r", prompt="a")) + "\n")
    assert fake("--prompts", prompts, "--out", out)[0] == 1
    bad, good = rows_of(out)
    assert bad["id"] == "batch_req_0" and bad["custom_id"] is None and "not JSON" in bad["error"]["message"]
    assert good["response"]["body"]["choices"][0]["text"]
