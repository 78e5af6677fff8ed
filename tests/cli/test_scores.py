"""Texts that are scored: prompts with log-probabilities, echo in batch files, and --eval perplexity."""

import json
import math
import os

import numpy as np
import pytest
from support.paths import golden
from support.programs import refuse, rows_of, run

GOLDEN = golden("golden")["4bit"]
STORIES = [(case["prompt"] + case["text"]).replace("\n", " ") for case in GOLDEN]


def written(file, *lines):
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return file


def summary(*arguments):
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def together(rows):
    return sum(row["scored_tokens"] for row in rows), sum(row["nll"] for row in rows)


def test_rows_with_log_probabilities_of_prompts(tmp_path):
    """What a text has as a prompt is what it had when it was made; a line decides for itself."""
    case = GOLDEN[0]
    made = written(tmp_path / "made.jsonl", {"prompt": case["prompt"], "max_tokens": 20, "logprobs": 2})
    assert run("--prompts", made, "--out", tmp_path / "made.out.jsonl")[0] == 0
    (row,) = rows_of(tmp_path / "made.out.jsonl")
    lines = written(
        tmp_path / "p.jsonl",
        {"tokens": case["prompt_ids"] + row["tokens"], "max_tokens": 0, "prompt_logprobs": 2},
        {"prompt": case["prompt"], "max_tokens": 2, "prompt_logprobs": None},
        {"prompt": case["prompt"], "max_tokens": 0},
    )
    assert run("--prompts", lines, "--out", tmp_path / "o.jsonl", "--batch-size", 2)[0] == 1
    scored, plain, failed = rows_of(tmp_path / "o.jsonl")
    first = len(case["prompt_ids"])
    assert scored["prompt_tokens"] == case["prompt_ids"] + row["tokens"] and scored["tokens"] == []
    assert scored["prompt_logprobs"][0] is None and len(scored["prompt_logprobs"]) == len(scored["prompt_tokens"])
    np.testing.assert_allclose(scored["prompt_logprobs"][first:], row["logprobs"], atol=1e-5)
    assert [[pair[0] for pair in pairs] for pairs in scored["prompt_top_logprobs"][first:]] == [
        [pair[0] for pair in pairs] for pairs in row["top_logprobs"]
    ]
    assert scored["finish_reason"] == "length" and "prompt_logprobs" not in plain
    assert failed["error"].startswith("max_tokens 0: impossible without log-probabilities of the prompt")
    options = ("--max-tokens", 0, "--prompt-logprobs", 0, "--out", tmp_path / "own.jsonl")
    assert run("--prompt", STORIES[0], *options)[0] == 0
    (own,) = rows_of(tmp_path / "own.jsonl")
    assert "prompt_top_logprobs" not in own and len(own["prompt_logprobs"]) == len(own["prompt_tokens"])


def test_rows_have_the_keys_that_were_asked_for_where_nothing_stands_in_them(tmp_path):
    lines = written(
        tmp_path / "p.jsonl",
        {"tokens": [3], "prompt_logprobs": 3, "logprobs": 2, "max_tokens": 0},
        {"tokens": [3], "prompt_logprobs": 0, "max_tokens": 0},
    )
    assert run("--prompts", lines, "--out", tmp_path / "o.jsonl")[0] == 0
    many, none = rows_of(tmp_path / "o.jsonl")
    assert many["prompt_logprobs"] == [None] == many["prompt_top_logprobs"] and many["top_logprobs"] == []
    assert none["prompt_logprobs"] == [None] and not {"prompt_top_logprobs", "top_logprobs"} & set(none)


def test_rows_of_texts_that_cannot_be_scored_have_the_keys_of_scores(tmp_path):
    texts, out = written(tmp_path / "p.jsonl", {"prompt": STORIES[0]}, {"tokens": [9999999]}), tmp_path / "o.jsonl"
    assert run("--eval", "perplexity", "--prompts", texts, "--out", out)[0] == 1
    scored, failed = rows_of(out)
    assert set(failed) == {*scored, "error"} and failed["scored_tokens"] == 0 and failed["nll"] is None


