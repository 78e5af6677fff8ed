"""Prompts that come one by one: slow pipes, more lines than are looked at first, and what is told of them."""

import json
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
from support.programs import FAKE, fake, finish, refuse, rows_of, run, start, within

from pipeline.cli import feed
from pipeline.cli.jobs import Job, JobMaker
from pipeline.cli.prompt import Prompt
from pipeline.cli.room import wanted_size
from pipeline.cli.settings import Settings
from pipeline.cli.source import BLOCK, Lines
from pipeline.generation import sizes
from pipeline.generation.sizes import STREAM_CONTEXT
from pipeline.graph.memory import machine_bytes


def wait_for_rows(out, count, process):
    deadline = time.monotonic() + 20
    while not (out.exists() and out.read_bytes().count(b"\n") >= count):
        if time.monotonic() > deadline or process.poll() is not None:
            process.kill()  # it may wait for ever
            raise AssertionError(f"no {count} rows came: {process.communicate()[1].decode()}")
        time.sleep(0.01)


@pytest.mark.parametrize("program", [[FAKE], ["-m", "pipeline.run"]], ids=["fake", "real"])
def test_rows_go_on_while_a_pipe_is_silent(tmp_path, program):
    """Each line is a row at once, and one that runs ends though no line comes."""
    out = tmp_path / "o.jsonl"
    arguments = ["--prompts", "-", "--out", out, "--batch-size", 3, "--max-tokens", 6]
    process = start(program, arguments, stdin=subprocess.PIPE)
    for count, line in enumerate((b"The fox\nThe cat\n", b"\nThe dog\n", b"The owl\n"), 1):
        process.stdin.write(line)
        process.stdin.flush()
        wait_for_rows(out, count + 1, process)
    process.stdin.write(b"The end without a line end")
    code, _, err = finish(process)
    rows = rows_of(out)
    assert code == 0, err
    assert [row["prompt"] for row in rows] == ["The fox", "The cat", "The dog", "The owl", "The end without a line end"]
    assert {len(row["tokens"]) for row in rows} == {6}


def test_a_row_runs_beside_one_that_came_later(tmp_path):
    """The batch has room, and a line that comes while a slow row runs does not wait for its end."""
    out = tmp_path / "o.jsonl"
    arguments = ["--prompts", "-", "--out", out, "--batch-size", 2, "--order", "finished"]
    process = start([FAKE], arguments, {"FAKE_SLEEP": "0.03"}, stdin=subprocess.PIPE)
    process.stdin.write(b'{"prompt": "slow"}\n')
    process.stdin.flush()
    time.sleep(0.5)
    process.stdin.write(b'{"prompt": "quick", "max_tokens": 1}\n')
    code, _, _ = finish(process)
    assert code == 0 and [row["prompt"] for row in rows_of(out)] == ["quick", "slow"]


