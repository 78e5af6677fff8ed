"""`python -m pipeline.serve` as a real process, with OpenAI's own client."""

import http.client
import json
import re
import shutil
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.programs import rows_of, run

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.serve import main

openai = pytest.importorskip("openai")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from support.serving import program  # noqa: E402  # it needs the packages

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
HELLO = [{"role": "user", "content": "The fox"}]
SECRET = "plaice-and-turbot"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = Path(shutil.copytree(builtin_model(), tmp_path_factory.mktemp("served") / "teller"))
    (made / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return made


@pytest.fixture(scope="module")
def served(folder):
    with program("--model", folder, "--batch-size", 4, "--context", 200, "--max-requests", 24, "--max-body", 1) as one:
        yield one


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=served[0] + "/v1", api_key="none", max_retries=0, timeout=30)


def raw(address, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content[:1] in b"{[" and content else content.decode()


def settled(served):
    """Waits until nothing runs, and gives the metrics."""
    for _ in range(100):
        text = raw(served[0], "GET", "/metrics")[1]
        if "onebuf_prompts_running 0\n" in text and 'cache_blocks{state="used"} 0\n' in text:
            return text
        time.sleep(0.05)
    raise AssertionError(text)


def test_models(client):
    assert [model.id for model in client.models.list()] == ["teller"]
    assert client.models.retrieve("teller").owned_by == "onebuf"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_answers_are_those_of_a_batch_file(client, folder, tmp_path):
    """One dialect has one home: what differs is the id and the time."""
    asked = [
        ("/v1/completions", {"prompt": "The fox", "max_tokens": 6, "temperature": 0, "logprobs": 2}),
        ("/v1/completions", {"prompt": "A dog", "max_tokens": 3, "temperature": 0, "echo": True, "logprobs": 1}),
        ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 5, "seed": 3, "temperature": 1.0, "n": 2}),
        ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 4, "temperature": 0, "logprobs": True}),
    ]
    lines = [
        {"custom_id": str(i), "method": "POST", "url": url, "body": {"model": "m", **body}}
        for i, (url, body) in enumerate(asked)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run("--model", folder, "--prompts", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")[0] == 0
    for (url, body), row in zip(asked, rows_of(tmp_path / "out.jsonl")):
        create = client.completions.create if "chat" not in url else client.chat.completions.create
        found = json.loads(create(model="teller", **body).model_dump_json(exclude_unset=True))
        expected = row["response"]["body"]
        assert {key: value for key, value in found.items() if key not in ("id", "created")} == {
            key: value for key, value in expected.items() if key not in ("id", "created")
        }


def test_a_stream_is_the_answer_in_pieces(client):
    asked = dict(model="teller", messages=HELLO, max_tokens=9, temperature=1, seed=5, logprobs=True, top_logprobs=2)
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    choices = [chunk.choices[0] for chunk in chunks[:-1]]
    assert choices[0].delta.role == "assistant" and len(choices) > 2
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    logprobs = [entry for choice in choices if choice.logprobs for entry in choice.logprobs.content]
    assert logprobs == whole.choices[0].logprobs.content and len(logprobs) == 9
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_of_completions(client):
    asked = dict(model="teller", prompt=["The fox", "A dog"], max_tokens=6, temperature=0, logprobs=1, n=2)
    whole, texts, logprobs, ends = client.completions.create(**asked), {}, {}, {}
    for chunk in client.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] = texts.get(choice.index, "") + choice.text
        if choice.logprobs:
            logprobs.setdefault(choice.index, []).extend(choice.logprobs.text_offset)
        ends[choice.index] = choice.finish_reason
    assert texts == {choice.index: choice.text for choice in whole.choices} and set(texts) == {0, 1, 2, 3}
    assert logprobs == {choice.index: choice.logprobs.text_offset for choice in whole.choices}
    assert set(ends.values()) == {"length"} and whole.usage.completion_tokens == 24
    echoed = list(client.completions.create(model="teller", prompt="A dog", max_tokens=3, echo=True, stream=True))
    assert "".join(chunk.choices[0].text for chunk in echoed).startswith("A dog")
    scored = dict(model="teller", prompt="A dog", max_tokens=3, echo=True, logprobs=1, temperature=0)
    (chunk,) = client.completions.create(**scored, stream=True)
    assert chunk.choices[0] == client.completions.create(**scored).choices[0]


def test_stops_and_seeds(client):
    def text(**settings):
        return client.completions.create(model="teller", prompt="Once upon", **settings).choices[0]

    whole = text(max_tokens=30, temperature=0)
    stopped = text(max_tokens=30, temperature=0, stop=[whole.text[8:11]])
    assert stopped.text == whole.text[: whole.text.index(whole.text[8:11])] and stopped.finish_reason == "stop"
    stream = client.completions.create(
        model="teller", prompt="Once upon", max_tokens=30, temperature=0, stop=whole.text[8:11], stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == stopped.text
    assert text(max_tokens=9, seed=4).text == text(max_tokens=9, seed=4).text
    assert len({text(max_tokens=9).text for _ in range(4)}) > 1


BAD = [
    ({"prompt": "x", "temprature": 1}, "temprature"),
    ({"prompt": "x", "temperature": "warm"}, "temperature"),
    ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": []}, "empty"),
    ({"prompt": ["a", 5]}, "prompt"),
    ({"prompt": [[10**9]]}, "vocabulary"),
    ({}, "prompt"),
    ({"prompt": "x", "n": 1000}, "n 1000"),
    ({"prompt": "x", "n": 100}, "24"),
    ({"prompt": "x", "stream": "yes"}, "stream"),
    ({"prompt": "x", "stream_options": {"include_usage": True}}, "stream_options"),
    ({"prompt": "x", "logit_bias": {"a": 1}}, "logit_bias"),
    ({"prompt": [7] * 500}, "too many for"),
    ({"prompt": "x", "stop": ""}, "stop"),
    (
        {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {"name": "f"}}]},
        "tools",
    ),
    ({"messages": [{"role": "user"}]}, "content"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
]


@pytest.mark.parametrize("body, word", BAD, ids=range(len(BAD)))
def test_bad_bodies(served, body, word):
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    status, answer = raw(served[0], "POST", path, json.dumps(body))
    assert status == 400 and set(answer) == {"error"} and set(answer["error"]) == {"message", "type", "param", "code"}
    assert word in answer["error"]["message"] and answer["error"]["type"] == "invalid_request_error"
    assert "\n" not in answer["error"]["message"]


def test_garbage(served):
    address = served[0]
    for content, status in [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b'"x"', 400),
        (b"\xff\xfe{}", 400),
        (b'{"prompt": NaN}', 400),
        (b'{"prompt": ' + b"[" * 100_000, 400),
        (b'{"prompt": ' + b"9" * 10_000 + b"}", 400),
        (b'{"prompt": "\\ud800"}', 400),
        (b'{"prompt": "' + b"x" * (1 << 20) + b'"}', 413),
    ]:
        found = raw(address, "POST", "/v1/completions", content)
        assert (found[0], "error" in found[1]) == (status, True), (content[:20], found)
    assert raw(address, "POST", "/v1/completions", b"{}", {"Content-Type": "text/plain"})[0] == 415
    assert raw(address, "GET", "/v1/completions")[0] == 405 and raw(address, "GET", "/v1/nothing")[0] == 404
    assert raw(address, "POST", "/v1/models", b"{}")[0] == 405
    assert raw(address, "GET", "/health", headers={"Host": "evil.example"})[0] == 403
    assert raw(address, "GET", "/health", headers={"Origin": "https://evil.example"})[0] == 403
    assert raw(address, "GET", "/health", headers={f"X-{i}": "1" for i in range(120)})[0] == 431
    assert raw(address, "POST", "/v1/completions", json.dumps({"prompt": "x", "model": "other"}))[0] == 404
    chunked = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    chunked.request("POST", "/v1/completions", (b"x" * 65536 for _ in range(40)), {"Content-Type": "application/json"})
    assert chunked.getresponse().status == 413
    with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) as line:
        line.sendall(b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n")
        assert line.recv(20)[9:12] in (b"400", b"431", b"")


def generated(metrics):
    return int(re.search(r'onebuf_tokens_total\{kind="generated"\} (\d+)', metrics)[1])


def test_clients_that_leave_give_their_rows_back(served, client):
    """Streams and whole answers: texts of 1,900 tokens in all end when their clients hang up."""
    asked = {"prompt": "Once", "max_tokens": 190, "logit_bias": {"0": -100}}  # no text ends by itself
    before = generated(settled(served))
    for _ in range(6):
        stream = client.completions.create(model="teller", **asked, stream=True)
        next(iter(stream))
        stream.close()
    with socket.create_connection((urlsplit(served[0]).hostname, urlsplit(served[0]).port)) as line:
        content = json.dumps(asked | {"n": 4}).encode()
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        time.sleep(0.03)
    assert generated(settled(served)) - before < 1500


def test_requests_beyond_the_limit_are_refused(served):
    body = json.dumps({"prompt": "Once", "max_tokens": 90, "n": 24, "logit_bias": {"0": -100}})
    short = json.dumps({"prompt": "Once", "max_tokens": 2, "n": 20})
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(raw, served[0], "POST", "/v1/completions", body)
        time.sleep(0.15)
        status, answer = raw(served[0], "POST", "/v1/completions", short)
        assert long.result()[0] == 200
    assert status == 429 and answer["error"]["type"] == "rate_limit_error"
    assert "requests_refused_total 1\n" in settled(served)
    assert raw(served[0], "POST", "/v1/completions", short)[0] == 200


def test_nothing_of_a_request_is_in_the_log(served, client):
    client.completions.create(model="teller", prompt=SECRET, max_tokens=2, user=SECRET)
    raw(served[0], "POST", "/v1/completions", json.dumps({"prompt": SECRET, SECRET: 1}))
    raw(served[0], "POST", f"/{SECRET}", b"{}")
    raw(served[0], "POST", "/v1/completions", SECRET)
    text = "".join(served[2])
    assert SECRET not in text and "Traceback" not in text
    assert " 200 " in text and " 400 " in text


def test_figures(served, client):
    client.completions.create(model="teller", prompt="The fox", max_tokens=4)
    text = settled(served)
    assert 'onebuf_tokens_total{kind="generated"}' in text and "# TYPE onebuf_prompts_running gauge" in text
    status, stats = raw(served[0], "GET", "/stats")
    assert status == 200 and stats["model"] == "teller" and stats["batch_size"] == 4
    assert len(stats["experts"]) == 8 and len(stats["experts"][0]) == 16 and sum(stats["experts"][0]) > 0
    assert raw(served[0], "GET", "/health") == (200, {"status": "ok"})


def test_key(folder):
    with program("--model", folder, "--context", 100, "--batch-size", 1, env={"OB_API_KEY": "sesame"}) as (address, *_):
        assert raw(address, "GET", "/health")[0] == 200
        assert raw(address, "GET", "/v1/models")[0] == raw(address, "GET", "/metrics")[0] == 401
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=address + "/v1", api_key="wrong", max_retries=0).models.list()
        good = openai.OpenAI(base_url=address + "/v1", api_key="sesame", max_retries=0)
        assert good.completions.create(model="teller", prompt="The", max_tokens=2).usage.completion_tokens == 2


