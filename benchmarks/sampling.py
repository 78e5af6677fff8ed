"""The cost of sampling a row of Qwen3's vocabulary, as a multiple of numpy.argmax over the same row.

    python benchmarks/sampling.py [--vocab 151936] [--threads 2] [--repeats 400]

Each is one command buffer, from commit to the end of the wait, host included. Sides alternate, one run
each, and medians are compared. Use an otherwise idle machine.
"""

import argparse
import statistics
import time

import numpy as np

import pipeline as p
from pipeline.graph.tensors import Storage

SETTINGS = {  # temperature, top_k, top_p, min_p
    "greedy": (0.0, 0, 1.0, 0.0),
    "temperature": (0.8, 0, 1.0, 0.0),
    "top-k 40, top-p 0.9": (0.8, 40, 0.9, 0.0),
    "top-p 0.9": (0.8, 0, 0.9, 0.0),
    "min-p 0.05": (0.8, 0, 1.0, 0.05),
}


def sampler(device, logits, temperature, top_k, top_p, min_p):
    """A chain that draws from one row, ready to commit; each run draws at the next position."""
    pipe = p.Pipeline(device, rows=1)
    state = {
        "logits": Storage.of(logits[None]),
        "temperature": Storage.of(np.array([temperature], np.float32)),
        "seeds": Storage.zeros((1, 2), "u32"),
        "tokens": Storage.zeros((1,), "u32"),
        "positions": Storage.zeros((1,), "u32"),
    }
    tensors = [pipe.state(name, storage) for name, storage in state.items()]
    filters = None
    if (top_k, top_p, min_p) != (0, 1.0, 0.0):
        row = np.array([top_k, *np.array([top_p, min_p], np.float32).view(np.uint32)], np.uint32)
        filters = pipe.state("filters", Storage.of(row[None]))
    return pipe.build(pipe.sample(*tensors, filters=filters))


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=400)
    options = parser.parse_args()
    logits = (np.random.default_rng(0).normal(size=options.vocab) * 3).astype(np.float32)
    device = p.open_device("cpu", threads=options.threads)
    chains = {name: sampler(device, logits, *values) for name, values in SETTINGS.items()}
    sides = {"numpy.argmax": lambda: np.argmax(logits)}
    sides |= {name: lambda chain=chain: chain.commit(1).wait() for name, chain in chains.items()}
    times = {name: [] for name in sides}
    for _ in range(options.repeats):
        for name, side in sides.items():
            times[name].append(timed(side))
    base = statistics.median(times["numpy.argmax"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:20} {median * 1e6:8.1f} µs ± {statistics.pstdev(values) * 1e6:<7.1f} {median / base:6.2f} ×")


if __name__ == "__main__":
    main()
