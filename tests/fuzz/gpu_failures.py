"""Command buffers on a GPU, of which more than a thousand fail: by bad addresses, kernels without an end, memory that
runs out, a cache that is removed. Each failure must be the error that docs/cuda.md names, nothing may hang, and the
GPU's memory must come back.

    tools/gpu_suite.sh failures FOLDER    # on a machine with a GPU; see there
    python tests/fuzz/gpu_failures.py LIBRARY.metallib --counting count_cuda.so [--device cuda:0] [--jobs 12]

LIBRARY is that of tests/metal with library.cu in its folder `cuda`. A bad address ends the work on GPUs of its process,
so each has a process of its own; what fails in the driver for lack of memory, the counting driver lets fail. It
prints a table of what happened how often, then each deviation, and ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.gpu_failing import TRIES  # noqa: E402

from pipeline.device import resources  # noqa: E402
from pipeline.host import CUDA  # noqa: E402

DEADLINE = 1.0  # seconds after which a kernel counts as endless
ENDS = 90.0  # seconds in which a process ends
SLACK = 16 << 20  # bytes of the GPU's memory that other programs may take meanwhile
NO_MEMORY = 2  # the driver's number for it
GONE = r"its driver serves this process no more, start it again"
BROKEN = r"an earlier command buffer broke the GPU; " + GONE
LOST = r"an earlier command buffer did not end; open the device again"
FULL = r"DeviceError: .*(memory|out of memory)"
ILLEGAL = r"illegal memory access|misaligned address|address space|unspecified launch failure"


@dataclass(frozen=True)
class Expected:
    """What becomes of something: the error (None: none, "": a good result or `error_too`), within so many seconds."""

    error: str | None = None
    seconds: float = 10.0
    computes: bool = True  # a command buffer reaches the queue, or would


STRAY = rf"^RunError: chain 'chain 50', step stray step: .*({ILLEGAL}).*\(kernel visit_pointers\b.*\); {GONE}"
EXPECTED = {
    **{f"address: {name}": Expected(STRAY) for name in ("null", "unmapped", "not an address", "misaligned")},
    "behind a bad address": Expected(rf"^RunError: .*chain 10[01].*{BROKEN}"),
    "later on a broken GPU": Expected(rf"^RunError: .*chain 51.*{BROKEN}", 1.0),
    "buffer on a broken GPU": Expected(rf"^\w+Error: .*({ILLEGAL}).*{GONE}", 1.0, computes=False),
    "another device after a bad address": Expected(rf"^\w+Error: .*({ILLEGAL}).*{GONE}", computes=False),
    "cpu after a bad address": Expected(),
    "endless kernel": Expected(
        r"^RunError: chain 'chain 50', step endless step: .*OB_CUDA_DEADLINE.*"
        r"\(kernel spin\b.*\).*open the device again",
        DEADLINE + 2,
    ),
    "behind an endless kernel": Expected(rf"^RunError: .*chain 10[01].*{LOST}", DEADLINE + 2),
    "later on a lost device": Expected(rf"^RunError: .*chain 51.*{LOST}", 1.0),
    "buffer on a lost device": Expected(rf"^\w+Error: .*{LOST}", 1.0, computes=False),
    "good beside an endless kernel": Expected(),
    "no memory for a graph": Expected(r"^RunError: .*chain \d+.*out of memory"),
    "no memory for a buffer": Expected(FULL, computes=False),
    "another buffer": Expected(computes=False),
    "buffer on a full GPU": Expected(FULL, computes=False),
    "good on a full GPU": Expected(),
    "new graph on a full GPU": Expected(r"^(RunError: .*chain \d+.*out of memory|$)"),
    "cache removed": Expected(),
    "cache is back": Expected(computes=False),
    "cache is a file": Expected(),
    "cache damaged": Expected(r"^CompileError: .*machine code cannot be loaded .*empty the folder cuda of the cache"),
    "text of kernels removed": Expected(r"^CompileError: .*library\.cu: cannot be read; compile the library again"),
    "cache and compiler removed": Expected(r"^CompileError: .*the compiler NVRTC is not there: pip install"),
    "memory of a process": Expected(computes=False),
    "good": Expected(),
}


@dataclass(frozen=True)
class Job:
    """A process of support/gpu_failing.py."""

    kind: str
    number: int = 0
    environment: dict[str, str] = field(default_factory=dict)


def failing(function: str, calls: Iterator[int] | range) -> dict[str, str]:
    """Lets these calls of a function of the driver find no memory."""
    return {"COUNT_CUDA_FAIL": ",".join(f"{function}:{call}={NO_MEMORY}" for call in calls)}


# What runs side by side. An endless kernel takes the GPU from others, and so does one that takes all memory.
GRAPHS = ("cuGraphInstantiateWithFlags", "cuGraphUpload", "cuGraphLaunch")
STAGES = (
    (
        *(Job("addresses", number) for number in range(40)),
        *(Job("memory", 0, failing(function, range(1, 2 * TRIES + 1, 2))) for function in GRAPHS),
        Job(
            "buffers", 0, failing("cuMemAlloc", range(2, 62, 3))
        ),  # the first is that of the steps, each third a chain's
        *(Job("cache", number) for number in range(4)),
        *(Job("compiler", 0, {"OB_NVRTC": "/nonexistent/libnvrtc.so"}) for _ in range(2)),
    ),
    (Job("full"),),
    tuple(Job("endless", number, {"OB_CUDA_DEADLINE": str(DEADLINE)}) for number in range(4)),
)


@dataclass(frozen=True)
class Ended:
    """What a process told: [what, message, seconds] each, and how it ended (None: as it should)."""

    job: Job
    told: list[tuple[str, str | None, float]]
    problem: str | None


class Suite:
    """Starts the processes of one run."""

    def __init__(self, library: Path, counting: Path, device: str, folder: Path) -> None:
        self._library, self._device, self._folder = library, device, folder
        self._counting = counting
        self._count = 0

    def run(self, job: Job) -> Ended:
        self._count += 1
        cache = self._folder / f"cache{self._count}-{job.kind}-{job.number}-{id(job)}"
        environment = {**os.environ, "OB_CACHE": str(cache), **job.environment}
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        if "COUNT_CUDA_FAIL" in environment:
            driver = os.environ.get("OB_CUDA_DRIVER")
            environment |= {"OB_CUDA_DRIVER": str(self._counting)} | ({"COUNT_CUDA_DRIVER": driver} if driver else {})
        command = [sys.executable, "-m", "support.gpu_failing", job.kind, str(self._library), self._device]
        with subprocess.Popen(
            [*command, str(job.number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            problem = None
            try:
                out, messages = process.communicate(timeout=ENDS)
            except subprocess.TimeoutExpired:
                process.kill()
                out, messages = process.communicate()
                problem = f"hangs: it did not end within {ENDS:.0f} s"
        lines = out.splitlines()
        if problem is None and (process.returncode != 0 or not lines or lines[-1] != "done"):
            problem = f"ended with {process.returncode}: {messages.strip()[-400:]}"
        return Ended(job, [tuple(json.loads(line)) for line in lines if line.startswith("[")], problem)

    def free(self) -> int:
        """Bytes of the GPU's memory that nobody uses, as a process of its own sees it."""
        told = self.run(Job("free")).told
        if not told:
            raise SystemExit("gpu_failures: the GPU does not open in a process of its own; --device list says why")
        return int(told[0][1] or 0)


