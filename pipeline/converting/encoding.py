"""The stored form of rows of weights: what tensors it takes, and their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..checkpoints.config import Quantization
from ..checkpoints.safetensors import DTYPE_BITS
from ..graph.formats import BLOCKS, FLOAT_MODES
from ..models.numbers import as_f32, rounded
from .affine import quantize
from .blocks import quantize_blocks
from .floats import quantize_floats

__all__ = ["Block", "Scheme", "encode", "group_of", "parts_of", "row_bytes", "tensor_bytes"]


@dataclass(frozen=True)
class Block:
    """One of GGUF's types, in which a row is whole blocks."""

    kind: str


Scheme: TypeAlias = Quantization | Block


def group_of(scheme: Scheme) -> int:
    """Weights of a row that belong together."""
    return BLOCKS[scheme.kind][0] if isinstance(scheme, Block) else scheme.group_size


def parts_of(name: str, dtype: str, shape: tuple[int, ...], scheme: Scheme) -> list[tuple[str, str, tuple[int, ...]]]:
    """Names, dtypes and shapes of the tensors that a weight of that logical shape becomes. dtype: of scales."""
    if isinstance(scheme, Block):
        return [(name, scheme.kind, shape)]
    module, (*front, inputs) = name.removesuffix(".weight"), shape
    words, groups = inputs * scheme.bits // 32, inputs // scheme.group_size
    if scheme.mode in FLOAT_MODES:
        return [(name, "U32", (*front, words)), (f"{module}.scales", "U8", (*front, groups))]
    return [
        (name, "U32", (*front, words)),
        (f"{module}.scales", dtype, (*front, groups)),
        (f"{module}.biases", dtype, (*front, groups)),
    ]


def row_bytes(dtype: str, inputs: int, scheme: Scheme) -> list[int]:
    """Bytes of a row in each of these tensors."""
    return [tensor_bytes(kind, shape) for _, kind, shape in parts_of("", dtype, (inputs,), scheme)]


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of a plain dtype or of one of GGUF's types."""
    count = 1
    for extent in shape:
        count *= extent
    if dtype in BLOCKS:
        columns, nbytes = BLOCKS[dtype]
        return count // columns * nbytes
    return count * DTYPE_BITS[dtype] // 8


def encode(
    rows: np.ndarray, dtype: str, scheme: Scheme, scales: str, importance: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """The arrays of the tensors, of some rows of `dtype`. scales: their dtype. importance: of columns, for blocks."""
    if isinstance(scheme, Block):
        return (quantize_blocks(as_f32(rows, dtype), scheme.kind, importance),)
    if scheme.mode in FLOAT_MODES:
        return quantize_floats(rows, dtype, scheme.mode)
    words, *others = quantize(rows, dtype, scheme.bits, scheme.group_size)
    if scales != dtype:
        others = [rounded(as_f32(part, dtype), scales.lower()) for part in others]
    return words, *others
