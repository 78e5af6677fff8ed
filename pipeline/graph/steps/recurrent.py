"""Layers with a recurrent state: the links between rows, the causal convolution, the gated delta rule; and gates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...device.core import _core
from ...errors import BuildError, ShapeError
from ..step import Step
from ..tensors import Tensor, VectorLike

UNLINKED = "was given a slot without a state, or positions of one sequence that do not follow one another"

UNIT = 16  # channels that a processor reads at once


@dataclass(frozen=True)
class Part:
    """Channels of a convolution that lie in the heads of its input: `channels` in all, `head` per head. Channel c is
    number first + c // head · group + c % head of a row."""

    channels: int
    head: int
    first: int


@dataclass(frozen=True)
class Spread:
    """Where the heads of a row lie: those of a group one behind another, groups `step` numbers apart. The first one
    begins at `first`. group: heads per group; 0 for all of them."""

    first: int = 0
    group: int = 0
    step: int = 0

    def grouped(self, heads: int) -> int:
        return self.group or heads

    def end(self, heads: int, dim: int) -> int:
        """Numbers of a row up to the end of the last of `heads` heads of `dim`."""
        group = self.grouped(heads)
        return self.first + (heads - 1) // group * self.step + ((heads - 1) % group + 1) * dim


TOGETHER = Spread()