def test_rows_of_scores_and_of_texts_do_not_mix(tmp_path):
    """With their record and without it, in both directions."""
    texts = written(tmp_path / "p.txt", STORIES[0])
    for made, other, words in (
        (["--eval", "perplexity"], ["--max-tokens", 1], ("a row of --eval, which this run has not", '"perplexity"')),
        (["--max-tokens", 1], ["--eval", "perplexity"], ("no row of --eval, which this run has", "was not given")),
    ):
        out = tmp_path / f"{len(made[0])}.jsonl"
        assert run("--prompts", texts, "--out", out, *made)[0] == 0
        code, _, err = run("--prompts", texts, "--out", out, "--resume", *other)
        assert code == 2 and f"--eval was {'not given' if made[0] != '--eval' else words[1]}" in err
        assert "--prompt-logprobs" not in err and "--context" not in err
        (tmp_path / f"{out.name}.run").unlink()
        code, _, err = run("--prompts", texts, "--out", out, "--resume", *other)
        assert code == 2 and f"line 1 is {words[0]}" in err


def test_echo(tmp_path):
    def request(name, **body):
        body = {"prompt": "The fox", "max_tokens": 3, **body}
        return {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body}

    requests = written(
        tmp_path / "p.jsonl",
        request("scored", echo=True, logprobs=2, max_tokens=0),
        request("both", echo=True, logprobs=0),
        request("text", echo=True),
        request("plain", logprobs=2),
        request("nothing", echo=True, max_tokens=0),
        request("two", echo=True, logprobs=1, n=2, temperature=1, seed=3),
        request("refused", max_tokens=0),
        request("wrong", echo=1),
    )
    assert run("--prompts", requests, "--out", tmp_path / "o.jsonl", "--batch-size", 4)[0] == 1
    rows = {row["custom_id"]: row for row in rows_of(tmp_path / "o.jsonl")}
    choices = {name: row["response"]["body"]["choices"] for name, row in rows.items() if row["response"]}
    plain = choices["plain"][0]
    scored = choices["scored"][0]["logprobs"]
    assert choices["scored"][0]["text"] == "The fox" == choices["nothing"][0]["text"]
    assert choices["both"][0]["text"] == "The fox" + plain["text"] == choices["text"][0]["text"]
    assert choices["text"][0]["logprobs"] is None and choices["nothing"][0]["logprobs"] is None
    assert scored["token_logprobs"][0] is None and scored["top_logprobs"][0] is None
    assert "".join(scored["tokens"]) == "The fox" and all(len(top) == 2 for top in scored["top_logprobs"][1:])
    both = choices["both"][0]["logprobs"]
    count = len(scored["tokens"])
    assert both["tokens"] == scored["tokens"] + plain["logprobs"]["tokens"]
    assert both["token_logprobs"] == scored["token_logprobs"] + plain["logprobs"]["token_logprobs"]
    assert both["text_offset"][count:] == [7 + offset for offset in plain["logprobs"]["text_offset"]]
    assert rows["scored"]["response"]["body"]["usage"]["completion_tokens"] == 0
    one, two = choices["two"]
    assert one["text"] != two["text"] and one["logprobs"]["token_logprobs"][:count] == scored["token_logprobs"]
    assert rows["refused"]["error"]["message"] == "max_tokens 0: impossible without echo; give at least 1"
    assert rows["wrong"]["error"]["message"] == "echo must be true or false"


