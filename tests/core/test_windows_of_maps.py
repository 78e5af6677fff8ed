"""Files that are longer than a device's longest buffer: several buffers, and no tensor cut."""

import mmap
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import ROOT

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.device.windows import window_of, windows
from pipeline.errors import DeviceError

PAGE = mmap.PAGESIZE
PROMPT = (0, 819, 779, 259)


@given(
    sizes=st.lists(st.integers(1, 9 * PAGE), min_size=1, max_size=40),
    header=st.integers(0, 3 * PAGE),
    longest=st.integers(10, 60),
)
def test_each_tensor_lies_whole_in_one_part(sizes, header, longest):
    borders = [header + sum(sizes[:place]) for place in range(len(sizes))]
    length = header + sum(sizes)
    parts = windows(length, borders, longest * PAGE)
    for begin, size in zip(borders, sizes):
        first, end = window_of(parts, begin)
        assert first <= begin and begin + size <= end
    assert all(first % PAGE == 0 and end - first <= longest * PAGE for first, end in parts)
    assert parts[0][0] == 0 and parts[-1][1] == length
    assert all(before[1] - after[0] < PAGE and after[0] <= before[1] for before, after in zip(parts, parts[1:]))
    assert len(parts) <= 1 + 2 * length // (longest * PAGE - 10 * PAGE + 1)


def test_a_tensor_that_is_too_long_has_a_part_of_its_own():
    parts = windows(20 * PAGE, [0, 2 * PAGE, 18 * PAGE], 8 * PAGE)
    assert parts == [(0, 2 * PAGE), (2 * PAGE, 18 * PAGE), (18 * PAGE, 20 * PAGE)]


def test_a_short_file_is_one_part():
    assert windows(20 * PAGE, [0, 2 * PAGE], 20 * PAGE) == [(0, 20 * PAGE)]


def story(device):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        generator = p.Generator(p.load_model(checkpoint, device=device))
        tokens = [
            event.token for event in generator.run([p.Request(0, PROMPT, max_tokens=6)]) if hasattr(event, "token")
        ]
        return tokens, len(device._wrapped)


def test_a_story_is_the_same_from_several_buffers(monkeypatch):
    whole, buffers = story(p.open_device("cpu"))
    monkeypatch.setenv("OB_LIMITS", f"maxBufferLength={4 << 20}")
    cut, several = story(p.open_device("cpu"))
    assert whole == cut and len(whole) == 6
    assert buffers == 1 and several > 1


def test_a_tensor_that_no_buffer_takes_is_an_error(monkeypatch):
    monkeypatch.setenv("OB_LIMITS", "maxBufferLength=65536")
    with pytest.raises(
        DeviceError, match=r"a buffer (of|over) \d+ bytes is not possible; the device takes (1|up) to 65536"
    ):
        story(p.open_device("cpu"))


@pytest.mark.parametrize(
    "text", ["x", "maxBufferLength", "maxBufferLength=", "maxBufferLength=0", "maxBufferLength=9G", "maxbufferlength=9"]
)
def test_limits_that_are_none_are_named(text):
    command = [sys.executable, "-m", "pipeline.run", "--device", "cpu", "--max-tokens", "1"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OB_LIMITS": text}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"onebuf: error: OB_LIMITS is '{text}': set it to limits such as ")