@pytest.mark.parametrize("number, expected", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_that_waits_for_a_pipe(tmp_path, number, expected):
    out = tmp_path / "o.jsonl"
    process = start([FAKE], ["--prompts", "-", "--out", out], stdin=subprocess.PIPE)
    process.stdin.write(b"a\nb\n")
    process.stdin.flush()
    wait_for_rows(out, 2, process)
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(30) == expected
    assert b"2 prompts are finished" in process.stderr.read() and len(rows_of(out)) == 2
    process.communicate()


@pytest.fixture
def ahead(monkeypatch):
    """How many prompts are looked at first: few, so that the files of a test are short."""
    monkeypatch.setattr(feed, "AHEAD", 20)
    return 20


def test_more_lines_than_are_looked_at(tmp_path, capsys, ahead):
    """Bad ones fail alone, wherever they are, and each key is named once."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    count = ahead + 60
    lines = [{"prompt": f"p{i}", "max_tokens": 1 + i % 3} for i in range(count)]
    lines[3] |= {"early": 1}
    lines[ahead + 10] |= {"late": 1, "early": 1}
    texts = [json.dumps(line) for line in lines]
    for bad in (0, ahead - 1, ahead + 7, count - 1):
        texts[bad] = "bad"
    prompts.write_text("\n\n".join(texts) + "\n")
    code, _, err = within(capsys, "--prompts", prompts, "--out", out, "--batch-size", 7)
    rows = rows_of(out)
    assert code == 1 and [row["index"] for row in rows] == list(range(count))
    assert [row["index"] for row in rows if "error" in row] == [0, ahead - 1, ahead + 7, count - 1]
    assert [len(row["tokens"]) for row in rows if "error" not in row] == [
        line["max_tokens"] for i, line in enumerate(lines) if texts[i] != "bad"
    ]
    assert err.count('"early"') == 1 and err.count('"late"') == 1 and f"4 of {count:,} prompts" in err


def test_bad_lines_before_the_first_good_one_wait(tmp_path, capsys, ahead, monkeypatch):
    """However many they are: nothing is written before something can run."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    monkeypatch.setattr(feed, "_HELD", 1000)  # bytes, after which they wait on the disk
    prompts.write_text("bad\n" * (ahead + 50) + '{"prompt": "good", "max_tokens": 1}\n')
    code, _, _ = within(capsys, "--prompts", prompts, "--out", out)
    rows = rows_of(out)
    assert (
        code == 1 and len(rows) == ahead + 51 and [row["index"] for row in rows if "error" not in row] == [ahead + 50]
    )
    out.unlink()
    prompts.write_text("bad\n" * (ahead + 50))
    words = [f"{prompts} line 1: not JSON", f"and {ahead + 49} more"]
    refuse("--prompts", prompts, "--out", out, program=fake, words=words)
    assert not out.exists()


def test_a_prompt_that_is_too_long_names_the_context_it_needs():
    """Where more prompts come, memory and not their longest text has decided the context."""
    model = SimpleNamespace(context=1024, vocab_size=4096)
    for context, positions, expected in (
        (None, 40, "60 tokens are too many for the 40 positions that this run has; give --context 61 or more"),
        (None, 1024, None),
        (50, 50, "60 tokens are too many for a context of 50; shorten it by 11 or more"),
    ):
        settings = Settings(prompts="p.txt", context=context).checked()
        maker = JobMaker(SimpleNamespace(end_texts=(), decode_prompt=lambda tokens: ""), model, settings, None)
        maker.context = positions
        assert getattr(maker.make(Prompt(0, 0, "", tokens=(5,) * 60)), "error", None) == expected


def size(context=None, model_context=100_000, all_here=False, unit=1, longest=20, unified=True):
    model = SimpleNamespace(context=model_context, device=SimpleNamespace(unified=unified), unplaced_bytes=1000)
    settings = Settings(prompts="p.txt", context=context, batch_size=4).checked()
    jobs = [Job(Prompt(0, 0, ""), "", (5,), longest - 1, 1)]
    return wanted_size(settings, model, jobs, all_here, lambda batch, context: batch * context * unit)


def test_a_context_for_prompts_that_nobody_has_seen(monkeypatch):
    assert size(all_here=True) == (1, 20) and size() == (4, STREAM_CONTEXT)
    assert size(context=77) == (4, 77) and size(model_context=500) == (4, 500)
    assert size(longest=STREAM_CONTEXT + 5) == (4, STREAM_CONTEXT + 5)
    unit = machine_bytes() // 4 // STREAM_CONTEXT  # such a cache would fill the memory: an eighth of it is taken
    assert size(unit=unit) == (4, STREAM_CONTEXT // 8)
    monkeypatch.setattr(sizes, "memory_left", lambda device: 1000 + 4 * STREAM_CONTEXT)  # half is left for other things
    assert size(unified=False) == (4, STREAM_CONTEXT // 2) and size(unified=False, all_here=True) == (1, 20)
    assert size(unit=machine_bytes()) == (4, 20)


def test_finished_prompts_take_no_memory(tmp_path):
    """Three thousand more lines take a few bytes each, not kilobytes."""
    prompts, peaks = tmp_path / "p.jsonl", []
    for count in (1_200, 4_200):
        prompts.write_text('{"tokens": [5, 6, 7, 8, 9], "max_tokens": 1}\n' * count)
        arguments = ("--prompts", prompts, "--out", tmp_path / f"{count}.jsonl", "--batch-size", 32, "--json")
        code, out, _ = fake(*arguments)
        assert code == 0
        peaks.append(json.loads(out)["peak_memory_bytes"])
    assert peaks[1] - peaks[0] < 3e6, peaks


class Pieces:
    """A stream that gives its pieces one by one."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def read(self, size):
        assert size == BLOCK
        return self.pieces.pop(0) if self.pieces else b""


def taken(*pieces):
    lines, found = Lines("x", Pieces(*pieces)), []
    while (line := lines.take(None)) is not None:
        found.append(line)
    assert lines.ended and lines.take(0) is None
    return found


def test_lines_in_any_pieces():
    assert taken(b"\xef\xbb", b"\xbfa", b"b\r\n\nc\n", b"\n", b"d", b"e") == [
        (1, b"ab"),
        (2, b""),
        (3, b"c"),
        (4, b""),
        (5, b"de"),
    ]
    assert taken() == [] and taken(b"a\n") == [(1, b"a")] and taken(b"\n") == [(1, b"")]
    assert taken(b"x" * 10, *[b"y" * 10] * 1000) == [(1, b"x" * 10 + b"y" * 10_000)]


def test_a_stream_that_breaks_is_named():
    class Broken(Pieces):
        def read(self, size):
            if not self.pieces:
                raise OSError(5, "Input/output error")
            return super().read(size)

    from pipeline.errors import PromptError

    lines = Lines("tape", Broken(b"a\nb\n"))
    assert [lines.take(None), lines.take(None)] == [(1, b"a"), (2, b"b")]
    with pytest.raises(PromptError, match="tape: cannot be read: Input/output error"):
        lines.take(None)


def test_several_texts_of_a_prompt(tmp_path):
    """Sample 0 is what one text is; the others have seeds of their own, which no other prompt has."""
    prompts, one, three = tmp_path / "p.jsonl", tmp_path / "one.jsonl", tmp_path / "three.jsonl"
    lines = [{"prompt": "The fox"}, {"prompt": "The fox", "n": 2, "seed": 4}, {"prompt": "x", "n": 0}]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--prompts", prompts, "--max-tokens", 12, "--temperature", 1, "--seed", 3, "--batch-size", 4]
    assert run(*options, "--out", one)[0] == 1
    assert run(*options, "--n", 3, "--out", three)[0] == 1
    rows = rows_of(three)
    assert [(row["index"], row.get("sample")) for row in rows] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, None)]
    texts = [row["text"] for row in rows[:5]]
    assert len(set(texts)) == 5 and "n 0" in rows[5]["error"]
    single = rows_of(one)
    assert [row["text"] for row in single[:3]] == [texts[0], texts[3], texts[4]] and "sample" not in single[0]
    kept = [json.dumps(row) + "\n" for row in rows if row.get("sample") == 1]
    three.write_text("".join(kept) + '{"id": 0, "index": 0, "sam')
    assert run(*options, "--n", 3, "--out", three, "--resume")[0] == 1 and rows_of(three) == rows