def test_perplexity_of_prompts(tmp_path):
    """A row per text; the sum is of their tokens, also where a run goes on."""
    texts, out = written(tmp_path / "p.txt", *STORIES), tmp_path / "o.jsonl"
    made = summary("--eval", "perplexity", "--prompts", texts, "--out", out, "--batch-size", 3)
    rows = rows_of(out)
    assert [row["prompt"] for row in rows] == STORIES and made["prompts"] == len(STORIES)
    tokens, nll = together(rows)
    assert made["scored_tokens"] == tokens and made["nll"] == pytest.approx(nll, abs=1e-4)
    assert made["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-6) and 1 < made["perplexity"] < 10
    for row in rows:
        assert row["perplexity"] == pytest.approx(math.exp(row["nll"] / row["scored_tokens"]), rel=1e-5)
    kept = out.read_text().splitlines(keepends=True)
    out.write_text("".join(kept[:3]))
    again = summary("--eval", "perplexity", "--prompts", texts, "--out", out, "--resume")
    assert out.read_text() == "".join(kept) and again["perplexity"] == pytest.approx(made["perplexity"], rel=1e-6)
    code, _, err = run("--prompts", texts, "--out", out, "--resume", "--eval", "perplexity", "--stride", 7)
    assert code == 2 and "--stride was 512, now it is 7" in err


def test_perplexity_of_a_text_in_windows(tmp_path):
    text = tmp_path / "t.md"
    text.write_bytes(b"\xef\xbb\xbf" + "\n\n".join(STORIES).encode())
    whole = summary("--eval", "perplexity", "--text", text)
    assert (whole["window"], whole["stride"], whole["prompts"]) == (1024, 512, 1)
    parts = summary("--eval", "perplexity", "--text", text, "--context", 64, "--stride", 64)
    assert parts["scored_tokens"] == whole["scored_tokens"] - whole["scored_tokens"] // 64
    assert parts["perplexity"] != whole["perplexity"]  # with less before each token
    code, out, err = run("--eval", "perplexity", "--text", text, "--context", 64)
    assert code == 0 and out == "" and f"({whole['scored_tokens']} tokens, window 64, stride 32)" in err


def test_a_text_of_one_token(tmp_path):
    lines = written(tmp_path / "p.jsonl", {"tokens": [5]}, {"prompt": "The fox"}, {"body": {"prompt": "x"}})
    code, _, _ = run("--eval", "perplexity", "--prompts", lines, "--out", tmp_path / "o.jsonl")
    rows = rows_of(tmp_path / "o.jsonl")
    assert code == 1 and (rows[0]["scored_tokens"], rows[0]["perplexity"]) == (0, None)
    assert rows[1]["scored_tokens"] == 2 and rows[2]["error"]


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--eval", "bleu", "--text", "x"], "--eval bleu: unknown; give perplexity"),
        (["--eval", "perplexity"], "give either --prompts FILE, each a text of its own, or --text FILE"),
        (["--eval", "perplexity", "--text", "missing.md"], "missing.md: no such file"),
        (["--eval", "perplexity", "--text", os.devnull], "a text of 1 tokens has no perplexity; give at least 2"),
        (["--eval", "perplexity", "--text", "x", "--temperature", 1], "--temperature: changes nothing with --eval"),
        (["--eval", "perplexity", "--text", "x", "--stop", "a"], "--stop: changes nothing with --eval"),
        (["--eval", "perplexity", "--text", "x", "--out", "y.jsonl"], "--out: has a row per prompt"),
        (["--eval", "perplexity", "--text", __file__, "--context", 64, "--stride", 65], "--stride 65: tokens between"),
        (["--eval", "perplexity", "--text", "x", "--stride", 0], "--stride 0: too small; give at least 1"),
        (["--eval", "perplexity", "--text", "x", "--context", 1], "--context 1: too small"),
        (["--text", "x"], "--text: is for texts that are scored; give --eval perplexity, too"),
        (["--stride", 4], "--stride: is for texts that are scored"),
        (["--max-tokens", 0], "--max-tokens 0: too small; give at least 1"),
        (["--prompt-logprobs", 65], "--prompt-logprobs 65: impossible"),
        (["--prompt", "a", "--prompt-logprobs", 0], "--prompt-logprobs: is part of rows; give --out, too"),
        (["--prompt", "a", "--logprobs", 2, "--json"], "--logprobs: is part of rows; give --out, too"),
    ],
)
def test_what_does_not_go_together(arguments, word):
    refuse(*arguments, words=[word])
