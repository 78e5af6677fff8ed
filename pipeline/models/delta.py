"""The layer with the gated delta rule (Yang et al. 2025), as Qwen3-Next and Qwen3.5 have it: its sizes, its weights and
its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..graph.builder import Pipeline
from ..graph.steps.recurrent import Part, Spread
from ..graph.tensors import Storage, Tensor
from . import weights
from .fields import MOST_HEADS, Fields
from .loading import Loader
from .row_state import RowTensors

NORM_EPS = 1e-6  # of the norm of queries and keys
MOST_TAPS = 64


@dataclass(frozen=True)
class Sizes:
    """Value head h belongs to key head h // sharing."""

    hidden: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    taps: int  # of the convolution
    eps: float

    @classmethod
    def read(cls, f: Fields, hidden: int, eps: float) -> Sizes:
        key_heads = f.whole("linear_num_key_heads", 16, most=MOST_HEADS)
        value_heads = f.whole("linear_num_value_heads", 32, most=MOST_HEADS)
        f.check(
            value_heads % key_heads == 0,
            f"linear_num_value_heads = {value_heads} is no multiple of linear_num_key_heads = {key_heads}; it must be",
        )
        dims = (f.dim("linear_key_head_dim", 128), f.dim("linear_value_head_dim", 128))
        return cls(hidden, key_heads, value_heads, *dims, taps_of(f, "linear_conv_kernel_dim", 4), eps)

    @property
    def sharing(self) -> int:
        """Value heads of a key head."""
        return self.value_heads // self.key_heads

    @property
    def keys(self) -> int:
        """Numbers in the keys of a row, and in its queries."""
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        return self.value_heads * self.value_dim

    @property
    def channels(self) -> int:
        """Of the convolution: queries, keys and values."""
        return 2 * self.keys + self.values

    @property
    def states(self) -> tuple[tuple[int, ...], ...]:
        """Per slot: the last inputs of the convolution, and the state of the delta rule."""
        return (self.taps - 1, self.channels), (self.value_heads, self.value_dim, self.key_dim)


class Weights:
    """Qwen3-Next has queries, keys, values and gates of a key head in one piece of one matrix, and so have β and α;
    Qwen3.5 has matrices of their own."""

    def __init__(self, load: Loader, prefix: str, c: Sizes) -> None:
        self.joint, self.paired = (weights.has(load, f"{prefix}.in_proj_{name}") for name in ("qkvz", "ba"))
        names = {"qkvz": c.channels + c.values} if self.joint else {"qkv": c.channels, "z": c.values}
        names |= {"ba": 2 * c.value_heads} if self.paired else {"b": c.value_heads, "a": c.value_heads}
        self.projections = {name: load.matrix(f"{prefix}.in_proj_{name}", (n, c.hidden)) for name, n in names.items()}
        self.taps = taps(load, f"{prefix}.conv1d.weight", c.channels, c.taps)
        self.slope = slopes(load, f"{prefix}.A_log", c.value_heads)
        self.tiled = load.checkpoint.layout.tiled
        self.shift = load.copied(f"{prefix}.dt_bias", (c.value_heads,))
        self.norm = load.copied(f"{prefix}.norm.weight", (c.value_dim,))
        self.output = load.matrix(f"{prefix}.out_proj", (c.hidden, c.values))


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
    taps_state, state = (pipe.state(name, each) for name, each in zip(("conv_state", "delta_state"), states))
    of_rows = (at.slots, at.positions, links)
    parts, step = [], 0
    gate_at = beta_at = alpha_at = Spread()
    if w.joint:
        qkv = z = pipe.linear(h, w.projections["qkvz"], name="in_proj_qkvz")
        own = c.sharing * c.value_dim  # values of a key head
        step = 2 * c.key_dim + 2 * own
        parts = [Part(c.keys, c.key_dim, 0), Part(c.keys, c.key_dim, c.key_dim), Part(c.values, own, 2 * c.key_dim)]
        gate_at = Spread(2 * c.key_dim + own, c.sharing, step)
    else:
        z = pipe.linear(h, w.projections["z"], name="in_proj_z")
        if w.paired:
            qkv = pipe.linear(h, w.projections["qkv"], name="in_proj_qkv")
    if w.paired:
        beta = alpha = pipe.linear(h, w.projections["ba"], name="in_proj_ba")
        beta_at, alpha_at = Spread(0, c.sharing, 2 * c.sharing), Spread(c.sharing, c.sharing, 2 * c.sharing)
    elif w.joint:
        beta, alpha = (pipe.linear(h, w.projections[part], name=f"in_proj_{part}") for part in ("b", "a"))
    else:
        names = [f"in_proj_{part}" for part in ("qkv", "b", "a")]
        qkv, beta, alpha = pipe.linear3(h, [w.projections[part] for part in ("qkv", "b", "a")], names)
    mixed = pipe.causal_conv(qkv, w.taps, taps_state, *of_rows, parts=parts, group=step)
    y = pipe.gated_delta(
        mixed,
        beta,
        alpha,
        w.slope,
        w.shift,
        state,
        *of_rows,
        c.key_heads,
        beta_at=beta_at,
        alpha_at=alpha_at,
        tiled=w.tiled,
        eps=NORM_EPS,
    )
    if not pipe.lead(leading):
        return None
    y = pipe.gated_norm(y, w.norm, z, c.eps, gate_at=gate_at)
    return pipe.linear(y, w.output, name="out_proj")


def norms_plus_one(checkpoint: Checkpoint) -> bool:
    """Whether the 1 that norms add is part of their stored weights. MLX's files have it there, and the taps of the
    convolution as [channels, taps, 1], where transformers has [channels, 1, taps]."""
    if checkpoint.layout.norms_plus_one:
        return True
    shapes = (info.shape for name, info in checkpoint.tensors.items() if name.endswith(".conv1d.weight"))
    return next((tuple(shape[-1:]) == (1,) for shape in shapes), False)


def slopes(load: Loader, name: str, heads: int) -> Storage:
    """-exp(A_log) of each head, or what a file has in its place."""
    there = load.checkpoint.layout.slopes
    return load.copied(name, per_head(load, name, heads), np.asarray if there else lambda a: -np.exp(a), (heads,))


def per_head(load: Loader, name: str, heads: int) -> tuple[int, ...]:
    """The shape of a number per head: GGUF files have some as [heads, 1]."""
    stored = load.checkpoint.tensors.get(name)
    return (heads, 1) if stored is not None and tuple(stored.shape) == (heads, 1) else (heads,)


def taps_of(f: Fields, key: str, default: int) -> int:
    """The taps of a convolution; with one it would have no state."""
    count = f.whole(key, default, most=MOST_TAPS)
    if count == 1:
        raise f.unsupported(f"{key} = 1")
    return count


def taps(load: Loader, name: str, channels: int, count: int) -> Storage:
    """The taps of a convolution as its kernel takes them, [count, channels]."""
    stored = load.checkpoint.tensors.get(name)
    turned = stored is not None and tuple(stored.shape[-1:]) == (1,)  # as MLX has them
    shape: tuple[int, ...] = (channels, count, 1) if turned else (channels, 1, count)
    if stored is not None and len(stored.shape) == 2:  # GGUF
        shape = channels, count
    return load.copied(name, shape, lambda values: values.reshape(channels, count).T, (count, channels))
