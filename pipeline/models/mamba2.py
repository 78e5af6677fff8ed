"""The layer of Mamba-2 (Dao & Gu 2024), as Granite 4 and Nemotron-H have it: its sizes, its weights and its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.steps.recurrent import Part, Spread
from ..graph.tensors import Storage, Tensor
from ..printing import brief
from . import delta
from .fields import MOST_HEADS, Fields
from .loading import Loader
from .row_state import RowTensors

INFINITY = {"__float__": "Infinity"}  # as transformers writes it
NO_LIMITS = (0.0, math.inf)  # of dt


@dataclass(frozen=True)
class Sizes:
    """Head h belongs to group h // (heads / groups). The outputs of each group are normed apart."""

    hidden: int
    heads: int
    head_dim: int
    groups: int
    state_dim: int
    taps: int  # of the convolution
    eps: float
    conv_biased: bool
    biased: bool  # the projections
    limits: tuple[float, float]  # of dt

    @classmethod
    def read(cls, f: Fields, hidden: int, eps: float) -> Sizes:
        heads, groups = f.whole("mamba_n_heads", 128, most=MOST_HEADS), f.whole("mamba_n_groups", 1, most=MOST_HEADS)
        inner = f.whole("mamba_expand", 2) * hidden
        given = f.config.get("mamba_d_head")
        dim = max(inner // heads, 1) if given in (None, "auto") else f.dim("mamba_d_head")
        f.check(
            heads * dim == inner and heads % groups == 0,
            f"mamba_n_heads = {heads} of {dim}, in {groups} groups, do not go with {inner} numbers (mamba_expand)",
        )
        taps = delta.taps_of(f, "mamba_d_conv", 4)
        flags = (f.flag("mamba_conv_bias", True), f.flag("mamba_proj_bias"))
        return cls(hidden, heads, dim, groups, f.dim("mamba_d_state", 256), taps, eps, *flags, limits_of(f))

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def channels(self) -> int:
        """Of the convolution: the inputs of all heads, B and C."""
        return self.inner + 2 * self.groups * self.state_dim

    @property
    def states(self) -> tuple[tuple[int, ...], ...]:
        """Per slot: the last inputs of the convolution, and the state of the scan."""
        return (self.taps - 1, self.channels), (self.heads, self.head_dim, self.state_dim)


def limits_of(f: Fields) -> tuple[float, float]:
    """The bounds of dt."""
    given = f.config.get("time_step_limit")
    if given is None:
        return NO_LIMITS
    found = [math.inf if n == INFINITY else n for n in given] if isinstance(given, list) else []
    pair = [float(n) for n in found if isinstance(n, (int, float)) and abs(n) >= 0]
    right = len(pair) == len(found) == 2 and 0 <= pair[0] <= pair[1]
    f.check(right, f"time_step_limit = {brief(given)} must be two numbers from 0 on, the smaller first")
    return pair[0], pair[1]


class Weights:
    def __init__(self, load: Loader, prefix: str, c: Sizes) -> None:
        inputs = c.inner + c.channels + c.heads  # gates, channels of the convolution, and dt
        self.inputs = load.matrix(f"{prefix}.in_proj", (inputs, c.hidden))
        self.output = load.matrix(f"{prefix}.out_proj", (c.hidden, c.inner))
        self.inputs_bias = load.array(f"{prefix}.in_proj.bias", (inputs,)) if c.biased else None
        self.output_bias = load.array(f"{prefix}.out_proj.bias", (c.hidden,)) if c.biased else None
        self.taps = delta.taps(load, f"{prefix}.conv1d.weight", c.channels, c.taps)
        self.bias = load.copied(f"{prefix}.conv1d.bias", (c.channels,)) if c.conv_biased else None
        self.slope = delta.slopes(load, f"{prefix}.A_log", c.heads)
        self.shift = load.copied(f"{prefix}.dt_bias", (c.heads,))
        self.skip = load.copied(f"{prefix}.D", delta.per_head(load, f"{prefix}.D", c.heads), to=(c.heads,))
        norm = f"{prefix}.norm.weight"  # GGUF files have the groups apart
        stored = load.checkpoint.tensors.get(norm)
        apart = stored is not None and len(stored.shape) == 2
        self.norm = load.copied(norm, (c.groups, c.inner // c.groups) if apart else (c.inner,), to=(c.inner,))


def layer(
    pipe: Pipeline,
    h: Tensor,
    w: Weights,
    c: Sizes,
    at: RowTensors,
    links: Tensor,
    states: Sequence[Storage],
    leading: int | None = None,
) -> Tensor | None:
    """The output of the layer for its normed input, for rows that lead; None where none do. All rows go through the
    states."""
    taps_state, state = (pipe.state(name, each) for name, each in zip(("conv_state", "ssm_state"), states))
    of_rows = (at.slots, at.positions, links)
    parts = pipe.linear(h, w.inputs, w.inputs_bias, name="in_proj")
    own = Part(c.channels, c.channels, c.inner)
    mixed = pipe.causal_conv(parts, w.taps, taps_state, *of_rows, w.bias, parts=(own,))
    dt = c.inner + c.channels
    y = pipe.ssm_scan(mixed, parts, w.slope, w.shift, w.skip, state, *of_rows, c.groups, dt_first=dt, limits=c.limits)
    if not pipe.lead(leading):
        return None
    y = pipe.gated_norm(y, w.norm, parts, c.eps, heads=c.groups, gate_at=Spread(), gates_inputs=True)
    return pipe.linear(y, w.output, w.output_bias, name="out_proj")
