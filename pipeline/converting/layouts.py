"""How llama.cpp changes weights, done and undone: the order of rows that rope turns, norms that hold their 1, and the
parts of recurrent layers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..checkpoints.checkpoint import Layout
from ..checkpoints.config import integer
from .delta_rows import DeltaRows
from .families import FAMILIES
from .pieces import Piece
from .source import Source
from .tensors import Output

__all__ = ["changed", "undone"]

TURNED = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
MAMBA = re.compile(r"\.(mixer|mamba)\.(A_log|D|norm\.weight)$")
CONVOLUTION = re.compile(r"\.conv(1d)?\.weight$")


def undone(outputs: list[Output], source: Source) -> list[Output]:
    """The outputs of a GGUF file as mlx-lm has them."""
    layout, config = source.checkpoint.layout, source.checkpoint.config
    if source.checkpoint.path.is_dir():
        return outputs
    outputs = [_turned(output, source, layout, back=True) for output in outputs]
    if layout.norms_plus_one and not _centred(config):
        outputs = [_shifted(output, -1.0) for output in outputs]
    if layout.slopes:
        outputs = [_sloped(output, lambda numbers: np.log(-numbers)) for output in outputs]
    if "linear_num_key_heads" in config:
        outputs = DeltaRows(config).undone(outputs, tiled=layout.tiled)
    return [_flat(output) for output in outputs]


def changed(outputs: list[Output], source: Source, layout: Layout) -> list[Output]:
    """The outputs of a folder, in mlx-lm's layout, as llama.cpp has them."""
    config = source.checkpoint.config
    outputs = [_turned(output, source, layout, back=False) for output in outputs]
    if layout.norms_plus_one and not _centred(config):
        outputs = [_shifted(output, 1.0) for output in outputs]
    if layout.slopes:
        outputs = [_sloped(output, lambda numbers: -np.exp(numbers)) for output in outputs]
    if "linear_num_key_heads" in config:
        outputs = DeltaRows(config).changed(outputs, tiled=layout.tiled)
    groups = config.get("n_groups", config.get("mamba_n_groups", 1))
    return [_columns(output, groups) for output in outputs]


def _centred(config: dict[str, Any]) -> bool:
    """Whether mlx-lm's norms hold their 1, too."""
    family = FAMILIES.get(str(config.get("model_type")))
    return family is not None and family.centred is not None


def _turned(output: Output, source: Source, layout: Layout, *, back: bool) -> Output:
    """Rows i and i + half of each head side by side, or the other way round."""
    part = re.search(r"\.self_attn\.(q_proj|k_proj)\.(weight|bias)$", output.name)
    if not layout.rope_pairs or part is None:
        return output
    heads = integer(source.checkpoint.config, TURNED[part[1]], source=source.checkpoint.source)
    numbers = np.arange(output.shape[0])
    split = numbers.reshape(heads, -1, 2) if back else numbers.reshape(heads, 2, -1)
    order = split.swapaxes(1, 2).reshape(-1)
    return _with(output, lambda piece: replace(piece, order=order))


def _shifted(output: Output, one: float) -> Output:
    return (
        _with(output, lambda piece: replace(piece, added=piece.added + one))
        if output.name.endswith("norm.weight")
        else output
    )


def _sloped(output: Output, change: Callable[[np.ndarray], np.ndarray]) -> Output:
    return _with(output, lambda piece: replace(piece, change=change)) if output.name.endswith(".A_log") else output


def _columns(output: Output, groups: int) -> Output:
    """Vectors of Mamba with two dimensions, and the taps of convolutions without a third one."""
    found = MAMBA.search(output.name)
    if found:
        shape = (groups, -1) if found[2] == "norm.weight" else (-1, 1)
        return replace(output, shape=np.empty(output.shape, np.bool_).reshape(shape).shape)
    if CONVOLUTION.search(output.name) and len(output.shape) == 3:
        return replace(output, shape=tuple(n for n in output.shape if n > 1))
    return output


def _flat(output: Output) -> Output:
    """The other way round."""
    if MAMBA.search(output.name):
        return replace(output, shape=(int(np.prod(output.shape)),))
    if CONVOLUTION.search(output.name) and len(output.shape) == 2:
        return replace(output, shape=(*output.shape, 1))
    return output


def _with(output: Output, change: Callable[[Piece], Piece]) -> Output:
    return replace(output, pieces=tuple(change(piece) for piece in output.pieces))
