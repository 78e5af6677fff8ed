"""Measures the memory and the rate of a long file of prompts against those of a short one.

    python benchmarks/streaming.py [--rows 10000 1000000] [--batch-size 64] [--model PATH] [--order finished]

Each prompt has five tokens, and one token is generated. Memory is the process's largest resident set; the rate is of
the whole process, from its start to its end. Where other programs use the machine, the processor time of a row tells
more than the rate.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOKENS = 5
MOST_MEGABYTES = 30  # that the long file may take more


def write(file: Path, rows: int) -> None:
    with open(file, "w") as stream:
        for row in range(rows):
            tokens = [5 + (row * 7 + 13 * place) % 4000 for place in range(TOKENS)]
            stream.write(json.dumps({"tokens": tokens}) + "\n")


def processor_seconds() -> float:
    """Those of the programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(folder: Path, rows: int, options: list[str]) -> tuple[float, float, float]:
    """(megabytes, rows per second, processor seconds of a row)."""
    prompts, out = folder / f"{rows}.jsonl", folder / f"{rows}.out.jsonl"
    write(prompts, rows)
    command = [sys.executable, "-m", "pipeline.run", "--prompts", prompts, "--out", out, "--max-tokens", "1", "--json"]
    started, before = time.monotonic(), processor_seconds()
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True)
    seconds, used = time.monotonic() - started, processor_seconds() - before
    if done.returncode:
        sys.exit(done.stderr)
    with open(out, "rb") as stream:
        count = sum(1 for _ in stream)
    if count != rows:
        sys.exit(f"{out} has {count:,} rows, not {rows:,}")
    out.unlink()
    prompts.unlink()
    return json.loads(done.stdout)["peak_memory_bytes"] / 1e6, rows / seconds, used / rows


def main() -> int:
    """The exit code: 1 where the long file costs too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 1_000_000])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--model", default="storyteller")
    parser.add_argument("--order", default="input")
    arguments = parser.parse_args()
    options = ["--batch-size", str(arguments.batch_size), "--model", arguments.model, "--order", arguments.order]
    found = []
    with tempfile.TemporaryDirectory() as name:
        for rows in arguments.rows:
            megabytes, rate, used = run(Path(name), rows, options)
            times = f"{rate:8.0f} rows/s, {1e6 * used:6.0f} µs of the processor for each"
            print(f"{rows:>9,} rows: {megabytes:7.1f} MB, {times}", flush=True)
            found.append((megabytes, rate))
    more, share = found[1][0] - found[0][0], found[1][1] / found[0][1]
    print(f"the long file takes {more:.1f} MB more, at {share:.2f} of the rate")
    return 1 if more > MOST_MEGABYTES else 0


if __name__ == "__main__":
    sys.exit(main())
