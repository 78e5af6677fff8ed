"""The keys of a line of a prompt file: those of every setting, those of OpenAI's interface, and unknown ones."""

import json
import sys

import pytest
from support.programs import fake, rows_of, run

from pipeline import run as program
from pipeline.cli.lines import parse_line
from pipeline.cli.prompts import Prompt
from pipeline.cli.unknown_keys import NAMED_KEYS, UnknownKeys


def parsed(line) -> Prompt:
    return parse_line(json.dumps(line).encode(), True, Prompt(0, 0, "p.jsonl line 1"))


def unknown_keys(prompts):
    keys = UnknownKeys()
    for prompt in prompts:
        keys.add(prompt)
    return keys.message()


def test_settings_of_a_line():
    values = {
        "max_tokens": 3,
        "temperature": 0.5,
        "top_k": 4,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "repetition_window": 8,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "logprobs": 2,
        "seed": 7,
        "logit_bias": {5: -1},
    }
    prompt = parsed({"prompt": "a", **values, "stop": "x"})
    assert prompt.error is None and prompt.settings == values and prompt.stop == ("x",) and prompt.unknown == ()
    assert parsed({"prompt": "a"} | dict.fromkeys(values)).settings == {}  # null leaves the run's


@pytest.mark.parametrize(
    "line, settings",
    [
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"top_logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": False, "top_logprobs": 3}, {"logprobs": 0}),
        ({"logprobs": 3}, {"logprobs": 3}),
    ],
)
def test_names_of_openai(line, settings):
    prompt = parsed({"prompt": "a"} | line)
    assert prompt.error is None and prompt.settings == settings and prompt.unknown == ()


@pytest.mark.parametrize(
    "line, word",
    [
        ({"max_tokens": -2}, "max_tokens -2"),
        ({"max_tokens": 1.5}, "max_tokens 1.5"),
        ({"max_tokens": "5"}, "max_tokens '5'"),
        ({"max_tokens": True}, "max_tokens True"),
        ({"max_completion_tokens": -1}, "max_tokens -1"),
        ({"max_tokens": 3, "max_completion_tokens": 3}, "has both"),
        ({"logprobs": 2, "top_logprobs": 3}, "has both"),
        ({"top_logprobs": 99}, "logprobs 99"),
        ({"temperature": "warm"}, "temperature 'warm'"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_values_that_are_impossible(line, word):
    prompt = parsed({"prompt": "a", "id": "x"} | line)
    assert word in prompt.error and prompt.text == "a" and prompt.id == "x"


def test_unknown_keys_are_named_once():
    lines = [{"prompt": "a", "temprature": 1}, {"prompt": "b", "temprature": 2, "category": "x"}, {"prompt": "c"}]
    prompts = [
        parse_line(json.dumps(line).encode(), True, Prompt(i, i, f"p.jsonl line {i + 1}"))
        for i, line in enumerate(lines)
    ]
    assert unknown_keys(prompts) == (
        'keys that mean nothing here and are not used: "temprature" (p.jsonl line 1; is "temperature" meant?), '
        '"category" (p.jsonl line 2)'
    )
    assert unknown_keys(prompts[2:]) is None


def test_many_and_hostile_unknown_keys():
    keys = {f"key {i}\n\x1b[2J{'x' * 500}": 0 for i in range(50)}
    message = unknown_keys([parsed({"prompt": "a"} | keys)])
    assert f"and {50 - NAMED_KEYS} more" in message and len(message) < 1500
    assert message.isprintable()


def test_lines_with_errors_name_their_keys_too():
    assert parsed({"promt": "a"}).unknown == ("promt",)


def test_keys_of_a_line_as_a_program(tmp_path):
    """Each line has its own limit of tokens, and what means nothing is told once."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    lines = [
        {"prompt": "The fox", "max_tokens": 2},
        {"prompt": "The fox", "max_tokens": 9, "temprature": 1},
        {"prompt": "The fox", "temprature": 1},
    ]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err = run("--prompts", prompts, "--out", out, "--max-tokens", 6, "--batch-size", 3)
    rows = rows_of(out)
    assert code == 0 and [len(row["tokens"]) for row in rows] == [2, 9, 6]
    assert [row["finish_reason"] for row in rows] == ["length"] * 3 and rows[1]["tokens"][:6] == rows[2]["tokens"]
    assert err.count("temprature") == 1 and f'"temprature" ({prompts} line 2; is "temperature" meant?)' in err


def test_no_note_where_all_is_known(tmp_path):
    prompts = tmp_path / "p.txt"
    prompts.write_text('{"temprature": 1}\n')
    assert "mean nothing" not in fake("--prompts", prompts, "--json")[2]  # a text is not JSON


def test_a_package_that_is_missing_is_told_with_the_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": "b", "guided_regex": "b+"}\n')
    assert program.main(["--prompts", str(file), "--max-tokens", "2"]) == 2
    err = capsys.readouterr().err
    assert "p.jsonl line 2: grammars need the package llguidance: pip install onebuf[structured]" in err
