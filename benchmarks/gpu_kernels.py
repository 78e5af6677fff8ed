"""How close single kernels come to a device's bandwidth: matrix × vector of Qwen3-30B-A3B's shape.

    python benchmarks/gpu_kernels.py --device cuda --kernels qkv down --formats bf16 q4_bf16 --rows 1 2 4

A chain repeats one kernel over so many different weights that no cache holds them, and each dispatch waits for the one
before, as in a model. The time is the device's own, from the start of the chain to its end; the median of several runs
counts. Bytes are those of the weights. Their share is of what a kernel reaches that only reads, in the same run.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.device.core import _core
from pipeline.device.device import Device, open_device
from pipeline.graph.builder import Pipeline
from pipeline.graph.chain import Chain
from pipeline.graph.tensors import Storage, Tensor
from pipeline.graph.weights import Quantized

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 2048, 32, 4, 128, 151936
INNER, EXPERTS, TOP_K = 768, 128, 8
GROUP = 64
READ_BYTES, READ_THREADS = 1 << 30, 256

READ = """
#include <metal_stdlib>
using namespace metal;

struct ReadArgs {
    uint vectors;  // of one threadgroup
};

kernel void read_vectors(device const uint4 *data [[buffer(0)]], device uint *sums [[buffer(1)]],
                         constant ReadArgs &args [[buffer(2)]], uint group [[threadgroup_position_in_grid]],
                         uint lane [[thread_index_in_threadgroup]], uint lanes [[threads_per_threadgroup]]) {
    device const uint4 *part = data + ulong(group) * args.vectors;
    uint4 a = uint4(0), b = a, c = a, d = a;
    for (uint i = lane; i < args.vectors; i += 4 * lanes) {
        a = a ^ part[i];
        b = b ^ part[i + lanes];
        c = c ^ part[i + 2 * lanes];
        d = d ^ part[i + 3 * lanes];
    }
    a = (a ^ b) ^ (c ^ d);
    if (((a.x ^ a.y) ^ (a.z ^ a.w)) == 1) sums[group] = a.x;  // hardly ever, but no compiler knows
}
"""


class Repeated(Pipeline):
    """A pipeline whose results of one name are all in one place, so that each dispatch waits for the one before."""

    def __init__(self, device: Device, rows: int) -> None:
        super().__init__(device, rows=rows)
        self._places: dict[str, Tensor] = {}

    def scratch(self, name: str, shape: Iterable[int], dtype: str = "f32") -> Tensor:
        if name not in self._places:
            self._places[name] = self.state(name, Storage.zeros(tuple(shape), dtype))
        return self._places[name]


class Weights:
    """Random weights in one format; a small block of random numbers fills them again and again."""

    def __init__(self, format: str) -> None:
        self.format = format
        rng = np.random.default_rng(7)
        self._words = rng.integers(0, 2**32, 1_000_003, np.uint32)
        self._values = rng.normal(size=1_000_003).astype(np.float32) * 0.02

    def __call__(self, *shape: int) -> Storage | Quantized:
        if not self.format.startswith("q"):
            return self._stored(self.format, shape, self._values)
        bits, scales = int(self.format[1]), self.format[3:]
        words = np.resize(self._words, (*shape[:-1], shape[-1] * bits // 32))
        groups = (*shape[:-1], shape[-1] // GROUP)
        scale = self._stored(scales, groups, np.abs(self._values) / 2**bits)
        bias = self._stored(scales, groups, -np.abs(self._values) / 2)
        return Quantized(words, scale, bias, bits, GROUP)

    def nbytes(self, *shape: int) -> int:
        size = math.prod(shape)
        if not self.format.startswith("q"):
            return size * (4 if self.format == "f32" else 2)
        return size * int(self.format[1]) // 8 + size // GROUP * 2 * (4 if self.format.endswith("f32") else 2)

    def _stored(self, dtype: str, shape: tuple[int, ...], values: np.ndarray) -> Storage:
        if dtype == "bf16":
            return Storage.of(np.resize((values.view(np.uint32) >> 16).astype(np.uint16), shape), "bf16")
        return Storage.of(np.resize(values.astype({"f32": np.float32, "f16": np.float16}[dtype]), shape))


@dataclasses.dataclass
class Case:
    """A kernel: the bytes of weights that one dispatch reads for some rows, and chains that repeat it."""

    kernel: str
    nbytes: Callable[[int], int]
    chain: Callable[[int], Chain]  # of a number of rows


def activations(*shape: int) -> np.ndarray:
    """Activations, which lie where the weights do: inputs of a chain would be where the host sees them."""
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def linear(device: Device, weights: Weights, nbytes: int, outputs: int, inputs: int) -> Case:
    count = max(2, nbytes // weights.nbytes(outputs, inputs))
    matrices = [weights(outputs, inputs) for _ in range(count)]

    def chain(rows: int) -> Chain:
        pipe = Repeated(device, rows)
        x = pipe.state("x", Storage.of(activations(rows, inputs)))
        for matrix in matrices:
            y = pipe.linear(x, matrix)
        return pipe.build(y)

    return Case("linear", lambda rows: weights.nbytes(outputs, inputs), chain)


def linear3(device: Device, weights: Weights, nbytes: int) -> Case:
    outputs = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM)
    count = max(2, nbytes // weights.nbytes(sum(outputs), HIDDEN))
    matrices = [[weights(n, HIDDEN) for n in outputs] for _ in range(count)]

    def chain(rows: int) -> Chain:
        pipe = Repeated(device, rows)
        x = pipe.state("x", Storage.of(activations(rows, HIDDEN)))
        for each in matrices:
            y = pipe.linear3(x, each, ("q", "k", "v"))
        return pipe.build(y)

    return Case("linear3", lambda rows: weights.nbytes(sum(outputs), HIDDEN), chain)


def experts(device: Device, weights: Weights, nbytes: int, kernel: str) -> Case:
    """One of the two kernels of the experts of few rows; each dispatch takes other experts."""
    matrices = 1 if kernel == "experts_down" else 2
    count = min(EXPERTS, max(2 * TOP_K, nbytes // (matrices * weights.nbytes(INNER, HIDDEN))))
    up = weights(count, INNER, HIDDEN)
    gate = up if matrices == 1 else weights(count, INNER, HIDDEN)
    down = weights(count, HIDDEN, INNER)

    def chain(rows: int) -> Chain:
        pipe = Repeated(device, rows)
        x = pipe.state("x", Storage.of(activations(rows, HIDDEN)))
        factors = pipe.state("factors", Storage.of(np.full((rows, TOP_K), 0.125, np.float32)))
        order = np.arange(4 * count, dtype=np.uint32) * 37 % count if count % 37 else np.arange(4 * count) % count
        repeats = max(2, count // (rows * TOP_K))
        for i in range(repeats):
            chosen = np.resize(np.roll(order, -i * rows * TOP_K), (rows, TOP_K)).astype(np.uint32)
            ids = pipe.state(f"ids{i}", Storage.of(chosen))
            y = pipe.experts(x, ids, factors, gate, up, down, grouped=False)
        plan = pipe.plan(y)
        kept = [i for i, each in enumerate(plan.dispatches) if each.kernel.startswith(kernel)]
        plan = dataclasses.replace(
            plan, dispatches=tuple(plan.dispatches[i] for i in kept), barriers=tuple(plan.barriers[i] for i in kept)
        )
        return Chain(plan, device)

    return Case(kernel, lambda rows: rows * TOP_K * matrices * weights.nbytes(INNER, HIDDEN), chain)


CASES: dict[str, Callable[[Device, Weights, int], Case]] = {
    "qkv": linear3,
    "o": lambda device, weights, nbytes: linear(device, weights, nbytes, HIDDEN, HEADS * HEAD_DIM),
    "router": lambda device, weights, nbytes: linear(device, weights, min(nbytes, 32 << 20), EXPERTS, HIDDEN),
    "gate_up": lambda device, weights, nbytes: experts(device, weights, nbytes, "experts_gate_up"),
    "down": lambda device, weights, nbytes: experts(device, weights, nbytes, "experts_down"),
    "head": lambda device, weights, nbytes: linear(device, weights, nbytes, VOCAB, HIDDEN),
}


def median_seconds(chain: Chain | _core.Chain, runs: int) -> float:
    """The device's time for a run, after two that warm it up."""
    times = []
    for _ in range(runs + 2):
        run = chain.commit()
        run.wait()
        begin, end = run.device_seconds
        times.append(end - begin)
    return statistics.median(times[2:])