def test_it_drains(folder):
    """SIGTERM lets what runs end, and takes nothing new."""
    with program("--model", folder, "--context", 1000, "--batch-size", 2) as (address, process, lines):
        good = openai.OpenAI(base_url=address + "/v1", api_key="x", max_retries=0)
        stream = iter(good.completions.create(model="teller", prompt="Once", max_tokens=400, stream=True, seed=1))
        next(stream)
        process.send_signal(signal.SIGTERM)
        rest = list(stream)
        assert rest[-1].choices[0].finish_reason in ("length", "stop")
        assert process.wait(20) == 0
        with pytest.raises(openai.APIConnectionError):
            good.models.list()
        assert any("ends when the requests" in line for line in lines)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--port", 99999], ["--port", "65,535"]),
        (["--api-key", ""], ["--api-key"]),
        (["--temperature", -1], ["--temperature"]),
        (["--max-requests", 0], ["--max-requests"]),
        (["--model", "/nowhere"], ["/nowhere", "no such folder"]),
        (["--context", 10**9], ["--context", "1,024"]),
        (["--host", "no.such.host.invalid"], ["--host", "cannot listen"]),
        (["--drain", -1], ["--drain"]),
    ],
)
def test_what_cannot_start(arguments, words, capsys):
    assert main([str(each) for each in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("onebuf: error: ") and err.count("\n") == 1
    assert [word for word in words if word not in err] == []


def test_without_the_packages(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main([]) == 2
    assert "uvicorn" in (err := capsys.readouterr().err) and "pip install onebuf[serve]" in err
