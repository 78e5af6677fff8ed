"""How long the checker takes over a reduction: 64 threadgroups of 256 threads over 1 M floats.

    python benchmarks/checker.py [--schedules 1] [--repeats 5]

The sum is compared, and nothing may be found. Use an otherwise idle machine.
"""

import argparse
import statistics
import time

import numpy as np

import pipeline
from pipeline import _core

GROUPS, THREADS, COUNT = 64, 256, 1 << 20
SOURCE = """
#include <metal_stdlib>
using namespace metal;

kernel void reduce(device const float *x [[buffer(0)]], device float *sums [[buffer(1)]],
                   constant uint &count [[buffer(2)]], uint i [[thread_index_in_threadgroup]],
                   uint group [[threadgroup_position_in_grid]],
                   uint threads [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                   uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float partial[32];
    float sum = 0;
    for (uint k = i; k < count; k += threads) sum += x[group * count + k];
    sum = simd_sum(sum);
    if (lane == 0) partial[simdgroup] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i != 0) return;
    for (uint k = 1; k < simdgroups; k++) sum += partial[k];
    sums[group] = sum;
}
"""


def filled(device, array):
    buffer = device.core.buffer(array.nbytes)
    np.frombuffer(buffer, array.dtype)[:] = array
    return buffer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = pipeline.open_device("checker", threads=THREADS, schedules=options.schedules)
    kernel = device.core.compile(SOURCE).kernel("reduce")
    x = np.random.default_rng(0).random(COUNT).astype(np.float32)
    buffers = [
        filled(device, x),
        filled(device, np.zeros(GROUPS, np.float32)),
        filled(device, np.array([COUNT // GROUPS], np.uint32)),
    ]
    bindings = [(slot, buffer, 0, len(memoryview(buffer))) for slot, buffer in enumerate(buffers)]
    chain = device.core.chain([_core.Dispatch(kernel, bindings, None, (GROUPS, 1, 1), 0, "reduce")])
    times = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        chain.run()
        times.append(time.perf_counter() - start)
    np.testing.assert_allclose(
        np.frombuffer(buffers[1], np.float32), x.reshape(GROUPS, -1).sum(1, dtype=np.float64), rtol=1e-5
    )
    assert not device.findings, device.findings
    print(
        f"{COUNT:,} floats, {GROUPS} threadgroups of {THREADS}, {options.schedules} orders: "
        f"{statistics.median(times):.3f} s"
    )


if __name__ == "__main__":
    main()
