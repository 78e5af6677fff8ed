"""--chat, --system and --stop as a real process."""

import json
import shutil
from pathlib import Path

import pytest
from support.programs import fake, refuse, rows_of, run

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.cli.prompts import OnePrompt
from pipeline.cli.settings import Settings

# A conversation as text, in front of which the model's beginning token must not be put again.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
END = "<|endoftext|>"


@pytest.fixture
def model(tmp_path):
    folder = Path(shutil.copytree(builtin_model(), tmp_path / "model"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "bos_token": END}))
    return folder


def prompt_tokens(model, *arguments):
    code, out, err = run("--model", model, *arguments, "--max-tokens", 2, "--json")
    assert code == 0, err
    return json.loads(out)["prompt_tokens"]


def test_chat_goes_through_the_template(model):
    from pipeline.checkpoints.tokenizer import Tokenizer

    tokenizer = Tokenizer.open(model / "tokenizer.json", 0)
    plain = f"{END}user: The fox\nassistant:"
    assert prompt_tokens(model, "--chat", "--prompt", "The fox") == len(tokenizer.encode(plain, complete=True))
    with_system = f"{END}system: Be kind.\nuser: The fox\nassistant:"
    assert prompt_tokens(model, "--chat", "--system", "Be kind.", "--prompt", "The fox") == len(
        tokenizer.encode(with_system, complete=True)
    )


def test_same_text_as_the_template_by_hand(model):
    by_hand = run("--model", model, "--prompt", "user: The fox\nassistant:", "--max-tokens", 12)[1]
    code, out, _ = run("--model", model, "--chat", "--prompt", "The fox", "--max-tokens", 12)
    assert code == 0 and out and by_hand == f"user: The fox\nassistant:{out}"  # the answer alone is shown


def test_conversations_in_a_file(model, tmp_path):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    messages = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
    ]
    lines = [
        {"messages": messages},
        {"prompt": "C"},
        {"tokens": [5, 6]},
        {"messages": []},
        {"messages": [{"role": 3}]},
        {"messages": messages, "prompt": "x"},
    ]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err = run("--model", model, "--prompts", prompts, "--out", out, "--max-tokens", 3, "--batch-size", 3)
    rows = rows_of(out)
    assert code == 1 and [row["prompt"] for row in rows[:2]] == ["C", "C"]
    assert ["error" in row for row in rows] == [False, False, False, True, True, True]
    assert "messages must be" in rows[3]["error"] and "both prompt and messages" in rows[5]["error"]
    options = ("--prompts", prompts, "--out", out, "--overwrite", "--max-tokens", 3)
    chat = run("--model", model, "--chat", *options)
    assert chat[0] == 1 and rows_of(out)[0] == rows[0] and rows_of(out)[2] == rows[2]
    assert rows_of(out)[1]["tokens"] != rows[1]["tokens"]


def test_several_conversations_are_shown_apart(model):
    code, out, _ = run("--model", model, "--chat", "--prompts", "-", "--max-tokens", 3, data=b"The fox\nThe cat\n")
    assert code == 0 and out.startswith("The fox\n") and "\n\nThe cat\n" in out and out.endswith("\n\n")


def test_what_cannot_chat(model):
    refuse("--chat", "--prompt", "x", words=["storyteller", "no chat template", "without --chat"])
    refuse("--chat", words=["--chat", "--prompt"])
    refuse("--system", "x", "--prompt", "y", words=["--system", "--chat"])
    (model / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{{ raise_exception('no system role') }}"})
    )
    refuse("--model", model, "--chat", "--prompt", "x", words=["--prompt", "no system role"])
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{% include '/etc/passwd' %}"}))
    refuse("--model", model, "--chat", "--prompt", "x", words=["tokenizer_config.json", "chat template", "no loader"])


# Stop strings


def story(*arguments):
    code, out, err = run("--prompt", "Once upon a time", "--max-tokens", 40, *arguments)
    assert code == 0, err
    return out.removeprefix("Once upon a time").removesuffix("\n")


def test_text_ends_where_a_stop_string_begins():
    whole = story()
    for start, length in [(5, 1), (11, 4), (20, 9), (7, 15), (0, 3)]:
        stop = whole[start : start + length]
        assert story("--stop", stop) == whole[: whole.find(stop)]
    assert story("--stop", "zebra") == whole
    first = min(whole.find("e"), whole.find("a"))
    assert story("--stop", "e", "--stop", "a") == whole[:first]


def test_rows_with_stop_strings(tmp_path):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    whole = story()
    stop = whole[9:15]
    lines = [
        {"prompt": "Once upon a time"},
        {"prompt": "Once upon a time", "stop": stop},
        {"prompt": "Once upon a time", "stop": ["zebra", whole[3:6]]},
        {"prompt": "x", "stop": 3},
        {"prompt": "x", "stop": [""]},
    ]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, _ = run("--prompts", prompts, "--out", out, "--max-tokens", 40, "--batch-size", 3, "--stop", "zebra")
    rows = rows_of(out)
    assert code == 1 and [row["finish_reason"] for row in rows] == ["length", "stop", "stop", "error", "error"]
    assert rows[0]["text"] == whole and rows[1]["text"] == whole[: whole.find(stop)]
    assert rows[2]["text"] == whole[: whole.find(whole[3:6])] and len(rows[1]["tokens"]) < len(rows[0]["tokens"])
    assert rows[1]["tokens"] == rows[0]["tokens"][: len(rows[1]["tokens"])] and len(rows[1]["logprobs"]) == len(
        rows[1]["tokens"]
    )
    assert "stop must be" in rows[3]["error"] and "empty" in rows[4]["error"]


def test_other_generators_stop_too():
    code, out, _ = fake("--prompt", "x", "--stop", "fox \N{FOX FACE} who")
    assert code == 0 and out == "x there was a \n"


@pytest.mark.parametrize("stop, word", [("", "empty"), ("x" * 2000, "too long")])
def test_impossible_stop_strings(stop, word):
    refuse(f"--stop={stop}", words=["--stop", word])


def test_settings_keep_the_stops():
    settings = Settings(prompt="x", stop=["a", "b"]).checked()
    assert tuple(settings.stop) == ("a", "b") and OnePrompt("x").take(None).stop is None
