"""Random weights of a shape as a checkpoint: config.json and one safetensors file, written tensor by tensor.

A word holds uniformly random quants. Scales and biases give the weights mean 0 and variance 1 / inputs, so that
activations keep their size from layer to layer and routers choose among all experts. Matrices that are not quantised
take normal numbers of the same variance from one pool, each from a place of its own: drawing them takes far longer than
writing them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..graph.plan import human
from .cache import complete_folder, make_room, models_folder
from .shapes import Shape, TensorSpec

__all__ = ["bf16", "ensure_checkpoint", "write_weights"]

ALIGNMENT = 4096  # of the first tensor in the file
CHUNK = 1 << 22  # elements made at a time
POOL = CHUNK + 8191  # normal numbers; no multiple of a row, so that rows differ


def ensure_checkpoint(shape: Shape, say: Callable[[str], None], folder: Path | None = None) -> Path:
    """The folder of the shape's checkpoint in the cache, written on the first call, of which say(line) tells."""
    folder = models_folder() if folder is None else folder
    target = folder / shape.folder
    if (target / "config.json").exists():
        return target
    nbytes = shape.nbytes
    make_room(folder, nbytes, shape.folder)
    say(f"writing {human(nbytes)} of random weights to {target}, once")
    with complete_folder(target) as temporary:
        write_weights(temporary / "model.safetensors", shape)
        (temporary / "config.json").write_text(json.dumps(shape.config_json(), indent=2) + "\n")
    return target


def write_weights(file: Path, shape: Shape) -> None:
    """Writes all tensors of `shape` to `file`; the disk is done with them when this returns."""
    specs = list(shape.tensors())
    pools: dict[int, np.ndarray] = {}
    with open(file, "wb") as stream:
        stream.write(_header(specs))
        for index, spec in enumerate(specs):
            if spec.role == "normal":
                _write_normal(stream, index, spec, pools)
            else:
                _write_tensor(stream, index, spec)
        stream.flush()
        os.fsync(stream.fileno())  # or the disk would still be busy when speed is measured


def _header(specs: list[TensorSpec]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    position = 0
    for spec in specs:
        entries[spec.name] = {
            "dtype": spec.dtype,
            "shape": spec.shape,
            "data_offsets": [position, position + spec.nbytes],
        }
        position += spec.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write_tensor(stream: BinaryIO, index: int, spec: TensorSpec) -> None:
    words = np.random.default_rng((0, index))
    # Scales and biases of one matrix come of the same numbers.
    groups = np.random.default_rng((1, index - (spec.role == "biases")))
    count = math.prod(spec.shape)
    for first in range(0, count, CHUNK):
        size = min(CHUNK, count - first)
        if spec.role == "words":
            values: np.ndarray = words.integers(0, 1 << 32, size, np.uint32)
        elif spec.role == "ones":
            values = bf16(np.ones(size, np.float32))
        else:
            levels = 1 << spec.bits
            step = math.sqrt(12 / (levels**2 - 1) / spec.inputs)  # uniform quants: variance (levels² - 1) / 12
            scales = (step * groups.uniform(0.9, 1.1, size)).astype(np.float32)
            values = bf16(scales if spec.role == "scales" else scales * np.float32(-(levels - 1) / 2))
        values.tofile(stream)


def _write_normal(stream: BinaryIO, index: int, spec: TensorSpec, pools: dict[int, np.ndarray]) -> None:
    if spec.inputs not in pools:
        numbers = np.random.default_rng(2).standard_normal(POOL, np.float32)
        pools[spec.inputs] = bf16(numbers * np.float32(1 / math.sqrt(spec.inputs)))
    pool, left = pools[spec.inputs], math.prod(spec.shape)
    start = index * 7919 % POOL
    while left:
        piece = pool[start : start + left]
        piece.tofile(stream)
        left -= len(piece)
        start = 0


def bf16(values: np.ndarray) -> np.ndarray:
    """The bits of float32 values rounded to bfloat16, to nearest even. No infinities or NaN."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & np.uint32(1))) >> 16).astype("<u2")
