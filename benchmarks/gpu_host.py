"""What a decoded token costs the host of a GPU, and how long the GPU waits between two tokens.

    python benchmarks/gpu_host.py --device cuda

Runs of the built-in model's decode chain are kept in flight: two, as a generator keeps them, and eight. Prints medians:
the host's time from asking for a run until it is committed, and the GPU's time from the end of a run to the end of the
next, by its own clock. With eight in flight the GPU never waits for the host; what it takes longer with two, it waits.
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
    chain = generator.scheduler._parts.decode.chain
    periods = {}
    for depth in (8, 2):
        commits, ends, flight = [], [], deque()
        for i in range(options.runs):
            start = time.perf_counter()
            flight.append(chain.commit(copy=i % 2, rows=1))
            commits.append(time.perf_counter() - start)
            if len(flight) == depth:
                run = flight.popleft()
                run.wait()
                ends.append(run.device_seconds[1])
        for run in flight:
            run.wait()
        periods[depth] = 1e6 * statistics.median(later - end for end, later in zip(ends, ends[1:]))
        host = 1e6 * statistics.median(commits)
        print(f"{depth} in flight: host {host:.2f} us per run, GPU {periods[depth]:.2f} us from end to end")
    print(f"the GPU waits {periods[2] - periods[8]:.2f} us per run for the host with two in flight")
    return 0


if __name__ == "__main__":
    sys.exit(main())
