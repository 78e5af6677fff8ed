"""Onebuf's matrices beside oneDNN's, as PyTorch and OpenVINO use it: one process, alternating, medians.

    python benchmarks/onednn.py [--threads 2] [--isa NAME] [--repeats 5] [--shape 'NAME; ...'] [--json]

Needs `pip install torch`; with `pip install openvino` also oneDNN's 4-bit weights, which PyTorch has not. Neither is a
dependency of Onebuf. All sides multiply the same values: 4-bit groups of 64, dequantised for the wider formats. Each
side goes through copies of its weights that are together larger than the caches, one call a copy, as decoding does.
Use an otherwise idle machine.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import pipeline as p
from pipeline.benching.bandwidth import buffer_bytes
from pipeline.graph.tensors import Storage

GROUP = 64
PAUSE = 0.3  # seconds before each side: OpenMP's threads poll for that long after their last work
MOST_FLOPS = 2e10  # of a pass, unless two copies have more
SHAPES = {  # name: (inputs, outputs, rows)
    "expert, 1 row": (2048, 768, 1),
    "expert, 28 rows": (2048, 768, 28),
    "projection, 1 row": (2048, 4096, 1),
    "projection, 448 rows": (2048, 4096, 448),
    "logits, 1 row": (2048, 151936, 1),
}


@dataclass
class Matrix:
    """The operands of all sides: q [outputs, inputs] of 0 … 15, scale and bias [outputs, inputs / GROUP]; x
    [rows, inputs]."""

    q: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    x: np.ndarray

    @classmethod
    def random(cls, inputs: int, outputs: int, rows: int):
        """Weights of variance 1 / inputs. Scales and biases are bfloat16, which float32 holds."""
        rng = np.random.default_rng(0)
        step = rng.uniform(0.9, 1.1, (outputs, inputs // GROUP)).astype(np.float32) * np.float32(
            (12 / 255 / inputs) ** 0.5
        )
        scale = (step.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        return cls(
            rng.integers(0, 16, (outputs, inputs), np.uint8),
            scale,
            scale * np.float32(-8),
            rng.normal(size=(rows, inputs)).astype(np.float32),
        )

    @property
    def values(self) -> np.ndarray:
        grouped = self.q.reshape(len(self.q), -1, GROUP) * self.scale[..., None] + self.bias[..., None]
        return grouped.reshape(self.q.shape)


@dataclass
class Side:
    """make(matrix) gives one copy: a function without arguments that gives x · weightᵀ. nbytes: of a weight."""

    name: str
    nbytes: float
    make: Callable


def onebuf(device) -> Side:
    def bits(values):
        return Storage.of((values.view(np.uint32) >> 16).astype(np.uint16), "bf16")

    def make(m):
        words = (m.q.reshape(len(m.q), -1, 8).astype(np.uint32) << np.arange(0, 32, 4, dtype=np.uint32)).sum(
            -1, dtype=np.uint32
        )
        pipe = p.Pipeline(device, rows=len(m.x))
        x = pipe.input("x", m.x.shape)
        y = pipe.linear(x, p.Quantized(words, bits(m.scale), bits(m.bias), 4, GROUP))
        chain = pipe.build(y)
        chain.run(x=m.x)
        result = chain.view(y)

        def run():
            chain.commit().wait()
            return result

        return run

    return Side("onebuf 4-bit", (4 + 32 / GROUP) / 8, make)


def torch_sides(threads: int) -> list[Side]:
    import torch

    torch.set_num_threads(threads)
    torch.backends.quantized.engine = "onednn"
    warnings.filterwarnings("ignore", module="torch|__main__", category=UserWarning)

    def packed(dtype):
        def make(m):
            x = torch.from_numpy(m.x).to(dtype)
            weight = torch.ops.mkldnn._reorder_linear_weight(torch.from_numpy(m.values).to(dtype), len(x))
            return lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

        return make

    def int8(m):
        weight, x = torch.from_numpy(m.values), torch.from_numpy(m.x)
        scale = weight.abs().amax(1) / 127
        quantized = torch.quantize_per_channel(weight, scale, torch.zeros(len(scale), dtype=torch.long), 0, torch.qint8)
        weight = torch.ops.quantized.linear_prepack(quantized, None)
        # Without VNNI sums of two products saturate at 16 bits: activations then have 7 bits.
        return lambda: torch.ops.quantized.linear_dynamic(x, weight, not torch.cpu._is_vnni_supported())

    def int4(m):
        x = torch.from_numpy(m.x).bfloat16()
        weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(torch.from_numpy(m.q.astype(np.int32)), 1)
        # w = (q - 8) · scale + zero, [inputs / GROUP, outputs, 2]
        scales = torch.from_numpy(np.stack([m.scale, m.bias + 8 * m.scale], -1).swapaxes(0, 1).copy()).bfloat16()
        return lambda: torch.ops.aten._weight_int4pack_mm_for_cpu(x, weight, GROUP, scales)

    return [
        Side("oneDNN f32 (PyTorch)", 4, packed(torch.float32)),
        Side("oneDNN bf16 (PyTorch)", 2, packed(torch.bfloat16)),
        Side("oneDNN int8 (PyTorch)", 1, int8),
        Side("ATen 4-bit (PyTorch)", (4 + 32 / GROUP) / 8, int4),
    ]


def openvino_side(threads: int) -> Side:
    import openvino
    from openvino import opset13 as op

    core = openvino.Core()

    def constant(q):
        flat = q.reshape(-1)
        packed = flat[0::2] | flat[1::2] << 4
        return op.constant(openvino.Tensor(packed, openvino.Shape(q.shape), openvino.Type.u4)), packed

    def make(m):
        x = op.parameter(m.x.shape, np.float32)
        groups = m.q.reshape(len(m.q), -1, GROUP)
        q, memory = constant(groups)
        zero, zero_memory = constant(np.full((*groups.shape[:2], 1), 8, np.uint8))
        weight = op.subtract(op.convert(q, np.float16), op.convert(zero, np.float16))
        weight = op.multiply(weight, op.constant(m.scale[..., None].astype(np.float16)))
        weight = op.convert(op.reshape(weight, np.array(m.q.shape), False), np.float32)
        y = op.matmul(x, weight, False, True)
        model = core.compile_model(
            openvino.Model([y], [x]), "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        )
        request = model.create_infer_request()
        request.infer([m.x])
        result = request.get_output_tensor(0).data
        del memory, zero_memory  # the compiled model has packed its own

        def run():
            request.infer()
            return result

        return run

    return Side("oneDNN 4-bit (OpenVINO)", (4 + 20 / GROUP) / 8, make)


def sides_of(options, device) -> list[Side]:
    try:
        sides = [onebuf(device), *torch_sides(device.threads)]
    except ImportError as error:
        sys.exit(f"error: {error}; this comparison needs torch: pip install torch")
    try:
        sides.append(openvino_side(device.threads))
    except ImportError:
        print("without oneDNN's 4-bit weights, which need openvino: pip install openvino", file=sys.stderr)
    return sides


def compare(name: str, sides: list[Side], repeats: int) -> list[dict]:
    """A row for each side that the processor has kernels for."""
    inputs, outputs, rows = SHAPES[name]
    matrix = Matrix.random(inputs, outputs, rows)
    expected = matrix.x @ matrix.values.T
    flops, found, seconds = 2 * inputs * outputs * rows, {}, {}
    for side in sides:
        count = max(2, min(-(-buffer_bytes() // int(side.nbytes * inputs * outputs)), int(MOST_FLOPS // flops)))
        try:
            runs = [side.make(matrix) for _ in range(count)]
            for run in runs:
                result = run()
        except RuntimeError as error:
            print(f"{name}: without {side.name}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        error = np.linalg.norm(np.asarray(result if isinstance(result, np.ndarray) else result.float()) - expected)
        found[side.name], seconds[side.name] = (side, runs, error / np.linalg.norm(expected)), []
    for _ in range(repeats):
        for side, runs, _ in found.values():
            time.sleep(PAUSE)
            start = time.perf_counter()
            for run in runs:
                run()
            seconds[side.name].append((time.perf_counter() - start) / len(runs))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return [
        {
            "shape": name,
            "inputs": inputs,
            "outputs": outputs,
            "rows": rows,
            "side": each,
            "copies": len(runs),
            "seconds": seconds[each],
            "median_seconds": medians[each],
            "flops_per_second": flops / medians[each],
            "bytes_per_second": side.nbytes * inputs * outputs / medians[each],
            "relative_error": float(error),
            "onebuf_ratio": medians[each] / medians["onebuf 4-bit"],
        }
        for each, (side, runs, error) in found.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", help="of Onebuf's kernels (default: the processor's best)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shape", default=";".join(SHAPES), help=f"of: {'; '.join(SHAPES)} (default: all)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = [name.strip() for name in options.shape.split(";")]
    if unknown := [name for name in names if name not in SHAPES]:
        sys.exit(f"error: --shape {unknown[0]}: unknown; shapes are {'; '.join(SHAPES)}")
    rows = []
    device = p.open_device("cpu", threads=options.threads, isa=options.isa)
    sides = sides_of(options, device)
    for name in names:
        for row in compare(name, sides, options.repeats):
            rows.append(row)
            if not options.json:
                print(
                    f"{name:22} {row['side']:24} {row['median_seconds'] * 1e6:10,.0f} µs "
                    f"{row['flops_per_second'] / 1e9:8,.1f} GFLOP/s {row['bytes_per_second'] / 1e9:6.1f} GB/s   "
                    f"onebuf {row['onebuf_ratio']:6.2f} × as fast   error {row['relative_error']:.0e}",
                    flush=True,
                )
    if options.json:
        print(json.dumps({"isa": device.isa, "threads": device.threads, "results": rows}, indent=2))


if __name__ == "__main__":
    try:
        main()
    except p.errors.OnebufError as error:
        sys.exit(f"error: {error}")
