"""How a run ends: signals, kills, readers that go away, disks that are full; nothing that was finished is lost."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support import kills
from support.programs import FAKE, fake, finish, refuse, rows_of, run, start


def interrupted(process, out, rows, number=signal.SIGINT):
    """Sends a signal once `out` has `rows` rows; the exit code, standard output and error."""
    deadline = time.monotonic() + 30
    while not (out.exists() and len(rows_of(out)) >= rows):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    return finish(process)


def test_ctrl_c_keeps_finished_rows(tmp_path):
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("The fox\n" * 3000)
    process = start(["-m", "pipeline.run"], ["--prompts", prompts, "--out", out, "--max-tokens", 8, "--batch-size", 4])
    code, printed, err = interrupted(process, out, 5)
    rows = rows_of(out)
    assert code == 130 and printed == "" and len(rows) >= 5
    assert err == f"onebuf: interrupted: {len(rows)} prompts are finished\n"
    assert [row["index"] for row in rows] == sorted(row["index"] for row in rows)
    assert all(len(row["tokens"]) == 8 for row in rows)


SIGNALS = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, "ended by SIGTERM"),
    signal.SIGHUP: (129, "ended by SIGHUP"),
}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_loses_no_row_behind_a_slow_one(tmp_path, number):
    """Row 0 has the longest text. The rows are in input order at the end, and the file is another run's at once."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    lines = [{"prompt": "slow"}] + [{"prompt": f"prompt {i}", "max_tokens": 1 + i % 3} for i in range(400)]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    process = start([FAKE], ["--prompts", prompts, "--out", out, "--batch-size", 5], {"FAKE_SLEEP": "0.002"})
    code, printed, err = interrupted(process, out, 20, number)
    found = [row["index"] for row in rows_of(out)]
    expected, word = SIGNALS[number]
    assert code == expected and err == f"onebuf: {word}: {len(found)} of 401 prompts are finished\n" and printed == ""
    assert len(found) >= 20 and 0 not in found and found == sorted(found)
    assert sorted(os.listdir(tmp_path)) == ["o.jsonl", "o.jsonl.run", "p.jsonl"]


def test_a_signal_loses_no_text_without_a_file():
    """Texts come in input order, so those behind a slow one wait. Row 9 fails, which is told at once: by then the rows
    before it have ended, but for those of its own batch."""
    lines = [{"prompt": "slow"}] + [{"prompt": f"prompt {i}", "max_tokens": 1} for i in range(1, 10)]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    environment = {"FAKE_SLEEP": "0.05", "FAKE_FAIL": "9"}
    process = start([FAKE], ["--prompts", "-", "--batch-size", 4], environment, stdin=subprocess.PIPE)
    process.stdin.write(data)
    process.stdin.close()
    process.stdin = None
    assert b"line 10: layer 3" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    code, out, _ = finish(process)
    assert code == 143 and "slow" not in out and [f"prompt {i} there" in out for i in range(1, 6)] == [True] * 5


