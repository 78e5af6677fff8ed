"""What a decoded token costs the host of a GPU, and how long the GPU waits between two tokens.

    python benchmarks/gpu_host.py --device cuda

Two runs of the built-in model's decode chain are kept in flight, as a generator keeps them. Prints medians: the host's
time from asking for a run until it is committed, the GPU's time per run, and the GPU's time from the end of one run to
the start of the next, by its own clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import deque

import pipeline as p
from pipeline.checkpoints.opening import open_checkpoint
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.generation.generator import Generator
from pipeline.generation.requests import Request
from pipeline.models.families import load_model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    device = p.open_device(options.device)
    with open_checkpoint(builtin_model()) as checkpoint:
        model = load_model(checkpoint, device=device)
    model.end_tokens = ()
    generator = Generator(model, batch_size=1, context=256)
    list(generator.run([Request(0, (1, 2, 3), 8, 0.0, 0)]))  # seats a row
    chain = generator._decode.chain
    commits, spans, flight = [], [], deque()
    for i in range(options.runs):
        start = time.perf_counter()
        flight.append(chain.commit(copy=i % 2, rows=1))
        commits.append(time.perf_counter() - start)
        if len(flight) == 2:
            run = flight.popleft()
            run.wait()
            spans.append(run.device_seconds)
    for run in flight:
        run.wait()
    gaps = [later[0] - earlier[1] for earlier, later in zip(spans, spans[1:])]
    print(
        f"host per run {1e6 * statistics.median(commits):.2f} us, GPU per run "
        f"{1e6 * statistics.median(end - begin for begin, end in spans):.1f} us, between runs "
        f"{1e6 * statistics.median(gaps):.2f} us, whole "
        f"{1e6 * (spans[-1][1] - spans[100][0]) / (len(spans) - 100):.1f} us per run"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
