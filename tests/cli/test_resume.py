"""--resume: a run goes on with the rows that an earlier one left, however that one ended."""

import json
import os

import pytest
from support.programs import fake, refuse, rows_of, run

from pipeline.cli.prompts import Prompt
from pipeline.cli.resuming import read_rows
from pipeline.cli.row_file import RowWriter
from pipeline.cli.rows import failed_row, finished_row, key_of
from pipeline.errors import UsageError


def row(index):
    return finished_row(Prompt(index, f"id{index}", ""), f"p{index}", "x", [1], [-0.5], "stop")


def written(file, *rows, rest=b""):
    file.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + rest)


def indices(file):
    return [row["index"] for row in rows_of(file)]


@pytest.mark.parametrize("rest", [b"", b'{"id": 1, "ind', b'{"index": 5}'])
def test_rows_are_kept_and_the_rest_goes(tmp_path, rest):
    """Rows with error run again, and what a killed run wrote of its last row is no row."""
    file = tmp_path / "o.jsonl"
    written(file, row(4), failed_row(Prompt(2, 2, ""), "why"), row(0), rest=rest)
    with RowWriter(file, resume=True) as writer:
        assert list(writer.kept.keys) == [key_of(4), key_of(0)]
        for index in (4, 0):
            writer.kept.claim(writer.kept.find(key_of(index)), (f"id{index}", f"p{index}"))
        writer.kept.check_all_claimed()
        assert writer.kept.find(key_of(2)) is None
        assert indices(file) == [4, 0]
        with pytest.raises(UsageError, match="another run"):
            RowWriter(file)
        writer.add(row(2))
        assert indices(file) == [4, 0, 2] and writer.rows == 3
    assert indices(file) == [0, 2, 4] and os.listdir(tmp_path) == ["o.jsonl"]


def test_a_file_that_is_not_there_yet(tmp_path):
    with RowWriter(tmp_path / "o.jsonl", resume=True) as writer:
        assert len(writer.kept) == 0
        writer.add(row(0))
    assert indices(tmp_path / "o.jsonl") == [0]


@pytest.mark.parametrize(
    "line", ["x", "[]", "3", '{"index": 0}', '{"index": true, "id": 0, "prompt": ""}', "[" * 99999, ""]
)
def test_a_file_of_something_else_is_left_alone(tmp_path, line):
    file = tmp_path / "o.jsonl"
    written(file, row(0), rest=line.encode() + b"\n")
    before = file.read_bytes()
    with pytest.raises(UsageError, match="o.jsonl line 2 is no row of a run"):
        RowWriter(file, resume=True)
    assert file.read_bytes() == before
    RowWriter(file, overwrite=True).close()  # it is not locked any more


def test_the_first_of_two_rows_counts(tmp_path):
    file = tmp_path / "o.jsonl"
    written(file, row(1), row(1))
    with open(file, "rb") as stream:
        kept = read_rows(stream, file)
    assert list(kept.starts) == [0]


def test_a_run_goes_on(tmp_path):
    """The file is in the end what one run would have written."""
    prompts, whole, parts = tmp_path / "p.jsonl", tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    lines = [{"prompt": f"The {name}", "id": name} for name in ("fox", "cat", "dog", "owl")] + [{"tokens": [9999]}]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--prompts", prompts, "--max-tokens", 6, "--batch-size", 2, "--temperature", 0.9, "--seed", 5]
    assert run(*options, "--out", whole)[0] == 1
    kept = [row for row in rows_of(whole) if row["index"] in (0, 2)]
    written(parts, *reversed(kept), rest=b'{"id": "cat", "index": 1, "te')
    code, _, err = run(*options, "--out", parts, "--resume")
    assert code == 1 and f"onebuf: {parts}: has rows of 2 of 4 prompts already\n" in err
    assert "generated                  12 tokens" in err and rows_of(parts) == rows_of(whole)
    code, out, err = run(*options, "--out", parts, "--resume", "--json")
    assert code == 1 and "4 of 4" in err and json.loads(out)["generated_tokens"] == 0
    assert rows_of(parts) == rows_of(whole)


def test_rows_of_other_prompts(tmp_path):
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("The fox\nThe cat\n")
    assert fake("--prompts", prompts, "--out", out)[0] == 0
    before = out.read_bytes()
    for content in ("The fox\nThe dog\n", "The fox\n"):
        prompts.write_text(content)
        refuse(
            "--prompts", prompts, "--out", out, "--resume", program=fake, words=["index 1", str(out), "same prompts"]
        )
        assert out.read_bytes() == before


@pytest.mark.parametrize("options", [["--prompt", "x"], ["--prompts", "p.txt"], ["--prompts", "p.txt", "--out", "-"]])
def test_nothing_to_go_on_with(options):
    refuse("--resume", *options, words=["--resume", "--prompts", "--out FILE"])
