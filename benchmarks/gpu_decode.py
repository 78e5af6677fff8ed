"""Decode speed of a large mixture of experts' shape on a GPU, with random weights.

    python benchmarks/gpu_decode.py --bits 4 --context 128
    python benchmarks/gpu_decode.py --bits 16 --batch 1 8 --folder /dev/shm

All layers run, but only `--distinct` of them have weights of their own, which the others share: the weights of one
layer are far larger than a GPU's second cache, so that every layer reads its weights from memory all the same. The
weights repeat one random block, so that they are made as fast as the disk takes them. Prints for each batch: tokens per
second (median of the repeats), bytes of weights per token and what share of the measured read bandwidth that is, the
device's time per token, and the host's time per command buffer.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np

import pipeline as p
from pipeline.benching import bandwidth, shapes, weights
from pipeline.benching.traffic import traffic
from pipeline.benching.workloads import Onebuf, Workload
from pipeline.checkpoints.opening import open_checkpoint
from pipeline.models.families import load_model

BLOCK = 1 << 24  # random elements that weights repeat


def tensors(shape: shapes.Shape, bits: int):
    """The tensors of the file: as the shape has them, or matrices in bf16."""
    for spec in shape.tensors():
        if bits == 4 or spec.role == "ones":
            yield spec
        elif spec.role == "words":
            yield shapes.TensorSpec(spec.name, "BF16", (*spec.shape[:-1], spec.inputs), "plain", 16, spec.inputs)


def write(folder: Path, shape: shapes.Shape, bits: int) -> None:
    """Writes a checkpoint of the shape."""
    folder.mkdir(parents=True, exist_ok=True)
    specs, rng = list(tensors(shape, bits)), np.random.default_rng(1)
    words = rng.integers(0, 1 << 32, BLOCK, np.uint32)
    normal = rng.standard_normal(BLOCK, np.float32)
    uniform = rng.uniform(0.9, 1.1, BLOCK).astype(np.float32)
    with open(folder / "model.safetensors", "wb") as stream:
        stream.write(weights._header(specs))
        for spec in specs:
            for block in _blocks(spec, words, normal, uniform):
                block.tofile(stream)
    config = shape.config_json() if bits == 4 else dict(shape.config)
    (folder / "config.json").write_text(json.dumps(config))


def _blocks(spec: shapes.TensorSpec, words, normal, uniform):
    count = math.prod(spec.shape)
    if spec.role == "words":
        block = words
    elif spec.role == "ones":
        block = weights.bf16(np.ones(min(count, BLOCK), np.float32))
    elif spec.role == "plain":
        block = weights.bf16(normal * np.float32(1 / math.sqrt(spec.inputs)))
    else:
        levels = 1 << spec.bits
        scales = np.float32(math.sqrt(12 / (levels**2 - 1) / spec.inputs)) * uniform
        block = weights.bf16(scales if spec.role == "scales" else scales * np.float32(-(levels - 1) / 2))
    for first in range(0, count, BLOCK):
        yield block[: min(BLOCK, count - first)]


def share_layers(checkpoint, layers: int, distinct: int) -> None:
    """Gives the checkpoint `layers` layers, of which the first `distinct` are in the file."""
    checkpoint.config["num_hidden_layers"] = layers
    table = checkpoint.config.get("quantization", {})
    for i in range(distinct, layers):
        own, other = f"model.layers.{i}.", f"model.layers.{i % distinct}."
        for name in [name for name in checkpoint.tensors if name.startswith(other)]:
            checkpoint.tensors[own + name.removeprefix(other)] = checkpoint.tensors[name]
        for name in [name for name in table if name.startswith(other)]:
            table[own + name.removeprefix(other)] = table[name]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--device", default="cuda")
    add("--shape", default="qwen3-30b-a3b", choices=sorted(shapes.SHAPES))
    add("--bits", type=int, default=4, choices=(4, 16))
    add("--layers", type=int, default=48)
    add("--distinct", type=int, default=8)
    add("--context", type=int, default=128)
    add("--tokens", type=int, default=128)
    add("--batch", type=int, nargs="+", default=[1])
    add("--prefill", type=int, nargs="*", default=[], help="measure prompts of so many tokens, too")
    add("--repeats", type=int, default=5)
    add("--kv-cache", default="f16")
    add("--folder", type=Path, default=Path("/dev/shm"))
    add("--steps", action="store_true", help="print the device's time per kernel")
    options = parser.parse_args()
    shape = shapes.cut_shape(options.shape, min(options.distinct, options.layers))
    folder = options.folder / f"onebuf-{shape.folder}-{options.bits}"
    if not (folder / "config.json").exists():
        start = time.perf_counter()
        write(folder, shape, options.bits)
        print(f"weights written in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    device = p.open_device(options.device)
    reader = bandwidth.Reader(device)
    reader.measure()
    with open_checkpoint(folder) as checkpoint:
        share_layers(checkpoint, options.layers, shape.layers)
        start = time.perf_counter()
        model = load_model(checkpoint, device=device)
        model.end_tokens = ()
        print(f"loaded in {time.perf_counter() - start:.2f} s", file=sys.stderr)
        head = sum(info.nbytes for name, info in checkpoint.tensors.items() if name.startswith("lm_head."))
        for batch in options.batch:
            show(options, model, batch, reader, shape.layers, head)
        for tokens in options.prefill:
            show_prefill(options, model, tokens)
    return 0


def show_prefill(options, model, tokens: int) -> None:
    """Measures and prints the processing of a prompt."""
    work = Workload("pp", tokens, 1, 0)
    prompts = work.prompts(0, model.vocab_size)
    with closing(Onebuf(model, 0.7, 0, options.kv_cache)) as side:
        side.prepare(work)
        side.measure(work, prompts)
        seconds = [side.measure(work, prompts) for _ in range(options.repeats)]
        if options.steps:
            from pipeline.benching.steps import time_steps

            print(time_steps(side, work, prompts, statistics.median(seconds)))
    speeds = [work.total / s for s in seconds]
    print(
        f"{options.shape}, {options.bits} bits, {options.layers} layers, prefill of {tokens}: "
        f"{statistics.median(speeds):.0f} tok/s (runs {', '.join(f'{s:.0f}' for s in speeds)})",
        flush=True,
    )


def show(options, model, batch: int, reader, distinct: int, head: int) -> None:
    """Measures and prints one batch size."""
    work = Workload("tg", options.tokens, batch, options.context)
    prompts = work.prompts(0, model.vocab_size)
    with closing(Onebuf(model, 0.7, 0, options.kv_cache)) as side:
        start = time.perf_counter()
        side.prepare(work)
        side.measure(work, prompts)
        first = time.perf_counter() - start
        seconds = [side.measure(work, prompts) for _ in range(options.repeats)]
        if options.steps:
            from pipeline.benching.steps import time_steps

            print(time_steps(side, work, prompts, statistics.median(seconds) / options.tokens))
    reader.measure()
    rate = work.total / statistics.median(seconds)
    active = traffic(model, options.kv_cache)
    cache = active.cache(options.context, options.tokens)
    # Shared weights were counted once, but each layer reads its own; the head is not of a layer.
    of_layers = active.step(batch, 0) - head
    nbytes = of_layers * options.layers / distinct + head + batch * cache
    read, best = nbytes * rate / batch, reader.result.best
    print(
        f"{options.shape}, {options.bits} bits, {options.layers} layers, batch {batch}, context {options.context}: "
        f"{rate:.1f} tok/s (runs {', '.join(f'{work.total / s:.0f}' for s in seconds)}); first run {first:.1f} s; "
        f"{nbytes / 1e9:.2f} GB per step, {read / 1e9:.0f} GB/s, {100 * read / best:.1f}% of {best / 1e9:.0f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
