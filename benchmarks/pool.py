"""The time that the threads of the cpu device add to the work: dependent dispatches, sharing, uneven work, waiting.

    python benchmarks/pool.py [--threads 2] [--repeats 5]

Each figure is of a chain of 100 dispatches that each depend on the one before, by the device's clock. The same
chain on one thread is run by turns with it; medians of the repeats, and the smallest in brackets, which other
users of the machine disturb least. Use an otherwise idle machine.
"""

import argparse
import statistics
import time

import numpy as np

import pipeline as p
from pipeline import _core

SOURCE = """
#include <metal_stdlib>
using namespace metal;
// Threadgroup i works for costs[i] steps of about a nanosecond each, on a line of memory of its own.
kernel void work(device const uint *costs [[buffer(0)]], device uint *x [[buffer(1)]],
                 uint3 at [[threadgroup_position_in_grid]]) {
    uint a = x[16 * at.x];
    for (uint i = 0; i < costs[at.x]; i++) a = a * 1664525u + 1013904223u;
    x[16 * at.x] = a;
}
"""
DISPATCHES, RUNS = 100, 10

UNSHARED = {"1 threadgroup": [0], "2 threadgroups": [0] * 2, "16 threadgroups": [0] * 16}
SHARED = {
    "2 x 0.5 µs": [500] * 2,
    "8 x 0.25 µs": [250] * 8,
    "16 x 0.25 µs": [250] * 16,
    "64 x 0.1 µs": [100] * 64,
    "16 x 1 µs": [1000] * 16,
    "128 x 1 µs": [1000] * 128,
}
UNEVEN = {
    "16 µs, then 48 x 1 µs": [16000] + [1000] * 48,
    "48 x 1 µs, then 16 µs": [1000] * 48 + [16000],
    "32 x 2 µs, then 32 x 0.1 µs": [2000] * 32 + [100] * 32,
}


class Work:
    """A chain of dispatches with a threadgroup for each of `costs`, in nanoseconds, on each of the devices."""

    def __init__(self, devices, costs):
        self.chains = []
        for device in devices:
            given, lines = device.core.buffer(4 * len(costs)), device.core.buffer(64 * len(costs))
            np.frombuffer(given, np.uint32)[:] = costs
            bindings = [(0, given, 0, given.nbytes), (1, lines, 0, lines.nbytes)]
            kernel = device.library.kernel("work")
            dispatch = _core.Dispatch(kernel, bindings, None, (len(costs), 1, 1))
            self.chains.append(device.core.chain([dispatch] * DISPATCHES))

    def times(self, repeats):
        """Nanoseconds a dispatch on each of the devices, sorted."""
        found = [[] for _ in self.chains]
        for _ in range(repeats):
            for chain, times in zip(self.chains, found):
                times.append(statistics.median(self.run(chain) for _ in range(RUNS)))
        return [sorted(times) for times in found]

    @staticmethod
    def run(chain):
        run = chain.commit()
        run.wait()
        start, end = run.device_seconds
        return (end - start) / DISPATCHES * 1e9


def line(name, values, unit):
    print(f"{name:60} {statistics.median(values):8.2f} {unit} ({min(values):.2f})", flush=True)


def commit_and_wait(device, repeats):
    """Host seconds of a run of one small dispatch."""
    x = device.core.buffer(64)
    costs = device.core.buffer(16)
    chain = device.core.chain([_core.Dispatch(device.library.kernel("work"), [(0, costs, 0, 4), (1, x, 0, 64)])])
    times = []
    for _ in range(repeats * RUNS * 10):
        start = time.perf_counter()
        chain.commit().wait()
        times.append(time.perf_counter() - start)
    return sorted(times)


def open_devices(threads):
    devices = [p.open_device("cpu", threads=threads), p.open_device("cpu", threads=1)]
    for device in devices:
        device.library = device.core.compile(SOURCE)
    return devices


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    devices, threads = open_devices(options.threads), options.threads
    busy, start = Work(devices, [1000] * 64), time.perf_counter()
    while time.perf_counter() < start + 0.3:  # until the system has given each thread a core of its own
        busy.run(busy.chains[0])
    print(f"{threads} threads; medians (smallest)")
    for name, costs in UNSHARED.items():
        many, _ = Work(devices, costs).times(options.repeats)
        line(f"dependent dispatch of {name} that does nothing", many, "ns")
    for name, costs in SHARED.items():
        many, one = Work(devices, costs).times(options.repeats)
        each = statistics.median(one)
        line(
            f"dependent dispatch of {name}: beyond 1/{threads} of one thread's time",
            [m - each / threads for m in many],
            "ns",
        )
    for name, costs in UNEVEN.items():
        many, one = Work(devices, costs).times(options.repeats)
        ideal = statistics.median(one) * max(1 / threads, max(costs) / sum(costs))
        line(f"{name}: times the shortest possible", [m / ideal for m in many], "x")
    times = commit_and_wait(devices[0], options.repeats)
    line("commit and wait for one small dispatch, host included", [seconds * 1e6 for seconds in times], "µs")


if __name__ == "__main__":
    main()
