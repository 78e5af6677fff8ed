"""Rows: in input order, whole at every moment, kept when a run ends early."""

import io
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli.prompts import Prompt
from pipeline.cli.rows import InOrder, RowWriter, failed_row, finished_row
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
def test_any_order_comes_out_in_order(tmp_path_factory, order):
    file = tmp_path_factory.getbasetemp() / "order.jsonl"
    with RowWriter(file) as writer:
        finished = set()
        for index in order:
            writer.add(row(index))
            finished.add(index)
            due = next(i for i in range(8) if i not in finished)
            assert indices(file) == list(range(due))  # flushed, without closing
    assert indices(file) == list(range(7))


def test_waiting_rows_are_written_at_the_end(tmp_path):
    file = tmp_path / "o.jsonl"
    with pytest.raises(KeyboardInterrupt), RowWriter(file) as writer:
        for index in (0, 4, 2):
            writer.add(row(index))
        assert indices(file) == [0]
        raise KeyboardInterrupt
    assert indices(file) == [0, 2, 4]


def test_in_order():
    order = InOrder()
    assert order.add(1, "b") == [] and order.add(3, "d") == []
    assert order.add(0, "a") == ["a", "b"]
    assert order.rest() == ["d"] and order.rest() == []


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


def test_an_earlier_file_is_replaced(tmp_path):
    file = tmp_path / "o.jsonl"
    file.write_text("old\n" * 100)
    with RowWriter(file) as writer:
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


def test_stream_stays_open():
    stream = io.BytesIO()
    with RowWriter(stream=stream) as writer:
        writer.add(row(0))
    assert json.loads(stream.getvalue())["index"] == 0
