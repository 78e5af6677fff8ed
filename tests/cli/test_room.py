"""The sizes that a run asks for on a device with memory of its own, and to which it lowers what nobody named."""

import json

import pytest

from pipeline.cli.display import Display
from pipeline.generation.generator import Generator
from pipeline.generation.requests import Finished
from pipeline.models import fitting
from pipeline.run import main

WEIGHTS_AND_SCRATCH = 15_100_000  # bytes, of the built-in model with a few rows
POSITION = 4096


@pytest.fixture
def sizes(monkeypatch):
    """The (batch size, context, max_tokens) of the generators that run. What they would say is not what is tested."""
    made = []

    def run(self, requests):
        requests = list(requests)
        made.append((self.batch_size, self.context, [request.max_tokens for request in requests]))
        yield from (Finished(request.index, [5], [-1.0], "length") for request in requests)

    monkeypatch.setattr(Generator, "run", run)
    return made


@pytest.fixture
def prompts(tmp_path):
    """Four prompts, each of a token."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"tokens": [5 + i]}) + "\n" for i in range(4)))
    return path


def run(monkeypatch, capsys, positions, *arguments, device="checker"):
    """(exit code, lines of standard error) with room for so many positions of cache."""
    left = WEIGHTS_AND_SCRATCH + positions * POSITION
    monkeypatch.setattr(fitting, "memory_left", lambda device: left - device.core.allocated)
    code = main([*map(str, arguments), "--device", device, "--json"])
    return code, [line for line in capsys.readouterr().err.splitlines() if "KV cache" in line or "error" in line]


@pytest.mark.parametrize(
    "positions, options, size",
    [
        (10_000, [], (4, 513)),
        (10_000, ["--batch-size", "2"], (2, 513)),
        (1100, [], (2, 513)),
        (300, [], (1, 256)),
        (300, ["--context", "140"], (2, 140)),
        (300, ["--max-tokens", "140"], (2, 141)),
        (300, ["--batch-size", "4"], (4, 2)),  # a token behind each prompt
        (300, ["--kv-cache", "q8"], (1, 513)),
    ],
)
def test_what_nobody_named_is_what_fits(monkeypatch, capsys, sizes, prompts, positions, options, size):
    code, lines = run(monkeypatch, capsys, positions, "--prompts", prompts, *options)
    assert code == 0 and [made[:2] for made in sizes] == [size]
    wanted = (min(4, int(options[1])) if "--batch-size" in options else 4, 513)
    wanted = (wanted[0], int(options[1])) if "--context" in options else wanted
    wanted = (wanted[0], int(options[1]) + 1) if "--max-tokens" in options else wanted
    names = [f"{batch_size:,} × {context:,} positions" for batch_size, context in (wanted, size)]
    expected = [] if wanted == size else [f"KV cache: lowered from {names[0]} to {names[1]}, which takes "]
    assert len(lines) == len(expected) and all(each in line for each, line in zip(expected, lines)), lines


@pytest.mark.parametrize(
    "positions, options",
    [
        (300, ["--max-tokens", "320"]),
        (300, ["--context", "320"]),
        (300, ["--batch-size", "4", "--context", "100"]),
        (-100, []),
    ],
)
def test_what_was_named_is_refused_where_it_does_not_fit(
    monkeypatch, capsys, sizes, prompts, tmp_path, positions, options
):
    out = tmp_path / "rows.jsonl"
    out.write_text("{}\n")
    code, lines = run(monkeypatch, capsys, positions, "--prompts", prompts, "--out", out, *options)
    assert code == 2 and sizes == [] and len(lines) == 1, lines
    for part in (
        "a KV cache of ",
        "the weights ",
        "scratch memory ",
        "the device checker has ",
        " left of ",
        "; give ",
    ):
        assert part in lines[0]
    assert ("a smaller --batch-size" in lines[0]) == ("--batch-size" in options)
    assert ("--context" in lines[0] and "--kv-cache q8" in lines[0]) == (positions > 0)
    assert out.read_text() == "{}\n"


def test_a_number_of_tokens_in_a_prompts_line_is_named(monkeypatch, capsys, sizes, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"tokens": [5, 6], "max_tokens": 290}\n{"tokens": [5, 6, 7, 8]}\n')
    assert run(monkeypatch, capsys, 300, "--prompts", prompts)[0] == 0
    assert sizes == [(1, 292, [290, 512])]
    assert run(monkeypatch, capsys, 270, "--prompts", prompts)[0] == 2


def test_a_context_ends_texts_and_is_the_models_at_most(monkeypatch, capsys, sizes, prompts):
    assert run(monkeypatch, capsys, 10_000, "--prompts", prompts, "--context", 100)[0] == 0
    assert sizes == [(4, 100, [99] * 4)]
    code, lines = run(monkeypatch, capsys, 10_000, "--prompts", prompts, "--context", 1025)
    assert code == 2 and "--context 1025: the model's context is 1,024; give 1 to that" in lines[0]
    code, lines = run(monkeypatch, capsys, 10_000, "--prompts", prompts, "--context", 1)
    assert code == 2 and len(sizes) == 1 and "1 tokens are too many for a context of 1" in lines[0]


def test_memory_that_is_the_machines_makes_no_batch(monkeypatch, capsys, sizes, prompts):
    assert run(monkeypatch, capsys, 0, "--prompts", prompts, device="cpu") == (0, [])
    assert sizes == [(1, 513, [512] * 4)]


def test_the_display_is_told_of_weights_that_go_up(monkeypatch, capsys, sizes, prompts):
    shown = []
    monkeypatch.setattr(Display, "placing", lambda self, done, total: shown.append((done, total)))
    assert run(monkeypatch, capsys, 10_000, "--prompts", prompts)[0] == 0
    done, totals = zip(*shown)
    assert list(done) == sorted(done) and {done[-1]} == set(totals) and done[-1] > 8 << 20
