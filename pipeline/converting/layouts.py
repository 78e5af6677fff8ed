"""How llama.cpp changes weights, done and undone: the order of rows that rope turns, and norms that hold their 1."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from ..checkpoints.checkpoint import Layout
from ..checkpoints.config import integer
from ..errors import UnsupportedError
from .families import FAMILIES
from .pieces import HALVES, PAIRS, Piece
from .source import Source
from .tensors import Output

__all__ = ["changed", "check_layout", "undone"]

TURNED = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}


def check_layout(source: Source) -> None:
    """UnsupportedError for a GGUF file whose layers have another layout than those of folders."""
    family = FAMILIES.get(str(source.checkpoint.config.get("model_type")))
    if source.checkpoint.path.is_file() and family is not None and family.taps:
        raise _refusal(source)
    _refuse(source.checkpoint.layout, source)


def undone(outputs: list[Output], source: Source) -> list[Output]:
    """The outputs of a GGUF file as transformers has them."""
    layout = source.checkpoint.layout
    if layout == Layout():
        return outputs
    _refuse(layout, source)
    return [_changed(output, source, layout, HALVES, -1.0) for output in outputs]


def changed(outputs: list[Output], source: Source, layout: Layout) -> list[Output]:
    """The outputs of a folder as llama.cpp has them."""
    if layout == Layout():
        return outputs
    _refuse(layout, source)
    return [_changed(output, source, layout, PAIRS, 1.0) for output in outputs]


def _refuse(layout: Layout, source: Source) -> None:
    if layout.slopes or layout.tiled:
        raise _refusal(source)


def _refusal(source: Source) -> UnsupportedError:
    family = source.checkpoint.config.get("model_type")
    return UnsupportedError(
        f"{source.checkpoint.source}: recurrent layers of {family} have another layout in GGUF files, and are not "
        "converted from it or to it"
    )


def _changed(output: Output, source: Source, layout: Layout, order: str, one: float) -> Output:
    part = re.search(r"\.self_attn\.(q_proj|k_proj)\.(weight|bias)$", output.name)
    if layout.rope_pairs and part:
        heads = integer(source.checkpoint.config, TURNED[part[1]], source=source.checkpoint.source)
        return _with(output, lambda piece: replace(piece, order=(order, heads)))
    if layout.norms_plus_one and output.name.endswith("norm.weight"):
        return _with(output, lambda piece: replace(piece, added=piece.added + one))
    return output


def _with(output: Output, change: Callable[[Piece], Piece]) -> Output:
    pieces = tuple(change(piece) for piece in output.pieces)
    return replace(output, pieces=pieces)
