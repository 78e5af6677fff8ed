"""Read bandwidth of the machine: all threads of the device read a buffer larger than the caches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..device.core import _core
from ..device.device import Device
from ..errors import CompileError, RunError
from ..host import cores

__all__ = ["Bandwidth", "Reader", "buffer_bytes"]

MIB = 1 << 20
PART_WORDS = MIB // 4  # each threadgroup reads 1 MiB
LEAST_BYTES, CACHES = 256 * MIB, 4  # the buffer is at least so large, and so many times the largest cache
OWN_BYTES = 4096 * MIB  # where the device has memory of its own, which is faster than starting a pass is

SOURCE = """
#include <metal_stdlib>
using namespace metal;

struct ReadArgs {
    uint words;   // of one threadgroup
};

// Writes group + 1 into each word of a group.
kernel void fill_words(device uint *data [[buffer(0)]], constant ReadArgs &args [[buffer(1)]],
                       uint group [[threadgroup_position_in_grid]], uint lane [[thread_index_in_threadgroup]],
                       uint lanes [[threads_per_threadgroup]]) {
    device uint *part = data + ulong(group) * args.words;
    for (uint i = lane; i < args.words; i += lanes) part[i] = group + 1;
}

// sums[group] = the sum of the group's words, modulo 2^32.
kernel void read_words(device const uint *data [[buffer(0)]], device uint *sums [[buffer(1)]],
                       constant ReadArgs &args [[buffer(2)]], threadgroup uint *partial [[threadgroup(0)]],
                       uint group [[threadgroup_position_in_grid]], uint lane [[thread_index_in_threadgroup]],
                       uint lanes [[threads_per_threadgroup]]) {
    device const uint4 *part = (device const uint4 *)(data + ulong(group) * args.words);
    uint4 sums4 = 0;
    for (uint i = lane; i < args.words / 4; i += lanes) sums4 += part[i];
    partial[lane] = sums4.x + sums4.y + sums4.z + sums4.w;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (lane == 0) {
        uint total = 0;
        for (uint i = 0; i < lanes; i++) total += partial[i];
        sums[group] = total;
    }
}
"""
THREADS = 256  # per threadgroup, where the device allows so many


@dataclass
class Bandwidth:
    """Bytes per second of each pass. `how` is "kernel" or, where no shader could be compiled, "NumPy"."""

    how: str
    nbytes: int
    passes: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        return max(self.passes)

    @property
    def median(self) -> float:
        return statistics.median(self.passes)


class Reader:
    """Reads a buffer of `nbytes` with all threads, pass after pass.

    private: it is in the device's own memory, where it has some; else in memory that the host sees, too, which such a
    device reads over its link."""

    def __init__(self, device: Device, nbytes: int | None = None, *, private: bool = True) -> None:
        if nbytes is None:
            nbytes = buffer_bytes() if device.unified else min(OWN_BYTES, max(LEAST_BYTES, device.free_bytes() // 2))
        nbytes = -(-nbytes // MIB) * MIB
        try:
            self._read = _kernel_reader(device, nbytes, private)
            how = "kernel"
        except CompileError:
            self._read = _numpy_reader(device.threads or cores(), nbytes)
            how = "NumPy"
        self.result = Bandwidth(how, nbytes)
        self._read()  # its result says that all words were read

    def measure(self, passes: int = 8) -> None:
        """Adds `passes` passes to the result."""
        for _ in range(passes):
            self.result.passes.append(self.result.nbytes / self._read())


def buffer_bytes() -> int:
    """The bytes of the buffer: several times the largest cache that the system tells of."""
    sizes = [LEAST_BYTES]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        sizes.append(CACHES * int(text.rstrip("KMG") or 0) * unit)
    return max(sizes)


def _kernel_reader(device: Device, nbytes: int, private: bool) -> Callable[[], float]:
    library = device.core.compile(SOURCE)
    kernel = library.kernel("read_words")
    parts = nbytes // (4 * PART_WORDS)
    data, sums = device.core.buffer(nbytes, private=private), device.core.buffer(4 * parts)
    fill = library.kernel("fill_words")  # it also gives every page memory of its own
    threads = min(THREADS, kernel.threads, fill.threads)
    device.core.chain(
        [
            _core.Dispatch(
                fill,
                [(0, data, 0, nbytes)],
                (1, fill.pack("args", {"words": PART_WORDS})),
                (parts, 1, 1),
                label="fill_words",
                threads=(threads, 1, 1),
            )
        ],
        "fill_words",
    ).run()
    chain = device.core.chain(
        [
            _core.Dispatch(
                kernel,
                [(0, data, 0, nbytes), (1, sums, 0, 4 * parts)],
                (2, kernel.pack("args", {"words": PART_WORDS})),
                (parts, 1, 1),
                label="read_words",
                threads=(threads, 1, 1),
                threadgroup_memory={0: max(4 * threads, 16)},
            )
        ],
        "read_words",
    )
    expected = ((np.arange(parts, dtype=np.uint64) + 1) * PART_WORDS).astype(np.uint32)
    result = np.frombuffer(memoryview(sums), np.uint32)

    def read() -> float:
        start = time.perf_counter()
        run = chain.run()
        elapsed = time.perf_counter() - start
        _require(bool((result[:parts] == expected).all()))
        begin, end = run.device_seconds
        return elapsed if device.unified else end - begin

    return read


def _numpy_reader(threads: int, nbytes: int) -> Callable[[], float]:
    words = np.ones(nbytes // 8, np.uint64)
    parts = np.array_split(words, threads)
    pool = ThreadPoolExecutor(threads)

    def read() -> float:
        start = time.perf_counter()
        _require(sum(int(total) for total in pool.map(np.add.reduce, parts)) == len(words))
        return time.perf_counter() - start

    return read


def _require(right: bool) -> None:
    if not right:
        raise RunError("read bandwidth: a sum is wrong, so not all memory was read; please report this")