def deviation(what: str, message: str | None, seconds: float) -> str | None:
    """What is wrong with an outcome; None: nothing."""
    expected = EXPECTED.get(what)
    if expected is None:
        return "nothing of this name is expected"
    if (
        expected.error is None
        and message is not None
        or expected.error
        and not re.search(expected.error, message or "")
    ):
        return f"gave {message or 'no error'!r} in place of {expected.error or 'a good result'!r}"
    return f"took {seconds:.1f} s, {expected.seconds:.1f} are allowed" if seconds > expected.seconds else None


def table(ended: list[Ended]) -> tuple[list[str], int]:
    """Lines: how often each thing happened and failed, and the longest time; and how many command buffers failed."""
    rows: dict[str, list[tuple[str | None, float]]] = collections.defaultdict(list)
    for each in ended:
        for what, message, seconds in each.told:
            rows[what].append((message, seconds))
    lines = [f"{'what':36} {'times':>6} {'good':>6} {'failed':>6} {'longest s':>10}"]
    buffers = [0, 0]
    for what in EXPECTED:
        failed = sum(message is not None for message, _ in rows[what])
        longest = max((seconds for _, seconds in rows[what]), default=0.0)
        lines.append(f"{what:36} {len(rows[what]):6} {len(rows[what]) - failed:6} {failed:6} {longest:10.3f}")
        if EXPECTED[what].computes:
            buffers = [buffers[0] + len(rows[what]), buffers[1] + failed]
    return [*lines, f"{buffers[0]} command buffers, of which {buffers[1]} failed"], buffers[1]


def returned(suite: Suite, before: int) -> tuple[int, int]:
    """Free bytes before and in the end: memory of a process that has ended comes back a little later."""
    for _ in range(20):
        after = suite.free()
        if after >= before - SLACK:
            break
        time.sleep(0.5)
    return before, after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--counting", type=Path, required=True, help="tests/metal/count_cuda.c, compiled")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--jobs", type=int, default=12, help="processes side by side (default: 12)")
    options = parser.parse_args()
    if options.device.partition(":")[0] != CUDA:
        parser.error(f"--device {options.device}: name a GPU, such as cuda:0")
    resources.name_gpu_compiler()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite(options.library.resolve(), options.counting.resolve(), options.device, Path(folder))
        before, ended = suite.free(), []
        for stage in STAGES:
            with ThreadPoolExecutor(options.jobs) as pool:
                ended += pool.map(suite.run, stage)
        before, after = returned(suite, before)
    lines, failed = table(ended)
    wrong = [f"{each.job.kind} {each.job.number}: {each.problem}" for each in ended if each.problem]
    for each in ended:
        for what, message, seconds in each.told:
            problem = deviation(what, message, seconds)
            wrong += [f"{each.job.kind} {each.job.number}: {what}: {problem}"] if problem else []
    if failed < 1000:
        wrong.append(f"{failed} command buffers failed: too few, 1000 are meant")
    if after < before - SLACK:
        wrong.append(f"{before - after} bytes of the GPU's memory did not come back")
    print(*lines, sep="\n")
    print(f"memory free before {before / 1e6:.1f} MB, after {after / 1e6:.1f} MB; {time.monotonic() - begin:.0f} s")
    print(*(f"DEVIATION {each}" for each in wrong[:60]), f"{len(wrong)} deviations", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
