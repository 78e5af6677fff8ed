"""Damaged whole models: each one runs, fails as a row does, or is refused in one clear line.

    python tests/fuzz/models.py                    20,000 of them, some minutes
    python tests/fuzz/models.py --only 4711        the one that was reported, in this process

Each case is opened, inspected, loaded and generates two tokens. Cases run in forked processes, a batch in each. The
mistakes are printed with the numbers of their cases: a crash, a hang of more than 10 s of the processor, more than 1 GB
of memory, an error of another kind, an unclear message, a model that `pipeline.inspect` calls supported and that does
not run, and words of others on standard error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (1, 2)]

from fuzz import attempts, batches, tiny  # noqa: E402

BATCH = 64  # cases of one process


def run(numbers: range, jobs: int, folder: Path, say=lambda line: None) -> tuple[Counter[str], list[str]]:
    """(how many cases had each outcome, the mistakes) of the cases `numbers`."""
    tiny.models()  # before the first fork
    attempts.warm_up(folder)
    counts: Counter[str] = Counter()
    mistakes: list[str] = []
    started = shown = time.monotonic()
    for result in batches.results(numbers, jobs, BATCH, folder):
        counts[result.outcome] += 1
        if result.mistake:
            mistakes.append(f"case {result.number}: {result.mistake}")
            say(mistakes[-1])
        if time.monotonic() - shown > 30:
            shown = time.monotonic()
            say(f"{sum(counts.values()):,} cases in {shown - started:.0f} s: {dict(counts)}")
    return counts, mistakes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000, help="cases (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first one's number")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--only", type=int, help="one case, in this process")
    options = parser.parse_args()
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="onebuf-fuzz-", dir=shared if shared.is_dir() else None) as name:
        folder = Path(name)
        if options.only is not None:
            print(attempts.once(options.only, folder, attempts.open_device()))
            return 0
        started = time.monotonic()
        numbers = range(options.first, options.first + options.runs)
        counts, mistakes = run(numbers, options.jobs, folder, lambda line: print(line, flush=True))
    seconds = time.monotonic() - started
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common())
    print(f"{options.runs:,} cases in {seconds:,.0f} s: {outcomes}; {len(mistakes)} mistakes")
    return bool(mistakes)


if __name__ == "__main__":
    sys.exit(main())
