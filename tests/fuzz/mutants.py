"""Mistakes seeded into right kernels: the compiler, the lint, the checker or the kernel's own result must show each.

    python tests/fuzz/mutants.py [SEED [COUNT]]

Takes the kernels of tests/msl/mistakes in their right form, makes COUNT (200) of their small changes, drawn by SEED
(0): a barrier that is missing or for other memory, an index or a bound that is off by one, a guard that is gone, a
variable of a threadgroup that each thread has for itself, an atomic that is none, a memory order that Metal lacks.
Prints those that nothing shows, and how many were found. Exit code 1: fewer than 99 of 100 of those that change
anything. A change that cannot change a result is listed in EQUAL, with the reason.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

import numpy as np  # noqa: E402  (found through the line above)
from support.checking import FOLDER, Empty, Shaders  # noqa: E402
from support.mistakes import CASES, Case, F, U, line, one  # noqa: E402

from pipeline import metalc, strict  # noqa: E402
from pipeline.strict import source  # noqa: E402

BAR = 0.99
HEADER = "#include <metal_stdlib>\n"
# (what is changed, pattern, replacement)
CHANGES = (
    ("barrier removed", r"threadgroup_barrier\([^;]*\)", "(void)0"),
    ("barrier of a simdgroup", r"threadgroup_barrier\(", "simdgroup_barrier("),
    ("barrier for no memory", r"mem_flags::mem_(threadgroup|device)(?!_)", "mem_flags::mem_none"),
    ("barrier for other memory", r"mem_flags::mem_threadgroup(?!_)", "mem_flags::mem_device"),
    ("index too high", r"(?<=[\w\]])\[([^\[\]]+)\](?=[^;]*;)", r"[(\1) + 1]"),
    ("index too low", r"(?<=[\w\]])\[([^\[\]]+)\](?=[^;]*;)", r"[(\1) - 1]"),
    ("one more", r"(?<=[\w\]\)]) < (?=[\w(])", " <= "),
    ("other side", r" == 0\b", " == 1"),
    ("guard removed", r"if \([^;{}]*\) return;", ";"),
    ("condition removed", r"if \(((?:[^(){};]|\([^(){};]*\))*)\)(?! return)", "if (true)"),
    ("variable of a thread", r"(?<=[{};]) threadgroup (?=\w+ \w+\[)", " "),
    ("parameter of other memory", r"threadgroup (?=\w+ ?\*)", "device "),
    ("order that Metal lacks", r"memory_order_relaxed", "memory_order_seq_cst"),
    ("atomic without its pointer", r"(atomic_\w+_explicit)\(&?(\w+)", r"\1(*\2"),
    ("other reduction", r"simd_sum\(", "simd_max("),
)
_DECLARED = re.compile(r"\b(?:float|half|int|uint|atomic_u?int)\d? \w+$")  # an array's size is no index
RISING = (np.arange(1, 601) / 180300).astype(F)  # adds up to one
# What runs, too, where a case's own sizes or values do not reach a guard.
MORE = {
    ("routing_maximum", "route"): [{"sizes": line(128)}],
    ("races", "last_writer_wins"): [{"buffers": [np.where(np.arange(64) % 3, 1, -1).astype(F), np.zeros(64, U)]}],
    ("scatter_by_expert", "mark_tokens"): [{"buffers": [np.array([5, 9, 2, 5], U), Empty(8, U), one(8)]}],
    ("races", "bits_of_a_word"): [{"buffers": [np.arange(64, dtype=U) % 2, np.zeros(2, U)]}],
    ("results", "places_by_atomics"): [
        {"buffers": [(np.arange(256) % 3 > 0).astype(U), np.zeros(1, U), np.zeros(256, U)]}
    ],
    ("results", "zero_by_zero"): [{"buffers": [np.arange(1, 9, dtype=F), Empty(8), one(8)]}],
    ("inverse_cdf", "draw"): [{"buffers": [RISING, Empty(600), Empty(1, U), one(600), one(u, F)]} for u in (0.9, 2)],
}
# Changes that no result can show: (kernel, words of the line, words of the change, or all); why.
EQUAL = (
    ("in_one_branch", "threadgroup_barrier", "", "each thread reads what it wrote itself"),
    ("in_a_loop", "threadgroup_barrier", "", "nothing reads the count"),
    ("in_a_loop", "atomic_store", "", "nothing reads the count"),
    ("in_a_loop", "for (uint k", "one more", "nothing reads the count"),
    ("sum_of_all", "threadgroup_barrier", "", "each thread reads what it wrote itself"),
    ("sum_of_all", "if (i == 0)", "other side", "all lanes have the sum"),
    ("total", "if (i == 0)", "other side", "all threads have the sum"),
    ("total", "if (lane == 0)", "other side", "all lanes have the sum"),
    ("route", "if (lane == 0)", "other side", "all lanes have the largest"),
    ("waits_for_nobody", "if (i == 0)", "", "whoever stores it, the value is one"),
)


@dataclass(frozen=True)
class Mutant:
    """A change of one kernel, at a place of its text."""

    case: Case
    change: str
    text: str
    line: str


def right(case: Case) -> str:
    """The text of a case's file in its right form, with macros expanded and without line markers."""
    text, _ = source.places(source.preprocess(str(FOLDER / f"{case.file}.metal"), [], ["MISTAKE=0"]), case.file)
    return text