def test_signals_that_are_ignored_stay_ignored(tmp_path):
    """As under nohup."""
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("a\n" * 20)
    command = [sys.executable, FAKE, "--prompts", prompts, "--out", out]
    process = subprocess.Popen(
        command,
        env=os.environ | {"FAKE_SLEEP": "0.0005"},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    while not (out.exists() and rows_of(out)):
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0 and len(rows_of(out)) == 20


def test_a_kill_loses_no_row(tmp_path):
    """tests/fuzz/kills.py tries a hundred moments. The next run goes on where the killed one ended."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    kills.write_prompts(prompts)
    for moment in (0.1, 1.8):
        killed = kills.kill(start, prompts, out, moment)
        assert {index: age for index, age in killed.lost.items() if age >= 1} == {}
    assert sum(age >= 1 for age in killed.ages.values()) > 10 and not killed.ended and kills.SLOW not in killed.kept
    before = {row["index"]: row for row in rows_of(out)} if out.read_bytes().endswith(b"\n") else {}
    code, _, err = run("--prompts", prompts, "--out", out, "--batch-size", 4, "--resume")
    rows = rows_of(out)
    assert code == 0 and f"has rows of {len(killed.kept)} of 200" in err
    assert [row["index"] for row in rows] == list(range(200)) and all(rows[index] == before[index] for index in before)


def test_a_batch_that_is_killed_again_and_again(tmp_path):
    """tests/fuzz/kills.py kills one of 2,000 rows a hundred times."""
    prompts, out, whole = (tmp_path / name for name in ("p.jsonl", "o.jsonl", "whole.jsonl"))
    kills.write_prompts(prompts, 120)
    count, wrong = kills.go_on(start, prompts, out, [0.0, 0.05, 0.1])
    assert wrong == [] and count >= 2
    seed = json.loads((tmp_path / "o.jsonl.run").read_text())["settings"]["seed"]
    options = ("--batch-size", 3, "--temperature", 0.8, "--seed", seed)
    assert run("--prompts", prompts, "--out", whole, *options)[0] == 0
    assert out.read_bytes() == whole.read_bytes()


def test_second_ctrl_c_ends_a_step_that_hangs():
    process = start([FAKE], ["--prompt", "x"], {"FAKE_SLEEP": "30"})
    assert process.stdout.read(1) == b"x"
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130 and err == "onebuf: interrupted\n"


@pytest.mark.parametrize("arguments", [["--prompt", "x"], ["--prompts", "P", "--out", "-"], ["--prompts", "P"]])
def test_reader_that_goes_away(tmp_path, arguments):
    prompts = tmp_path / "P.txt"
    prompts.write_text("a\n" * 300)
    process = start([FAKE], [prompts if a == "P" else a for a in arguments], {"FAKE_SLEEP": "0.0005"})
    process.stdout.read(1)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert process.returncode == 141 and err == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_disk(tmp_path):
    prompts = tmp_path / "p.txt"
    prompts.write_text("a\nb\n")
    code, _, err = fake("--prompts", prompts, "--out", "/dev/full")
    assert code == 2 and err.splitlines()[0].startswith("onebuf: error: /dev/full: cannot be written")
    with open("/dev/full", "wb") as full:
        process = start([FAKE], ["--prompt", "a"], stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and err.startswith(b"onebuf: error: ") and err.count(b"\n") == 1


def test_encoding_that_lacks_the_text():
    code, out, err = fake("--prompt", "日本", env={"PYTHONIOENCODING": "ascii"})
    assert code == 0 and out.startswith("??") and "expert load" in err and err.isascii()


def test_closed_standard_streams():
    code = subprocess.run(
        [sys.executable, FAKE, "--prompt", "x"], close_fds=True, preexec_fn=lambda: (os.close(1), os.close(2))
    ).returncode
    assert code == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_messages_that_cannot_be_written_end_nothing(tmp_path):
    """Standard error on a full disk, and a pipe whose reader has gone."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    for lines, expected in ((['{"prompt": "a"}', "bad", '{"prompt": "b", "x": 1}'], 1), (['{"prompt": "a"}'], 0)):
        prompts.write_text("\n".join(lines))
        arguments = ["--prompts", prompts, "--out", out, "--overwrite"]
        with open("/dev/full", "wb") as full:
            process = start([FAKE], arguments, stderr=full)
            assert process.wait(60) == expected
        assert len(rows_of(out)) == len(lines)
        reader, writer = os.pipe()
        os.close(reader)
        process = start([FAKE], arguments, stderr=writer)
        os.close(writer)
        assert process.wait(60) == expected and len(rows_of(out)) == len(lines)


def test_messages_fail_and_the_error_code_stays():
    reader, writer = os.pipe()
    os.close(reader)
    process = start([FAKE], ["--temperature", "-1"], stderr=writer)
    os.close(writer)
    assert process.wait(60) == 2


def test_logs_that_are_emptied_while_they_grow(tmp_path):
    """What comes later begins at the new end, without NUL bytes before it."""
    prompts, rows, log = tmp_path / "p.txt", tmp_path / "rows.jsonl", tmp_path / "log"
    prompts.write_bytes(b"a\n" + b"\xff\n" * 5 + b"a\n" * 25)
    with open(rows, "wb") as stdout, open(log, "wb") as stderr:
        arguments = ["--prompts", prompts, "--out", "-"]
        process = start([FAKE], arguments, {"FAKE_SLEEP": "0.001"}, stdout=stdout, stderr=stderr)
    while rows.stat().st_size < 3000:
        assert process.poll() is None
        time.sleep(0.01)
    os.truncate(rows, 0)
    os.truncate(log, 0)
    assert process.wait(60) == 1
    assert b"\0" not in rows.read_bytes() and b"\0" not in log.read_bytes() and log.read_bytes()
    assert [json.loads(line)["text"] for line in rows.read_bytes().splitlines()[1:]]


def test_a_second_run_on_the_same_file_is_refused(tmp_path):
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("a\n" * 300)
    first = start([FAKE], ["--prompts", prompts, "--out", out, "--batch-size", 3], {"FAKE_SLEEP": "0.001"})
    while not (out.exists() and len(rows_of(out)) > 3):
        assert first.poll() is None
        time.sleep(0.01)
    for more in (["--overwrite"], ["--resume"]):
        refuse("--prompts", prompts, "--out", out, *more, program=fake, words=[f"--out {out}", "another run"])
    refuse("--prompt", "x", "--trace", out, program=fake, words=[f"--trace {out}", "another run"])
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert len(rows_of(out)) > 3
    prompts.write_text("a\n")
    assert fake("--prompts", prompts, "--out", out, "--overwrite")[0] == 0 and len(rows_of(out)) == 1


@pytest.mark.parametrize("closed", [(0,), (0, 1), (0, 1, 2), (2,)])
def test_closed_descriptors_are_no_files_of_the_run(tmp_path, closed):
    """A file that is opened later must not get the number of a standard stream."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    prompts.write_text('{"prompt": "a"}\nbad\n')
    code = subprocess.run(
        [sys.executable, FAKE, "--prompts", prompts, "--out", out],
        close_fds=True,
        preexec_fn=lambda: [os.close(number) for number in closed],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ).returncode
    assert code == 1 and [row["index"] for row in rows_of(out)] == [0, 1]


@pytest.mark.parametrize("how", ["closed", "a folder", "not for reading"])
def test_standard_input_that_gives_nothing(tmp_path, how):
    def prepare():
        os.close(0)
        if how == "a folder":
            os.open(tmp_path, os.O_RDONLY)
        elif how == "not for reading":
            os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT)

    done = subprocess.run([sys.executable, FAKE, "--prompts", "-"], capture_output=True, preexec_fn=prepare, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stdout == ""
    assert done.stderr.startswith("onebuf: error: standard input: ")
