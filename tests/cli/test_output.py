"""Rows: in the file as soon as they are finished, whole at every moment, in input order at the end."""

import errno
import fcntl
import io
import itertools
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli import out_target, row_file
from pipeline.cli.out_target import check_unused
from pipeline.cli.prompts import Prompt
from pipeline.cli.row_file import RowWriter
from pipeline.cli.rows import InOrder, failed_row, finished_row
from pipeline.errors import UsageError


def row(index, text="x"):
    return finished_row(Prompt(index, f"id{index}", ""), "p", text, [1, 2], [-0.5, -0.25], "stop")


def indices(file):
    content = file.read_bytes()
    assert content == b"" or content.endswith(b"\n")
    return [json.loads(line)["index"] for line in content.splitlines()]


def test_fields():
    assert row(3) == {
        "id": "id3",
        "index": 3,
        "prompt": "p",
        "text": "x",
        "tokens": [1, 2],
        "logprobs": [-0.5, -0.25],
        "finish_reason": "stop",
    }
    failed = failed_row(Prompt(1, 1, "", text="p"), "why")
    assert failed == {
        "id": 1,
        "index": 1,
        "prompt": "p",
        "text": "",
        "tokens": [],
        "logprobs": [],
        "finish_reason": "error",
        "error": "why",
    }


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(7)))
def test_rows_are_there_at_once_and_in_order_at_the_end(tmp_path_factory, order):
    file = tmp_path_factory.getbasetemp() / "order.jsonl"
    with RowWriter(file, overwrite=True) as writer:
        for count, index in enumerate(order, 1):
            writer.add(row(index, "日" * index))  # lines of several lengths
            assert indices(file) == list(order[:count])  # without flushing or closing
    assert indices(file) == list(range(7))
    assert [json.loads(line)["text"] for line in file.read_bytes().splitlines()] == ["日" * i for i in range(7)]


def test_rows_of_an_interrupted_run(tmp_path):
    file = tmp_path / "o.jsonl"
    with pytest.raises(KeyboardInterrupt), RowWriter(file) as writer:
        for index in (0, 4, 2):
            writer.add(row(index))
        raise KeyboardInterrupt
    assert indices(file) == [0, 2, 4] and os.listdir(tmp_path) == ["o.jsonl"]


def unsorted(file):
    """A writer whose rows are out of order."""
    writer = RowWriter(file, overwrite=True)
    for index in (2, 0, 1):
        writer.add(row(index))
    return writer


def test_order_comes_by_one_replacement(tmp_path, monkeypatch):
    """Whatever step of it fails, the file has all rows."""
    file = tmp_path / "o.jsonl"
    calls = ["fstat", "stat", "pread", "fsync", "replace", "fchmod"]
    for name in calls:
        with monkeypatch.context() as patch:
            writer = unsorted(file)

            def fail(*arguments):
                raise OSError(errno.EIO, "Input/output error")

            patch.setattr(row_file.os, name, fail)
            writer.close()
        assert indices(file) == [2, 0, 1] and os.listdir(tmp_path) == ["o.jsonl"], name
    unsorted(file).close()
    assert indices(file) == [0, 1, 2]


def test_what_a_killed_run_left_goes(tmp_path):
    """It was about to put its rows in order."""
    (tmp_path / ".o.jsonl.new").write_text("half")
    with RowWriter(tmp_path / "o.jsonl"):
        assert os.listdir(tmp_path) == ["o.jsonl"]


