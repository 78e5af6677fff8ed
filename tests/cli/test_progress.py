"""What is told of a long run: the status, the time that is left, and --metrics."""

import io
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.programs import FAKE, fake, finish, refuse, start

from pipeline.cli import progress
from pipeline.cli.console import PlainDisplay
from pipeline.cli.display import Display
from pipeline.cli.metrics import Figures, to_text
from pipeline.cli.progress import Progress, duration
from pipeline.cli.remaining import seconds_left
from pipeline.generation.requests import Stats
from pipeline.generation.usage import Blocks

LINE = re.compile(r'onebuf_[a-z_]+(\{[a-z]+="[a-z]+"\})? [0-9.e+-]+')


def read_metrics(file):
    """{name with labels: value}, of a file in which each line is as the format wants it."""
    found = {}
    for line in Path(file).read_text().splitlines():
        if not line.startswith("#"):
            assert LINE.fullmatch(line), line
            name, value = line.split(" ")
            found[name] = float(value)
    return found


def test_the_format_of_metrics():
    assert to_text(Figures(5, 1, 2, 30, 40, 1.5, None, 12, 3, Blocks(4, 1, 9), (7.5, 8.0))) == (
        "# HELP onebuf_rows_total Rows that this run wrote.\n"
        "# TYPE onebuf_rows_total counter\n"
        'onebuf_rows_total{state="finished"} 5\n'
        'onebuf_rows_total{state="failed"} 1\n'
        "# HELP onebuf_prompts_running Prompts that are on their way.\n"
        "# TYPE onebuf_prompts_running gauge\n"
        "onebuf_prompts_running 2\n"
        "# HELP onebuf_tokens_total Tokens of prompts that went through the model, and generated ones.\n"
        "# TYPE onebuf_tokens_total counter\n"
        'onebuf_tokens_total{kind="prompt"} 30\n'
        'onebuf_tokens_total{kind="generated"} 40\n'
        "# HELP onebuf_tokens_per_second The same, per second since the last version of this file.\n"
        "# TYPE onebuf_tokens_per_second gauge\n"
        'onebuf_tokens_per_second{kind="prompt"} 7.5\n'
        'onebuf_tokens_per_second{kind="generated"} 8\n'
        "# HELP onebuf_prefix_tokens_total Tokens of prompts that were in the cache already.\n"
        "# TYPE onebuf_prefix_tokens_total counter\n"
        "onebuf_prefix_tokens_total 12\n"
        "# HELP onebuf_preemptions_total Prompts that gave up their part of a full cache and were computed again.\n"
        "# TYPE onebuf_preemptions_total counter\n"
        "onebuf_preemptions_total 3\n"
        "# HELP onebuf_cache_blocks Blocks of the KV cache: of texts that run, kept for beginnings, and free.\n"
        "# TYPE onebuf_cache_blocks gauge\n"
        'onebuf_cache_blocks{state="used"} 4\n'
        'onebuf_cache_blocks{state="kept"} 1\n'
        'onebuf_cache_blocks{state="free"} 9\n'
        "# HELP onebuf_run_seconds Time since the first prompt could run.\n"
        "# TYPE onebuf_run_seconds gauge\n"
        "onebuf_run_seconds 1.5\n"
    )
    assert to_text(Figures(2_000_000_000, 0, 0, 0, 0, 0, 90.25)).endswith("gauge\nonebuf_left_seconds 90.25\n")
    assert "2000000000\n" in to_text(Figures(2_000_000_000, 0, 0, 0, 0, 0, None))


def test_metrics_of_a_run(tmp_path):
    prompts, metrics = tmp_path / "p.jsonl", tmp_path / "m.prom"
    prompts.write_text('{"tokens": [5, 6], "max_tokens": 3}\n' * 4 + "bad\n")
    code, out, _ = fake("--prompts", prompts, "--out", tmp_path / "o.jsonl", "--metrics", metrics, "--json")
    found, summary = read_metrics(metrics), json.loads(out)
    assert code == 1 and found['onebuf_rows_total{state="finished"}'] == 4
    assert found['onebuf_rows_total{state="failed"}'] == 1 and found["onebuf_prompts_running"] == 0
    assert found['onebuf_tokens_total{kind="prompt"}'] == summary["prompt_tokens"] == 8
    assert found['onebuf_tokens_total{kind="generated"}'] == summary["generated_tokens"] == 12
    assert found["onebuf_left_seconds"] == 0 and {file.name for file in tmp_path.iterdir()} == {
        *("p.jsonl", "m.prom", "o.jsonl", "o.jsonl.run")
    }


def test_metrics_tell_of_a_run_that_a_signal_ends(tmp_path):
    metrics = tmp_path / "m.prom"
    process = start([FAKE], ["--prompts", "-", "--metrics", metrics, "--out", tmp_path / "o"], stdin=subprocess.PIPE)
    process.stdin.write(b"a\nb\n")
    process.stdin.flush()
    until = time.monotonic() + 30
    while not (tmp_path / "o").exists() or (tmp_path / "o").read_bytes().count(b"\n") < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    finish(process)
    found = read_metrics(metrics)
    assert found['onebuf_rows_total{state="finished"}'] == 2 and "onebuf_left_seconds" not in found