def mutants() -> Iterator[Mutant]:
    """Every change of every kernel, in its own body and signature only."""
    seen = set()
    for case in CASES:
        if (case.file, case.kernel) in seen:
            continue
        seen.add((case.file, case.kernel))
        text = right(case)
        start = re.search(rf"\bkernel void {case.kernel}\(", text).end()
        following = re.compile(r"\bkernel void ").search(text, start)
        end = following.start() if following else len(text)
        for change, pattern, replacement in CHANGES:
            for found in re.compile(pattern).finditer(text, start, end):
                if change.startswith("index") and _DECLARED.search(text[start : found.start()]):
                    continue
                changed = text[: found.start()] + found.expand(replacement) + text[found.end() :]
                first, last = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
                yield Mutant(case, change, changed, " ".join(text[first:last].split()))


class Judge:
    """Compiles, lints and runs what it is given, and compares it with the right kernel."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shaders = Shaders(folder, folder)
        self._right: dict[str, list[np.ndarray]] = {}
        self._count = 0

    def shown_by(self, mutant: Mutant) -> str:
        """What shows the change; "" where nothing does."""
        case = mutant.case
        for number, other in enumerate([{}, *MORE.get((case.file, case.kernel), [])]):
            by = self._shown_by(replace(case, **other), mutant.text, f"{case} {number}")
            if by:
                return by
        return "lint" if strict.check([self._folder / f"m{self._count}.metal"]) else ""

    def _shown_by(self, case: Case, text: str, key: str) -> str:
        expected = self._run(case, right(case), key)[1]
        try:
            kinds, held = self._run(case, text, "")
        except metalc.CompileError:
            return "compiler"
        if kinds:
            return kinds[0]
        same = all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(held, expected))
        return "" if same else "values"

    def _run(self, case: Case, text: str, key: str) -> tuple[list[str], list[np.ndarray]]:
        if key in self._right:
            return [], self._right[key]
        self._count += 1
        name = f"m{self._count}"
        (self._folder / f"{name}.metal").write_text(HEADER + text)
        found, held = self._shaders.run(name, 0, case.kernel, case.buffers, bound=case.bound, **case.sizes)
        copies = [np.array(values) for values in held]
        if key:
            assert not found, f"{case}: the right kernel has findings"
            self._right[key] = copies
        return [each.kind for each in found], copies


def main(seed: int = 0, count: int = 200) -> int:
    """Judges the changes; returns the exit code."""
    every = list(mutants())
    drawn = random.Random(seed).sample(every, min(count, len(every)))
    shown: dict[str, int] = {}
    left, equal = [], 0
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(Path(folder))
        for mutant in drawn:
            if any(
                mutant.case.kernel == kernel and words in mutant.line and change in mutant.change
                for kernel, words, change, _ in EQUAL
            ):
                equal += 1
                continue
            by = judge.shown_by(mutant)
            if by:
                shown[by] = shown.get(by, 0) + 1
            else:
                left.append(mutant)
                print(f"not shown: {mutant.case.file}, {mutant.case.kernel}: {mutant.change}: {mutant.line}")
    found = sum(shown.values())
    for by, number in sorted(shown.items(), key=lambda item: -item[1]):
        print(f"{number:5} {by}")
    kernels = len({(mutant.case.file, mutant.case.kernel) for mutant in drawn})
    print(f"{found} of {found + len(left)} changes of {kernels} kernels are shown; {equal} more change nothing")
    return 0 if found >= BAR * (found + len(left)) else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
