"""Measures what each step of a layer adds to the time of a token on a GPU.

    python benchmarks/gpu_layer.py --bits 4 16 --context 128

The dispatches of a token are run up to one of them, then up to the next, and so on, in the model's order and each
behind what it waits for. The difference of two such times is what a dispatch adds, with all that kernels do before they
wait and with the time that code and weights take to come: a kernel run alone, time after time, hides that. Single
differences vary by some microseconds, so several layers are measured, and their mean is printed beside the smallest and
the largest.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import gpu_decode

import pipeline as p
from pipeline.benching import shapes
from pipeline.graph.chain import Chain
from pipeline.graph.plan import Plan
from pipeline.models.row_state import Rows

WARM = 4  # runs before those that count


def microseconds(plan: Plan, device: p.Device, count: int, runs: int) -> float:
    """The device's time for the first `count` dispatches of the plan: the median of some runs."""
    part = dataclasses.replace(plan, dispatches=plan.dispatches[:count], barriers=plan.barriers[:count])
    chain, times = Chain(part, device), []
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
    add("--measured", type=int, default=8, help="layers that are measured, in the middle of the model")
    add("--context", type=int, default=128, help="the position at which the token is decoded")
    add("--runs", type=int, default=24)
    add("--folder", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    if not 0 < options.measured < options.layers:
        parser.error("--measured is below --layers, and above 0")
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
    rows, pipe = Rows.zeros(1), p.Pipeline(device, rows=1, own_slots=True)
    logits = model.forward(pipe, rows, model.cache(1, 2 * options.context))
    plan = pipe.plan(logits)
    rows.positions.write(device, [options.context - 1])
    steps = [dispatch.step for dispatch in plan.dispatches]
    layer = (options.layers - options.measured) // 2
    first, last = (
        next(i for i, step in enumerate(steps) if step.startswith(f"layers.{n}."))
        for n in (layer, layer + options.measured)
    )
    times = [microseconds(plan, device, count, options.runs) for count in range(first, last + 1)]
    added = defaultdict(list)
    for step, before, after in zip(steps[first:last], times, times[1:]):
        added[step.split(".", 2)[2]].append(after - before)
    whole = microseconds(plan, device, len(steps), options.runs)
    print(
        f"{options.shape}, {bits} bits, {options.layers} layers, context {options.context}: {len(steps)} dispatches, "
        f"{whole:,.0f} us; {(times[-1] - times[0]) / options.measured:.1f} us per layer"
    )
    for step, values in added.items():
        print(f"{step:28} {statistics.mean(values):6.2f} us ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    sys.exit(main())
