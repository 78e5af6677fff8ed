"""How fast weights go from a file to a GPU's memory, beside the speed of the link.

    python benchmarks/gpu_upload.py --gigabytes 8 --folder /tmp

Writes a file of random bytes, which the system then holds in memory, and uploads it as a model's weights go: from a map
of the file. Each round maps the file anew, so that its pages are touched for the first time, uploads all of it, and
uploads it once more from the same map. The link's speed is that of a kernel that reads pinned memory of the host. The
bytes that arrive are compared with the file's.
"""

from __future__ import annotations

import argparse
import mmap
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import pipeline as p
from pipeline.benching.bandwidth import Reader
from pipeline.device.core import _core
from pipeline.graph.transfers import Copy, upload

GIB = 1 << 30
TENSOR = 96 << 20  # bytes of a weight: that of an expert projection of a large model
ROUNDS = 5


def write_file(path: Path, nbytes: int) -> None:
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        while file.tell() < nbytes:
            file.write(rng.bytes(min(64 << 20, nbytes - file.tell())))


def timed(device: p.Device, memory: mmap.mmap, buffers: list[_core.Buffer]) -> float:
    """Bytes per second of one upload of the whole map."""
    copies = [
        Copy("file", memory, at, min(TENSOR, len(memory) - at), buffer, 0)
        for at, buffer in zip(range(0, len(memory), TENSOR), buffers)
    ]
    start = time.perf_counter()
    upload(device, copies)
    return len(memory) / (time.perf_counter() - start)


def require_same(device: p.Device, memory: mmap.mmap, buffers: list[_core.Buffer]) -> None:
    for at, buffer in zip(range(0, len(memory), TENSOR), buffers):
        expected = np.frombuffer(memory, np.uint8, min(TENSOR, len(memory) - at), at)
        found = np.empty_like(expected)
        device.core.read([(buffer, 0, found.data)])
        if not np.array_equal(found, expected):
            sys.exit(f"the bytes from {at} on did not arrive")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    device = p.open_device(options.device)
    nbytes = int(options.gigabytes * GIB) // mmap.PAGESIZE * mmap.PAGESIZE
    link = Reader(device, GIB, private=False)
    link.measure()
    print(f"link: {link.result.best / 1e9:.1f} GB/s")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "weights"
        write_file(path, nbytes)
        buffers = [device.core.buffer(TENSOR, private=True) for _ in range(0, nbytes, TENSOR)]
        first, again = [], []
        for each in range(ROUNDS):
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
                first.append(timed(device, memory, buffers))
                again.append(timed(device, memory, buffers))
                if each == 0:
                    require_same(device, memory, buffers)
    for name, speeds in (("first touch", first), ("again", again)):
        each = " ".join(f"{speed / 1e9:.1f}" for speed in speeds)
        print(f"{name}: {statistics.median(speeds) / 1e9:.1f} GB/s ({each})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
