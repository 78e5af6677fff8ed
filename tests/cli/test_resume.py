"""--resume: a run goes on with the rows that an earlier one left, however that one ended."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
from support.programs import FAKE, fake, refuse, rows_of, run, within

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.cli import feed
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


# What the rows were made with


@pytest.fixture
def here(capsys):
    """The program with the generator of fakes.py, in this process."""
    return lambda *arguments: within(capsys, *arguments)


def start_of_a_run(here, tmp_path, *options, model=()):
    """A run whose second row is lost; the arguments that made it."""
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("The fox\nThe cat\n")
    arguments = [*model, "--prompts", prompts, "--out", out, "--max-tokens", 5]
    assert here(*arguments, *options)[0] == 0
    out.write_bytes(out.read_bytes().splitlines(keepends=True)[0])
    return arguments, out


@pytest.mark.parametrize(
    "first, second, words",
    [
        (
            ["--temperature", "0.5", "--seed", 1],
            ["--temperature", "0.6", "--seed", 1],
            ["--temperature was 0.5", "0.6"],
        ),
        (["--seed", 1], ["--seed", 2], ["--seed was 1, now it is 2"]),
        ([], ["--stop", "x"], ["--stop was not given", '["x"]']),
        (["--logit-bias", "5:1"], [], ['--logit-bias was {"5": 1.0}, now it is not given']),
        ([], ["--top-k", 3, "--n", 2], ["--top-k was 0, now it is 3", "--n was 1"]),
        ([], ["--kv-cache", "q8"], ['--kv-cache was "f16"']),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, here, first, second, words):
    arguments, out = start_of_a_run(here, tmp_path, *first)
    before = out.read_bytes()
    refuse(*arguments, *second, "--resume", program=here, words=["--resume", str(out), *words])
    assert out.read_bytes() == before
    assert here(*arguments, *first, "--resume", "--batch-size", 3, "--threads", 1)[0] == 0
    assert indices(out) == [0, 1] and out.read_bytes().startswith(before)


def test_another_model_is_refused(tmp_path, here):
    """Its contents count: a folder may be moved, and a file may be changed in its place."""
    folder, moved = tmp_path / "model", tmp_path / "moved"
    shutil.copytree(builtin_model(), folder)
    arguments, out = start_of_a_run(here, tmp_path, model=["--model", folder])
    folder.rename(moved)
    assert here("--model", moved, *arguments[2:], "--resume")[0] == 0 and indices(out) == [0, 1]
    with open(moved / "model.safetensors", "r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x77")
    words = ["--resume", "the model was 'model', now it is 'moved'"]
    refuse("--model", moved, *arguments[2:], "--resume", program=here, words=words)


def test_the_seed_is_that_of_the_first_run(tmp_path, here):
    arguments, out = start_of_a_run(here, tmp_path, "--temperature", 1)
    whole = rows_of(out)
    seed = json.loads((tmp_path / "o.jsonl.run").read_text())["settings"]["seed"]
    code, printed, _ = here(*arguments, "--temperature", 1, "--resume", "--json")
    assert code == 0 and json.loads(printed)["seed"] == seed and rows_of(out)[0] == whole[0]


def test_rows_without_a_record(tmp_path, here):
    arguments, out = start_of_a_run(here, tmp_path)
    record = tmp_path / "o.jsonl.run"
    record.write_text("{}")
    refuse(*arguments, "--resume", program=here, words=[str(record), "no record of a run", "delete it"])
    record.unlink()
    code, _, err = here(*arguments, "--resume")
    assert code == 0 and err.count(f"{record}: is not there") == 1 and indices(out) == [0, 1] and record.exists()


def test_rows_are_not_emptied_in_silence(tmp_path, here):
    arguments, out = start_of_a_run(here, tmp_path)
    before = out.read_bytes()
    refuse(*arguments, program=here, words=[f"--out {out}", "--resume", "--overwrite"])
    refuse(*arguments, "--resume", "--overwrite", program=here, words=["--resume and --overwrite"])
    assert out.read_bytes() == before
    assert here(*arguments, "--overwrite")[0] == 0 and indices(out) == [0, 1]
    for more in (["--prompt", "x"], ["--prompt", "x", "--out", "-"]):
        refuse("--overwrite", *more, words=["--overwrite", "--out FILE"])


def test_rows_in_the_order_in_which_they_finished(tmp_path, here):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    lines = [{"prompt": "slow"}, {"prompt": "a", "max_tokens": 1}, {"prompt": "b", "max_tokens": 1}]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["--prompts", prompts, "--out", out, "--batch-size", 2]
    assert here(*arguments, "--order", "finished")[0] == 0 and indices(out) == [1, 2, 0]
    assert here(*arguments, "--resume")[0] == 0 and indices(out) == [0, 1, 2]
    refuse(*arguments, "--order", "length", words=["--order length", "input or finished"])


def test_a_stream_goes_on(tmp_path, here, monkeypatch):
    """More prompts than are looked at first. Rows that have no prompt any more are told when all have come."""
    prompts, whole, parts = tmp_path / "p.txt", tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    monkeypatch.setattr(feed, "AHEAD", 20)
    count = 90
    prompts.write_text("".join(f"p{i}\n" for i in range(count)))
    options = ["--prompts", prompts, "--max-tokens", 1, "--batch-size", 16]
    assert here(*options, "--out", whole)[0] == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    parts.write_bytes(b"".join(lines[i] for i in reversed(range(count)) if i % 3) + lines[0][:20])
    code, _, err = here(*options, "--out", parts, "--resume")
    assert code == 0 and parts.read_bytes() == whole.read_bytes(), err
    code, _, err = here(*options, "--out", parts, "--resume")
    assert code == 0 and f"has rows of {count} of {count} prompts already" in err
    prompts.write_text("".join(f"p{i}\n" for i in range(count - 1)))
    words = [f"index {count - 1}", "same prompts"]
    code, _, err = here(*options, "--out", parts, "--resume")
    assert code == 2 and all(word in err for word in words) and parts.read_bytes() == whole.read_bytes()


def test_what_a_full_disk_left_needs_no_second_copy(tmp_path):
    """Only the end of a line goes, in its place."""
    file = tmp_path / "o.jsonl"
    written(file, row(4), row(0), rest=b'{"id": 1, "ind')
    number = file.stat().st_ino
    with RowWriter(file, resume=True, in_order=False) as writer:
        assert writer.rows == 2
    assert file.stat().st_ino == number and indices(file) == [4, 0]


@pytest.mark.parametrize("room", [1500, 2345])
def test_a_run_that_a_full_disk_ended_goes_on(tmp_path, here, room):
    """A limit of a file's size stands for the disk's end, wherever in a row that is."""
    prompts, out, whole = tmp_path / "p.txt", tmp_path / "o.jsonl", tmp_path / "whole.jsonl"
    prompts.write_text("".join(f"p{i}\n" for i in range(40)))
    options = ["--prompts", prompts, "--max-tokens", 3, "--batch-size", 4]
    assert here(*options, "--out", whole)[0] == 0

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    command = [sys.executable, FAKE, *options, "--out", out]
    done = subprocess.run([*map(str, command)], preexec_fn=limit, capture_output=True, text=True)
    rows = rows_of(out)
    assert done.returncode == 2 and 0 < len(rows) < 40
    why = f"{out}: cannot be written: File too large; {len(rows)} rows are complete in it"
    assert done.stderr == f"onebuf: error: {why}\n"
    code, _, err = here(*options, "--out", out, "--resume")
    assert code == 0 and f"has rows of {len(rows)} of 40" in err and out.read_bytes() == whole.read_bytes()
