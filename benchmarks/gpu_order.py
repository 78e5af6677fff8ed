"""Measures what the order of kernels costs a GPU: a token's dispatches in the order of the model, or grouped by kernel.

    python benchmarks/gpu_order.py --bits 4 16

Both chains have the same dispatches, each of which waits for the one before. Grouped, a kernel runs for all layers
before the next one does, so that its code stays where the GPU's cores keep it; what comes out means nothing. Prints the
device's time per token of both, and the time per dispatch of each kernel alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import gpu_decode

import pipeline as p
from pipeline.benching import shapes
from pipeline.graph.chain import Chain
from pipeline.graph.plan import Plan
from pipeline.models.row_state import Rows

WARM = 4  # runs before those that count


def microseconds(plan: Plan, device: p.Device, order: Sequence[int], runs: int) -> float:
    """The device's time for the dispatches `order` of the plan, one behind another: the median of some runs."""
    dispatches = tuple(plan.dispatches[i] for i in order)
    barriers = tuple(0 if i else -1 for i in range(len(order)))
    chain, times = Chain(dataclasses.replace(plan, dispatches=dispatches, barriers=barriers), device), []
    for _ in range(WARM + runs):
        run = chain.commit()
        run.wait()
        begin, end = run.device_seconds
        times.append(end - begin)
    return 1e6 * statistics.median(times[WARM:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--device", default="cuda")
    add("--shape", default="qwen3-30b-a3b", choices=sorted(shapes.SHAPES))
    add("--bits", type=int, nargs="+", default=[4], choices=(4, 16))
    add("--layers", type=int, default=48)
    add("--distinct", type=int, default=8)
    add("--context", type=int, default=128, help="the position at which the token is decoded")
    add("--runs", type=int, default=10)
    add("--folder", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    shape = shapes.cut_shape(options.shape, min(options.distinct, options.layers))
    device = p.open_device(options.device)
    for bits in options.bits:
        folder = options.folder / f"onebuf-{shape.folder}-{bits}"
        if not (folder / "config.json").exists():
            gpu_decode.write(folder, shape, bits)
        with p.open_checkpoint(folder) as checkpoint:
            gpu_decode.share_layers(checkpoint, options.layers, shape.layers)
            show(options, p.load_model(checkpoint, device=device), device, bits)
    return 0


def show(options: argparse.Namespace, model, device: p.Device, bits: int) -> None:
    """Measures and prints one model."""
    rows, pipe = Rows.zeros(1), p.Pipeline(device, rows=1)
    logits = model.forward(pipe, rows, model.cache(1, 2 * options.context))
    plan = pipe.plan(logits)
    rows.positions.write(device, [options.context - 1])
    kernels = [dispatch.kernel for dispatch in plan.dispatches]
    everything = range(len(kernels))
    ordered = microseconds(plan, device, everything, options.runs)
    grouped = microseconds(plan, device, sorted(everything, key=lambda i: kernels[i]), options.runs)
    print(
        f"{options.shape}, {bits} bits, {options.layers} layers, {len(kernels)} dispatches: {ordered:,.0f} us in the "
        f"model's order, {grouped:,.0f} us grouped by kernel ({ordered / grouped:.2f} x)"
    )
    for kernel in dict.fromkeys(kernels):
        own = [i for i in everything if kernels[i] == kernel]
        print(f"{kernel:34} {len(own):4} x {microseconds(plan, device, own, options.runs) / len(own):8.2f} us")


if __name__ == "__main__":
    sys.exit(main())
