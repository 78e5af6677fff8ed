"""Matrices as MLX quantises them, read where they lie."""

from __future__ import annotations

from collections.abc import Sequence

from ..checkpoints.config import Quantization
from ..errors import CheckpointError, UnsupportedError
from ..graph.formats import AFFINE_BITS, FLOAT_MODES, GROUP_SIZES, either
from ..graph.tensors import Shape
from ..graph.weights import Quantized
from . import repacking
from .numbers import FLOATS
from .taking import Taker

__all__ = ["quantised"]


def quantised(load: Taker, modules: Sequence[str], shape: Shape, full: Shape, scheme: Quantization) -> Quantized:
    """One matrix, or several of `shape` that become `full`, of packed words, scales and, where affine, biases."""
    inputs, floats = shape[-1], scheme.mode in FLOAT_MODES
    if not floats and (scheme.bits not in AFFINE_BITS or scheme.group_size not in GROUP_SIZES):
        raise UnsupportedError(
            f"{modules[0]}: {scheme.bits} bits in groups of {scheme.group_size} are not supported; "
            f"use {either(AFFINE_BITS)} bits in groups of {either(GROUP_SIZES)}"
        )
    if inputs % scheme.group_size:
        raise CheckpointError(f"{modules[0]}: {inputs} inputs are not whole groups of {scheme.group_size}")
    groups = inputs // scheme.group_size
    widths: dict[str, tuple[int, Sequence[str]]] = {
        "weight": (inputs * scheme.bits // 32, ("U32",)),
        "scales": (groups, ("U8",) if floats else FLOATS),
    }
    if not floats:
        widths["biases"] = groups, FLOATS
    parts = {}
    for part, (width, dtypes) in widths.items():
        infos = [load.info(f"{module}.{part}", (*shape[:-1], width), dtypes) for module in modules]
        parts[part] = load.storage(infos, (*full[:-1], width))
    found = Quantized(
        parts["weight"], parts["scales"], parts.get("biases"), bits=scheme.bits, group_size=scheme.group_size
    )
    return repacking.with_global_scale(load, modules, full, found) if scheme.mode == "nvfp4" else found
