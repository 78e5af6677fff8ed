"""The summary, its chart, and the trace file."""

import json
from types import SimpleNamespace

import numpy
import pytest
from support.summaries import summary

from pipeline.cli.summary import to_json
from pipeline.cli.summary_table import ASCII_BLOCKS, BLOCKS, CHART_WIDTH, expert_rows, to_rows
from pipeline.cli.trace import chrome_events, write_trace
from pipeline.errors import UsageError
from pipeline.host import peak_memory


def test_numbers():
    made = summary()
    expected = {
        "device": "cpu",
        "model": "storyteller",
        "prompt_tokens": 6,
        "generated_tokens": 20,
        "prefill_tokens_per_second": 500,
        "decode_tokens_per_second": 1000,
        "command_buffers_per_token": 1,
        "readback_bytes_per_token": 8,
        "dispatches_per_layer": 10,
        "seed": None,
        "expert_tokens": [[1, 3], [2, 2]],
    }
    assert {key: made[key] for key in expected} == expected
    assert json.loads(to_json(made)) == made and 1_000_000 < made["peak_memory_bytes"] < 2**40


def test_nothing_counted():
    made = summary(prefill_seconds=0.0, decode_tokens=0, decode_seconds=0.0, counts=((0, 0), (0, 0)))
    for key in ("prefill_tokens_per_second", "decode_tokens_per_second", "command_buffers_per_token"):
        assert made[key] is None
    rows = dict(to_rows(made))
    assert rows["command buffers per token"] == "none" and "expert load by layer" not in rows


def test_batch():
    made = summary(command_buffers=5, decode_tokens=40, readback_bytes=320)
    assert made["command_buffers_per_token"] == 0.125 and made["readback_bytes_per_token"] == 8


def test_table():
    rows = dict(to_rows(summary()))
    assert rows["prompt"] == "6 tokens, 500 tok/s" and rows["generated"] == "20 tokens, 1,000 tok/s"
    assert rows["model"] == "storyteller, loaded in 0.12 s" and rows["weights"] == "1.5 MB mapped, 0 B repacked"


def test_chart_of_layers():
    (label, bars), (_, extremes) = expert_rows([[0, 8], [4, 4]])
    assert label == "expert load by layer" and bars == " █│▄▄"
    assert extremes == "even 50.0%, most 100.0% (layer 0, expert 1), 1 idle"
    assert expert_rows([[0, 8], [4, 4]], ASCII_BLOCKS)[0][1] == " @|++"


@pytest.mark.parametrize("layers, experts", [(1, 2), (8, 16), (16, 64), (48, 128), (94, 512), (2, 1)])
def test_chart_fits(layers, experts):
    rows = expert_rows(numpy.arange(1, layers * experts + 1).reshape(layers, experts).tolist())
    assert len(rows) <= 5 and all(len(text) <= CHART_WIDTH + 10 for _, text in rows)
    bars = "".join(text for _, text in rows[:-1])
    assert bars and set(bars) <= set(BLOCKS) | {"│"} and " " not in bars


def test_peak_memory_grows():
    before = peak_memory()
    block = bytearray(before + 50_000_000)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory() >= before + 40_000_000


def event(name, start, end, buffer):
    return SimpleNamespace(name=name, step="s", start_seconds=start, end_seconds=end, command_buffer=buffer)


def test_trace(tmp_path):
    file = tmp_path / "t.json"
    write_trace(
        file, [event("b", 5.00002, 5.00005, 0), event("a", 5, 5.00003, 0), event("c", 5.00005, 5.00006, 1)], "cpu"
    )
    written = json.loads(file.read_text())["traceEvents"]
    slices = {e["name"]: e for e in written if e["ph"] == "X"}
    assert (slices["a"]["ts"], slices["a"]["dur"], slices["b"]["ts"]) == (0, 30, 20)
    assert slices["a"]["tid"] != slices["b"]["tid"]  # they overlap
    assert slices["decode step 0"]["dur"] == 50 and slices["decode step 1"]["ts"] == 50
    lanes = {e["tid"] for e in written if e["name"] == "thread_name"}
    assert {e["tid"] for e in slices.values()} <= lanes
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_empty_trace():
    assert [e["ph"] for e in chrome_events([], "cpu")] == ["M", "M"]


def test_trace_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="--trace .*cannot be written"):
        write_trace(tmp_path / "absent" / "t.json", [], "cpu")
