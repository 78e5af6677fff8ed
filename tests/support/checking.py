"""Shaders of tests/msl/mistakes: compiled for the checker, run, and the lines that their comments mark."""

import functools
import os
import re
from pathlib import Path

import numpy as np

from pipeline import metalc
from pipeline.checking.shaders import open_checker
from pipeline.device.core import _core
from pipeline.device.findings import finding
from support.paths import TESTS

FOLDER = TESTS / "msl" / "mistakes"
SCHEDULES = 8


class Empty:
    """A buffer that nothing has written."""

    def __init__(self, count, dtype=np.float32):
        self.size, self.dtype = count, np.dtype(dtype)
        self.nbytes = count * self.dtype.itemsize


class Same:
    """The buffer at an earlier index once more."""

    def __init__(self, index):
        self.index = index


class Shaders:
    """The checker and the shaders compiled for it, one folder of bundles."""

    def __init__(self, folder: Path, sources: Path = FOLDER):
        self.folder, self.sources = folder, sources
        self.device = open_checker(SCHEDULES)
        self.library = functools.cache(self._library)  # compiled once per name and mistake

    def _library(self, name: str, mistake: int):
        out = self.folder / f"{name}-{mistake}.metallib"
        file = os.path.relpath(self.sources / f"{name}.metal")
        metalc.build([file], out, ["checker"], defines=[f"MISTAKE={mistake}"])
        return self.device.open_library(out)

    def run(self, name: str, mistake: int, kernel: str, buffers, *, bound=None, **sizes):
        """Runs a kernel once; returns the findings and what the buffers hold. `bound`: bytes at an index."""
        made = []
        for values in buffers:
            made.append(made[values.index] if isinstance(values, Same) else self._buffer(values))
        lengths = [(bound or {}).get(index, buffer.nbytes) for index, buffer in enumerate(made)]
        bindings = [(index, buffer, 0, length) for index, (buffer, length) in enumerate(zip(made, lengths))]
        dispatch = _core.Dispatch(self.library(name, mistake).kernel(kernel), bindings, **sizes)
        held = [np.frombuffer(each, getattr(values, "dtype", np.uint8)) for each, values in zip(made, buffers)]
        return self.run_chain([dispatch]), held

    def run_chain(self, dispatches):
        self.device.findings.clear()
        try:
            self.device.chain(dispatches, "test").run()
        except _core._errors.RunError:
            assert self.device.findings
        return [finding(details) for details in self.device.findings]

    def _buffer(self, values):
        buffer = self.device.buffer(values.nbytes)
        if not isinstance(values, Empty):
            np.frombuffer(buffer, values.dtype)[:] = values.reshape(-1)
        return buffer


def marks(name: str, kernel: str, word: str = "here") -> dict[str, set[int]]:
    """{finding: lines} of comments such as `// here: race` in a kernel; of `// there`, {"": lines}."""
    found, inside = {}, None
    for number, line in enumerate((FOLDER / f"{name}.metal").read_text().splitlines(), 1):
        start = re.match(r"kernel void (\w+)\(", line)
        inside = start[1] if start else inside
        mark = re.search(rf"// {word}(?:: (.*))?$", line)
        if mark and inside == kernel:
            found.setdefault(mark[1] or "", set()).add(number)
    return found