def read_bandwidth(device: Device, nbytes: int, runs: int) -> float:
    """Bytes per second of a kernel that reads a buffer once."""
    kernel = device.core.compile(READ).kernel("read_vectors")
    threads = 1 if device.threads else READ_THREADS
    vectors = 16 * READ_THREADS
    groups = nbytes // (16 * vectors)
    data, sums = device.core.buffer(groups * vectors * 16, private=True), device.core.buffer(4 * groups, private=True)
    dispatch = _core.Dispatch(
        kernel,
        [(0, data, 0, groups * vectors * 16), (1, sums, 0, 4 * groups)],
        (2, kernel.pack("args", {"vectors": vectors})),
        (groups, 1, 1),
        label="read_vectors",
        threads=(threads, 1, 1),
    )
    return groups * vectors * 16 / median_seconds(device.core.chain([dispatch], "read_vectors"), runs)


def lines(options: argparse.Namespace) -> Iterator[str]:
    device = open_device(options.device)
    nbytes = options.megabytes << 20
    bandwidth = read_bandwidth(device, min(READ_BYTES, 2 * nbytes), options.runs)
    yield f"{device.name}: a kernel that only reads reaches {bandwidth / 1e9:,.0f} GB/s"
    titles = f"{'kernel':9} {'format':9} {'rows':>4} {'dispatches':>10} {'MB each':>8} {'µs each':>8}"
    yield f"{titles} {'GB/s':>7} {'share':>6}"
    for name in options.kernels:
        for format in options.formats:
            case = CASES[name](device, Weights(format), nbytes)
            for rows in options.rows:
                chain = case.chain(rows)
                chain.run()
                each = median_seconds(chain, options.runs) / len(chain)
                size = case.nbytes(rows)
                yield (
                    f"{name:9} {format:9} {rows:4} {len(chain):10} {size / 1e6:8.2f} {each * 1e6:8.2f} "
                    f"{size / each / 1e9:7,.0f} {size / each / bandwidth:6.1%}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--kernels", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--formats", nargs="+", default=["bf16", "q4_bf16"])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--megabytes", type=int, default=600, help="different weights per chain, at least two matrices")
    parser.add_argument("--runs", type=int, default=7)
    for line in lines(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
