"""Random kernels with divergent loops on the checker, against a lockstep model (tests/support/divergent.py).

    python tests/fuzz/loops.py [FIRST [COUNT]]

Compiles COUNT programs (300) from seed FIRST (0) on, runs each, and prints the seeds whose values differ or that have a
finding. Exit code 1: there are some.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

import numpy as np  # noqa: E402  (found through the line above)
from support import divergent  # noqa: E402

from pipeline import _core, metalc  # noqa: E402
from pipeline.checking.shaders import open_checker  # noqa: E402

AT_ONCE = 50  # programs in one file


def outcomes(seeds: Sequence[int], folder: Path, schedules: int = 2) -> Iterator[tuple[int, bool, list[str]]]:
    """(seed, whether the values are right, kinds of findings) of each program; all are compiled as one file."""
    programs = {seed: divergent.Generator(seed).program() for seed in seeds}
    source = folder / "loops.metal"
    source.write_text(divergent.HEADER + "".join(divergent.text(f"k{s}", each) for s, each in programs.items()))
    device = open_checker(schedules)
    library = device.open_library(metalc.build([source], folder / f"loops-{seeds[0]}.metallib", ["checker"]))
    for seed, program in programs.items():
        x = np.random.default_rng(seed).integers(0, 64, divergent.THREADS).astype(np.uint32)
        given, taken = device.buffer(x.nbytes), device.buffer(x.nbytes)
        np.frombuffer(given, np.uint32)[:] = x
        bindings = [(index, buffer, 0, x.nbytes) for index, buffer in enumerate((given, taken))]
        sizes = {"threadgroups": (1, 1, 1), "threads": (divergent.THREADS, 1, 1)}
        device.findings.clear()
        device.chain([_core.Dispatch(library.kernel(f"k{seed}"), bindings, **sizes)], "loops").run()
        right = np.array_equal(np.frombuffer(taken, np.uint32), divergent.expected(program, x))
        yield seed, right, [finding["kind"] for finding in device.findings]


def main(first: int = 0, count: int = 300) -> int:
    """Runs the programs; returns the exit code."""
    wrong = 0
    for start in range(first, first + count, AT_ONCE):
        with tempfile.TemporaryDirectory() as folder:
            seeds = range(start, min(start + AT_ONCE, first + count))
            for seed, right, kinds in outcomes(seeds, Path(folder)):
                if not right or kinds:
                    wrong += 1
                    print(f"seed {seed}: {'right' if right else 'wrong'} values; {', '.join(kinds) or 'no finding'}")
    print(f"{count} programs, {wrong} of them wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
