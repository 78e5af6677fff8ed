"""The gated short convolution of LFM2 (Liquid AI 2025): of three projections B, C and x, C · conv(B · x)."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph.builder import Pipeline
from ..graph.tensors import Storage, Tensor
from . import delta
from .loading import Loader
from .row_state import RowTensors


class Weights:
    def __init__(self, load: Loader, prefix: str, hidden: int, taps: int, biased: bool) -> None:
        self.hidden = hidden
        self.inputs = load.matrix(f"{prefix}.in_proj", (3 * hidden, hidden))
        self.output = load.matrix(f"{prefix}.out_proj", (hidden, hidden))
        self.taps = delta.taps(load, f"{prefix}.conv.weight", hidden, taps)
        self.inputs_bias = load.array(f"{prefix}.in_proj.bias", (3 * hidden,)) if biased else None
        self.bias = load.copied(f"{prefix}.conv.bias", (hidden,)) if biased else None
        self.output_bias = load.array(f"{prefix}.out_proj.bias", (hidden,)) if biased else None


def layer(
    pipe: Pipeline,
    h: Tensor,
    w: Weights,
    at: RowTensors,
    links: Tensor,
    states: Sequence[Storage],
    leading: int | None = None,
) -> Tensor | None:
    """The output of the layer for its normed input, for rows that lead; None where none do."""
    state, dim = pipe.state("conv_state", states[0]), w.hidden
    parts = pipe.linear(h, w.inputs, w.inputs_bias, name="in_proj")
    gated = pipe.product(parts, parts, dim, y_first=2 * dim, name="conv_input")
    y = pipe.causal_conv(gated, w.taps, state, at.slots, at.positions, links, w.bias, silu=False)
    if not pipe.lead(leading):
        return None
    y = pipe.product(y, parts, dim, y_first=dim, name="conv_output")
    return pipe.linear(y, w.output, w.output_bias, name="out_proj")