class Recurrent(Step):
    """A sequence has a state in each recurrent layer, at its slot: [slots, …] f32, which a step reads and writes. The
    rows of a run may belong to several sequences, in any order. A row of position 0 begins with an empty state; any
    other row goes on from the position before it, in the same run or in an earlier one. So each position goes through
    once, in order. A row gives the same bits alone, in a batch, and however its sequence is cut into runs."""

    def row_links(self, slots: Tensor, positions: Tensor, states: int, name: str = "row_links") -> Tensor:
        """For each row the rows of the positions before and behind it in its sequence: [R, 2] u32, once per run for all
        layers. states: slots that the states have. A row fails whose slot has none, whose position an earlier row has,
        or where the run lacks a position between the first one of its slot and its own; its results are 0."""
        self.check_rows(slots, name, dtype="u32")
        self.check_rows(positions, name, dtype="u32")
        repeats = self.scratch(f"{name}.repeats", (self.rows,), "u32")
        links = self.scratch(name, (self.rows, 2), "u32")
        constants = {"rows": self.rows, "slots": states, "step": self.failing_step(name, UNLINKED)}
        self.add(f"{name}.repeats", "row_repeats", (slots, positions), (repeats,), constants)
        self.add(name, "row_links", (slots, positions, repeats), (links, self.status()), constants)
        return links

    def causal_conv(
        self,
        x: Tensor,
        weight: VectorLike,
        state: Tensor,
        slots: Tensor,
        positions: Tensor,
        links: Tensor,
        bias: VectorLike | None = None,
        *,
        parts: Sequence[Part] = (),
        group: int = 0,
        silu: bool = True,
        name: str = "causal_conv",
    ) -> Tensor:
        """act(bias + Σ_d weight[width - 1 - d] · x of d positions before), channel by channel: [R, channels]. weight
        [width, channels] and bias [channels] are f32; state [slots, width - 1, channels] has the last inputs. act is
        silu, or nothing. parts: where the channels lie in a row of x, in up to three parts whose heads are `group`
        numbers apart; without them x is [R, channels]."""
        taps = self.vector(weight, self.named(f"{name}.weight"))
        width, channels = taps.shape
        self._check_state(state, name, width - 1, channels)
        self._check_rows_of_state(slots, positions, links, name)
        given = tuple(parts) or (Part(channels, channels, 0),)
        if len(given) > 3 or sum(part.channels for part in given) != channels:
            raise ShapeError(f"{self.named(name)}: {given} are no parts of {channels} channels")
        self.check_rows(x, name, x.shape[1])
        for part in given:
            heads = math.ceil(part.channels / part.head)
            if part.channels % part.head or part.first + (heads - 1) * group + part.head > x.shape[1]:
                raise ShapeError(f"{self.named(name)}: {part} does not lie in {x.name}, whose rows have {x.shape[1]}")
        added = x if bias is None else self.float_vector(bias, "the bias", f"{name}.bias", ((channels,),), name)
        ends = [sum(part.channels for part in given[:count]) for count in range(1, 4)]
        filled = (*given, *(given[-1],) * (3 - len(given)))
        unit = (x.shape[1], channels, group, *ends, *(n for part in filled for n in (part.head, part.first)))
        y = self.scratch(name, (self.rows, channels))
        self.add(
            name,
            "causal_conv",
            (x, taps, added, slots, positions, links),
            (state, y),
            {
                "rows": self.rows,
                "channels": channels,
                "width": width,
                "x_row": x.shape[1],
                "begin1": ends[0],
                "begin2": ends[1],
                **{f"head{i}": part.head for i, part in enumerate(filled)},
                **{f"first{i}": part.first for i, part in enumerate(filled)},
                "group": group,
                "whole": int(all(n % UNIT == 0 for n in unit)),
                "has_bias": int(bias is not None),
                "silu": int(silu),
            },
            depth=math.ceil(channels / _core.CONV_CHANNELS),
        )
        return y

    def gated_delta(
        self,
        x: Tensor,
        beta: Tensor,
        alpha: Tensor,
        slope: VectorLike,
        shift: VectorLike,
        state: Tensor,
        slots: Tensor,
        positions: Tensor,
        links: Tensor,
        key_heads: int,
        *,
        beta_at: Spread = TOGETHER,
        alpha_at: Spread = TOGETHER,
        eps: float = 1e-6,
        name: str = "gated_delta",
    ) -> Tensor:
        """The gated delta rule (Yang et al. 2025) over the positions of each sequence: [R, value_heads · value_dim].

        x: queries and keys of `key_heads` heads, then values of value_heads, a multiple. state S [slots, value_heads,
        value_dim, key_dim]. Per position and value head: S becomes d·S + σ(β) (v - d·S·k) kᵀ with the decay
        d = exp(slope · softplus(α + shift)), then y = S·q. k and q are normed to length 1, as x / √(Σx² + eps), and q
        is divided by √key_dim. slope, shift [value_heads] f32. beta_at, alpha_at: where a row of `beta` and of `alpha`
        has them."""
        _, heads, value_dim, key_dim = state.shape
        self._check_state(state, name, heads, value_dim, key_dim)
        self._check_rows_of_state(slots, positions, links, name)
        if heads % key_heads:
            raise ShapeError(f"{self.named(name)}: {heads} value heads do not divide over {key_heads} key heads")
        self.check_rows(x, name, 2 * key_heads * key_dim + heads * value_dim)
        self._check_spread(beta, beta_at, heads, 1, name)
        self._check_spread(alpha, alpha_at, heads, 1, name)
        if beta_at.grouped(heads) != alpha_at.grouped(heads):
            raise BuildError(f"{self.named(name)}: the groups of β and α differ; they must have as many heads")
        vectors = [
            self.float_vector(value, what, f"{name}.{what}", ((heads,),), name)
            for value, what in ((slope, "slope"), (shift, "shift"))
        ]
        y = self.scratch(name, (self.rows, heads * value_dim))
        self.add(
            name,
            "gated_delta",
            (x, beta, alpha, *vectors, slots, positions, links),
            (state, y),
            {
                "rows": self.rows,
                "key_heads": key_heads,
                "value_heads": heads,
                "key_dim": key_dim,
                "value_dim": value_dim,
                "group": beta_at.grouped(heads),
                "beta_row": beta.shape[1],
                "beta_first": beta_at.first,
                "beta_step": beta_at.step,
                "alpha_row": alpha.shape[1],
                "alpha_first": alpha_at.first,
                "alpha_step": alpha_at.step,
                "eps": eps,
                "scale": key_dim**-0.5,
            },
            depth=heads * math.ceil(value_dim / _core.DELTA_VALUES),
        )
        return y

    def gated_norm(
        self,
        x: Tensor,
        weight: VectorLike,
        gate: Tensor,
        eps: float = 1e-6,
        *,
        gate_at: Spread = TOGETHER,
        name: str = "gated_norm",
    ) -> Tensor:
        """norm(x) · weight · silu(gate), head by head of x [R, heads · dim], for weight [dim] f32. gate_at: where a row
        of `gate` has its heads."""
        scale = self.vector(weight, self.named(f"{name}.weight"))
        (dim,) = scale.shape
        heads = x.shape[1] // dim
        self.check_rows(x, name, heads * dim)
        self._check_spread(gate, gate_at, heads, dim, name)
        y = self.scratch(name, (self.rows, heads * dim))
        constants = {
            "rows": self.rows,
            "heads": heads,
            "dim": dim,
            "gate_row": gate.shape[1],
            "gate_first": gate_at.first,
            "gate_group": gate_at.grouped(heads),
            "gate_step": gate_at.step,
            "eps": eps,
        }
        columns = math.ceil(heads / _core.GATED_HEADS)
        self.add(name, "gated_norm", (x, scale, gate), (y,), constants, columns=columns)
        return y

    def sigmoid_gate(
        self, x: Tensor, gate: Tensor, heads: int, *, first: int = 0, step: int = 0, name: str = "sigmoid_gate"
    ) -> Tensor:
        """x · σ(gate), element by element of x [R, heads · dim]. The gates of a head begin at number first + head ·
        step of a row of `gate`; step: 0 for dim."""
        dim = x.shape[1] // heads
        at = Spread(first, 1, step or dim)
        self.check_rows(x, name, heads * dim)
        self._check_spread(gate, at, heads, dim, name)
        y = self.scratch(name, (self.rows, heads * dim))
        constants = {
            "rows": self.rows,
            "heads": heads,
            "dim": dim,
            "gate_row": gate.shape[1],
            "gate_first": at.first,
            "gate_step": at.step,
        }
        self.add(name, "sigmoid_gate", (x, gate), (y,), constants, columns=math.ceil(heads / _core.GATED_HEADS))
        return y

    def _check_spread(self, tensor: Tensor, at: Spread, heads: int, dim: int, name: str) -> None:
        self.check_rows(tensor, name, tensor.shape[1])
        if at.end(heads, dim) > tensor.shape[1]:
            raise ShapeError(
                f"{self.named(name)}: {heads} heads of {dim} at {at} do not lie in {tensor.name}, whose rows have "
                f"{tensor.shape[1]}"
            )

    def _check_state(self, state: Tensor, name: str, *shape: int) -> None:
        self.check_shape(state, name, state.shape[0], *shape)
        if state.dtype != "f32" or 0 in shape:
            raise BuildError(f"{self.named(name)}: {state} cannot be a state; it must be f32, and not empty")

    def _check_rows_of_state(self, slots: Tensor, positions: Tensor, links: Tensor, name: str) -> None:
        self.check_rows(slots, name, dtype="u32")
        self.check_rows(positions, name, dtype="u32")
        self.check_rows(links, name, 2, dtype="u32")