def test_mode_and_place_of_the_file_stay(tmp_path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "o.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(real)
    real.touch(0o640)
    real.chmod(0o640)
    unsorted(link).close()
    assert link.is_symlink() and indices(real) == [0, 1, 2] and real.stat().st_mode & 0o777 == 0o640


def test_a_file_of_several_names_stays_one(tmp_path):
    file, other = tmp_path / "o.jsonl", tmp_path / "other.jsonl"
    file.touch()
    other.hardlink_to(file)
    unsorted(file).close()
    assert indices(file) == indices(other) == [2, 0, 1]


def test_what_others_wrote_stays(tmp_path):
    file = tmp_path / "o.jsonl"
    writer = unsorted(file)
    with open(file, "ab") as stream:
        stream.write(b'{"index": 9}\n')
    writer.close()
    assert indices(file) == [2, 0, 1, 9]


def test_a_file_that_is_emptied_meanwhile(tmp_path):
    """As programs that rotate logs do it: what comes later begins at the file's new end."""
    file = tmp_path / "o.jsonl"
    with RowWriter(file) as writer:
        writer.add(row(1))
        os.truncate(file, 0)
        writer.add(row(3))
        writer.add(row(2))
    assert indices(file) == [3, 2]


def test_a_file_that_is_moved_meanwhile(tmp_path):
    file, moved = tmp_path / "o.jsonl", tmp_path / "moved.jsonl"
    writer = unsorted(file)
    file.rename(moved)
    file.write_text("another\n")
    writer.close()
    assert indices(moved) == [2, 0, 1] and file.read_text() == "another\n"


def test_a_second_writer_is_refused(tmp_path):
    file = tmp_path / "o.jsonl"
    check_unused(file)
    with RowWriter(file) as writer:
        writer.add(row(0))
        for attempt in (RowWriter, check_unused):
            with pytest.raises(UsageError, match="o.jsonl: another run writes its rows there"):
                attempt(file)
        assert indices(file) == [0]  # the second one has not emptied it
    check_unused(file)
    RowWriter(file, overwrite=True).close()


def test_a_writer_waits_for_no_pipe_and_locks_none(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_unused(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with RowWriter(pipe) as writer, RowWriter(pipe):
        writer.add(row(0))
        assert json.loads(os.read(reader, 1 << 16))["index"] == 0
    os.close(reader)


def test_a_file_that_another_run_replaces_while_this_one_opens_it(tmp_path, monkeypatch):
    """The first run ends between the second one's opening and its lock: that has the old file, which has no name."""
    file = tmp_path / "o.jsonl"
    first = unsorted(file)
    lock = fcntl.flock
    tries = itertools.count()

    def flock(descriptor, how):
        if next(tries) == 0:
            first.close()
        lock(descriptor, how)

    monkeypatch.setattr(out_target.fcntl, "flock", flock)
    with RowWriter(file, overwrite=True) as second:
        second.add(row(5))
    assert indices(file) == [5] and next(tries) == 3  # with the lock of the file that the first one puts in order


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(out_target.fcntl, "flock", flock)
    unsorted(tmp_path / "o.jsonl").close()
    assert indices(tmp_path / "o.jsonl") == [0, 1, 2]


def test_in_order():
    order = InOrder()
    assert order.add(1, "b") == [] and order.add(5, "f") == [] and order.add(3, "d") == []
    assert order.add(0, "a") == ["a", "b"]
    assert order.rest() == ["d", "f"] and order.rest() == []


def test_text_is_utf8_and_lines_are_one_line(tmp_path):
    file = tmp_path / "o.jsonl"
    texts = ["a\nb\r\u2028\0", "日本 🦊", "\ud800 half"]
    with RowWriter(file) as writer:
        for index, text in enumerate(texts):
            writer.add(row(index, text))
    content = file.read_bytes()
    assert content.count(b"\n") == 3 and "日本 🦊".encode() in content
    assert [json.loads(line)["text"] for line in content.split(b"\n")[:3]] == texts


def test_values_that_json_lacks():
    made = finished_row(Prompt(0, 0, ""), "p", "", [1, 2, 3], [float("nan"), float("-inf"), -1.0], "stop")
    assert made["logprobs"] == [None, None, -1.0]


def test_an_earlier_file_is_replaced_where_that_is_asked_for(tmp_path):
    file = tmp_path / "o.jsonl"
    file.write_text("old\n" * 100)
    with pytest.raises(UsageError, match="has 400 bytes.*--resume.*--overwrite"):
        RowWriter(file)
    assert file.read_text() == "old\n" * 100
    with RowWriter(file, overwrite=True) as writer:
        writer.add(row(0))
    assert indices(file) == [0]


def test_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        RowWriter(tmp_path / "absent" / "o.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_disk():
    writer = RowWriter("/dev/full")
    with pytest.raises(UsageError, match="/dev/full: cannot be written: No space left.*0 rows"):
        writer.add(row(0))
    writer.close()


def test_row_that_fits_only_in_part_is_taken_back(tmp_path, monkeypatch):
    file = tmp_path / "o.jsonl"
    writer = RowWriter(file)
    writer.add(row(0))
    stream = writer._stream
    room = [10]

    class Filling:
        """A file on a disk with room for ten more bytes."""

        def write(self, data):
            if not room[0]:
                raise OSError(28, "No space left on device")
            written, room[0] = stream.write(data[: room[0]]), 0
            return written

        def __getattr__(self, name):
            return getattr(stream, name)

    writer._stream = Filling()
    with pytest.raises(UsageError, match="1 rows are complete"):
        writer.add(row(1))
    assert indices(file) == [0]
    writer.close()
    assert indices(file) == [0]


def test_rows_go_to_the_disk_now_and_then(tmp_path, monkeypatch):
    """A disk that tells only then that it is full ends the run with a line, and the row stays."""
    file, now, synced = tmp_path / "o.jsonl", [100.0], []
    monkeypatch.setattr(row_file.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(row_file.os, "fsync", synced.append)
    writer = RowWriter(file)
    for index in range(6):
        writer.add(row(index))
        now[0] += row_file.SYNC_SECONDS / 2.5
    assert len(synced) == 1

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_file.os, "fsync", full)
    now[0] += row_file.SYNC_SECONDS
    with pytest.raises(UsageError, match="o.jsonl: cannot be written: No space left.*7 rows"):
        writer.add(row(6))
    writer.close()
    assert indices(file) == list(range(7))


def test_stream_stays_open():
    stream = io.BytesIO()
    with RowWriter(stream=stream) as writer:
        writer.add(row(0))
    assert json.loads(stream.getvalue())["index"] == 0