def test_metrics_that_cannot_be_written(tmp_path):
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("a\n")
    arguments = ("--prompts", prompts, "--out", out)
    refuse(*arguments, "--metrics", tmp_path / "no" / "m", program=fake, words=["--metrics", "no folder"])
    refuse(*arguments, "--metrics", out, program=fake, words=["--metrics", "same file as --out"])
    refuse(*arguments, "--metrics", prompts, program=fake, words=["--metrics", "same file as --prompts"])
    pipe, other = tmp_path / "pipe", tmp_path / "other.txt"
    os.mkfifo(pipe)
    other.write_text("something else")
    refuse(*arguments, "--metrics", pipe, program=fake, words=["--metrics", "no regular file"])
    refuse(*arguments, "--metrics", other, program=fake, words=["--metrics", "a file of something else"])
    assert pipe.is_fifo() and other.read_text() == "something else"
    refuse(*arguments, "--trace", f"{out}.run", program=fake, words=["record of --out", "same file as --trace"])


def followed(monkeypatch, display, metrics, share=None):
    """A Progress of a run with a clock of its own: (the progress, the clock, feed, session)."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    session = SimpleNamespace(ended=0, made=0, rows_finished=0, rows_failed=0, running=0)
    feed = SimpleNamespace(jobs=0, tokens=0, prompts=SimpleNamespace(ended=False, share=share), first_share=0.0)
    stats = Stats()
    made = Progress(display, feed, session, lambda: stats, metrics, lambda: Blocks(3, 5, 4))
    return made, clock, feed, session, stats


def test_a_status_comes_now_and_then(monkeypatch):
    """None in the first half minute; rates are those since the last one."""
    err = io.StringIO()
    made, clock, feed, session, stats = followed(monkeypatch, PlainDisplay(None, err, False), None, 0.25)
    session.ended = session.rows_finished = feed.jobs = 20
    stats.prompt_tokens, stats.generated_tokens = 3000, 60
    clock.now += 29
    made.look()
    assert err.getvalue() == ""
    clock.now += 1
    made.look()
    made.look()
    assert err.getvalue() == (
        "onebuf: 20 rows done; 100 tok/s of prompts, 2 tok/s generated; 25% of the cache in use; about 2 min left\n"
    )
    session.rows_failed, stats.generated_tokens, stats.prefix_tokens, stats.preemptions = 1, 150, 1200, 2
    feed.prompts.share = None
    clock.now += 30
    made.look()
    last = err.getvalue().splitlines()[-1]
    assert last == (
        "onebuf: 20 rows done, 1 failed; 0 tok/s of prompts (40% in the cache), 3 tok/s generated; 25% of the cache in "
        "use, 2 computed again"
    )


def test_metrics_that_fail_later_end_nothing(monkeypatch, tmp_path):
    notes = []
    display = Display()
    display.note = notes.append
    folder = tmp_path / "folder"
    folder.mkdir()
    made, clock, _, _, _ = followed(monkeypatch, display, folder / "m")
    (folder / "m").unlink()
    folder.rmdir()
    for _ in range(3):
        clock.now += 6
        made.look()
    made.close()
    assert len(notes) == 1 and "--metrics" in notes[0] and "not tried again" in notes[0]


def test_metrics_of_rates_are_since_the_last_version(monkeypatch, tmp_path):
    metrics = tmp_path / "m"
    made, clock, _, _, stats = followed(monkeypatch, Display(), metrics)
    for tokens, rate in ((500, 100.0), (1500, 200.0)):
        stats.prompt_tokens = tokens
        clock.now += 5
        made.look()
        found = read_metrics(metrics)
        assert found['onebuf_tokens_per_second{kind="prompt"}'] == rate
    assert found['onebuf_cache_blocks{state="used"}'] == 3


@pytest.mark.parametrize(
    "ended, share, first, jobs, done, expected",
    [
        (True, None, 0, 40, 10, 300),
        (True, None, 0, 40, 40, 0),
        (False, None, 0, 40, 10, None),
        (False, 0.5, 0.0, 40, 20, 300),  # a quarter is done in 100 s
        (False, 0.5, 0.25, 20, 20, 200),  # a quarter had its rows before
        (False, 0.0, 0.0, 40, 10, None),
        (True, None, 0, 40, 0, None),
    ],
)
def test_the_time_that_is_left(ended, share, first, jobs, done, expected):
    """Whether or not anything is known of tokens: here all prompts and texts are equally long."""
    prompts = SimpleNamespace(ended=ended, share=share)
    feed = SimpleNamespace(jobs=jobs, tokens=8 * jobs, prompts=prompts, first_share=first)
    session = SimpleNamespace(ended=done, made=5 * done)
    stats = Stats(prompt_tokens=8 * done, generated_tokens=5 * done, prefill_seconds=10, decode_seconds=70)
    assert seconds_left(feed, session, stats, 100.0) == expected
    assert seconds_left(feed, session, Stats(), 100.0) == expected


def test_the_time_that_is_left_is_that_of_tokens():
    """Prompts that are read have known lengths, and their tokens cost less than those that are generated."""
    feed = SimpleNamespace(jobs=4, tokens=1000, prompts=SimpleNamespace(ended=True, share=1.0), first_share=0.0)
    session = SimpleNamespace(ended=1, made=20)  # of two that were begun
    stats = Stats(prompt_tokens=600, generated_tokens=30, prefill_seconds=6, decode_seconds=30)
    assert seconds_left(feed, session, stats, 72.0) == pytest.approx((400 * 6 / 600 + 50 * 1.0) * 2)


def test_durations():
    assert [duration(s) for s in (0, 12.3, 89, 90, 5000, 5400, 400_000)] == [
        *("0 s", "12 s", "89 s", "2 min", "83 min", "1 h 30 min", "111 h 7 min")
    ]
