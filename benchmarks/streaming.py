"""What a million prompts cost: the memory and the rate of a long file of prompts, against those of a short one.

    python benchmarks/streaming.py [--rows 10000 1000000] [--batch-size 64] [--model PATH] [--order finished]

Each prompt has five tokens, and one token is generated. Memory is the process's largest resident set; the rate is of
the whole process, from its start to its end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOKENS, MOST_MEGABYTES, LEAST_RATE = 5, 30, 0.9  # the long file may take so much more, at so much of the rate


def write(file: Path, rows: int) -> None:
    with open(file, "w") as stream:
        for row in range(rows):
            tokens = [5 + (row * 7 + 13 * place) % 4000 for place in range(TOKENS)]
            stream.write(json.dumps({"tokens": tokens}) + "\n")


def run(folder: Path, rows: int, options: list[str]) -> tuple[float, float, dict]:
    """(megabytes, rows per second, the summary)."""
    prompts, out = folder / f"{rows}.jsonl", folder / f"{rows}.out.jsonl"
    write(prompts, rows)
    command = [sys.executable, "-m", "pipeline.run", "--prompts", prompts, "--out", out, "--max-tokens", "1", "--json"]
    started = time.monotonic()
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(done.stderr)
    with open(out, "rb") as stream:
        count = sum(1 for _ in stream)
    if count != rows:
        sys.exit(f"{out} has {count:,} rows, not {rows:,}")
    out.unlink()
    prompts.unlink()
    summary = json.loads(done.stdout)
    return summary["peak_memory_bytes"] / 1e6, rows / seconds, summary


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
            megabytes, rate, _ = run(Path(name), rows, options)
            print(f"{rows:>9,} rows: {megabytes:7.1f} MB, {rate:8.0f} rows/s", flush=True)
            found.append((megabytes, rate))
    more, share = found[1][0] - found[0][0], found[1][1] / found[0][1]
    print(f"the long file takes {more:.1f} MB more, at {share:.2f} of the rate")
    return 1 if more > MOST_MEGABYTES else 0


if __name__ == "__main__":
    sys.exit(main())
