"""Text and its end through the whole program: what is shown, what the row holds, and what stops it."""

import json

import pytest
from support import shapes
from support.markov import chain, write_markov

from pipeline.run import main

LLAMA = "\N{LLAMA}"


@pytest.fixture
def run(capsys, tmp_path):
    return lambda *arguments: shown_and_row(capsys, tmp_path, *arguments)


def shown_and_row(capsys, folder, model, prompt, count, *options):
    """(what was shown, row) of a run that shows its text, token by token where the prompt is a text, and of one that
    writes a row."""
    lines, out = folder / "prompts.jsonl", folder / "rows.jsonl"
    out.unlink(missing_ok=True)
    lines.write_text(json.dumps({"tokens" if isinstance(prompt, list) else "prompt": prompt}))
    common = ["--model", str(model), "--max-tokens", str(count), "--device", "cpu", *options]
    assert main([*common, "--prompts", str(lines), "--out", str(out)]) == 0
    (row,) = map(json.loads, out.read_text().splitlines())
    capsys.readouterr()
    assert main([*common, *(["--prompts", str(lines)] if isinstance(prompt, list) else ["--prompt", prompt])]) == 0
    return capsys.readouterr().out.rstrip("\n"), row


@pytest.fixture(scope="module")
def in_bytes(tmp_path_factory):
    """A model that goes on with one character for ever, in four tokens of one byte each."""
    tokenizer = shapes.sentencepiece()
    tokens = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in LLAMA.encode()]
    successor = dict(zip(tokens, [*tokens[1:], tokens[0]])) | {tokenizer.token_to_id("b"): tokens[0]}
    return write_markov(tmp_path_factory.mktemp("m"), tokenizer, successor, eos_token_id=2), tokens


@pytest.mark.parametrize(
    "count, options, text, reason, tokens",
    [
        (8, (), LLAMA * 2, "length", 8),
        (6, (), "\ufffd" * 6, "length", 6),
        (40, ("--stop", LLAMA * 2), "", "stop", 8),
        (40, ("--stop", f"{LLAMA}x"), LLAMA * 10, "length", 40),
    ],
)
def test_characters_in_bytes(run, in_bytes, count, options, text, reason, tokens):
    shown, row = run(in_bytes[0], "b", count, *options)
    assert (row["text"], row["finish_reason"], len(row["tokens"])) == (text, reason, tokens)
    assert shown == "b" + text


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_prompt_that_ends_within_a_character(run, in_bytes, place):
    """The character is the answer's, unless the prompt completes it."""
    model, tokens = in_bytes
    shown, row = run(model, tokens[:place], 8 - place)
    assert row["prompt"] + row["text"] == shown == LLAMA * 2
    assert row["prompt"] == (LLAMA if place == 4 else "")


def test_end_that_the_vocabulary_writes_in_pieces(run, tmp_path):
    """The template names an end that is no token: its text stops the answer."""
    tokenizer = shapes.byte_level(specials=("<|endoftext|>",), merges=False)
    tokens = tokenizer.encode("ab<eos>c", add_special_tokens=False).ids
    model = write_markov(tmp_path, tokenizer, chain(tokens), eos_token_id=256)
    assert run(model, "a", 7)[1]["text"] == "b<eos>c"
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}<eos>")
    shown, row = run(model, "a", 30)
    assert (row["text"], row["finish_reason"], len(row["tokens"]), shown) == ("b", "stop", 6, "ab")


@pytest.mark.parametrize(
    "config, files",
    [
        ({"eos_token_id": 256}, {"tokenizer_config.json": {"eos_token": "<|im_end|>"}}),
        ({"eos_token_id": -1}, {"tokenizer_config.json": {"eos_token": "<|im_end|>"}}),
        ({"eos_token_id": None}, {"special_tokens_map.json": {"eos_token": {"content": "<|im_end|>"}}}),
        ({"eos_token_id": [256, 258]}, {}),
        ({}, {"generation_config.json": {"eos_token_id": [256, 258]}}),
        ({}, {"tokenizer_config.json": {"chat_template": "{{ messages[0].content }}<|im_end|>"}}),
    ],
)
def test_end_tokens(run, tmp_path, config, files):
    tokenizer = shapes.byte_level(merges=False)
    a, b, end = (tokenizer.token_to_id(text) for text in ("a", "b", "<|im_end|>"))
    model = write_markov(tmp_path, tokenizer, {a: b, b: end, end: a}, **config)
    for name, content in files.items():
        (model / name).write_text(json.dumps(content))
    shown, row = run(model, "a", 5)
    assert (row["text"], row["finish_reason"], row["tokens"], shown) == ("b", "stop", [b], "ab")
