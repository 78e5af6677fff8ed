"""Layers with a recurrent state: the links between rows, the causal convolution, the gated delta rule, the scan of
Mamba-2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...device.core import _core
from ...errors import BuildError, ShapeError
from ..formats import LARGEST_F32
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


def check_spread(pipe: Step, tensor: Tensor, at: Spread, heads: int, dim: int, name: str) -> None:
    """Demands that the rows of a tensor have `heads` heads of `dim` at these places."""
    pipe.check_rows(tensor, name, tensor.shape[1])
    if at.end(heads, dim) > tensor.shape[1]:
        raise ShapeError(
            f"{pipe.named(name)}: {heads} heads of {dim} at {at} do not lie in {tensor.name}, whose rows have "
            f"{tensor.shape[1]}"
        )


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
        tiled: bool = False,
        eps: float = 1e-6,
        name: str = "gated_delta",
    ) -> Tensor:
        """The gated delta rule (Yang et al. 2025) over the positions of each sequence: [R, value_heads · value_dim].

        x: queries and keys of `key_heads` heads, then values of value_heads, a multiple. state S [slots, value_heads,
        value_dim, key_dim]. Per position and value head: S becomes d·S + σ(β) (v - d·S·k) kᵀ with the decay
        d = exp(slope · softplus(α + shift)), then y = S·q. k and q are normed to length 1, as x / √(Σx² + eps), and q
        is divided by √key_dim. Value heads of one key head lie together; tiled: value head h has key head
        h % key_heads. slope, shift [value_heads] f32. beta_at, alpha_at: where a row of `beta` and of `alpha`
        has them."""
        _, heads, value_dim, key_dim = state.shape
        self._check_state(state, name, heads, value_dim, key_dim)
        self._check_rows_of_state(slots, positions, links, name)
        if heads % key_heads:
            raise ShapeError(f"{self.named(name)}: {heads} value heads do not divide over {key_heads} key heads")
        self.check_rows(x, name, 2 * key_heads * key_dim + heads * value_dim)
        check_spread(self, beta, beta_at, heads, 1, name)
        check_spread(self, alpha, alpha_at, heads, 1, name)
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
                "key_heads": key_heads + tiled * _core.TILED,
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

    def ssm_scan(
        self,
        x: Tensor,
        dt: Tensor,
        slope: VectorLike,
        shift: VectorLike,
        skip: VectorLike,
        state: Tensor,
        slots: Tensor,
        positions: Tensor,
        links: Tensor,
        groups: int,
        *,
        dt_first: int = 0,
        limits: tuple[float, float] = (0.0, math.inf),
        name: str = "ssm_scan",
    ) -> Tensor:
        """The selective state space model of Mamba-2 (Dao & Gu 2024) over the positions of each sequence: [R, heads ·
        head_dim].

        x: the inputs of all heads, then B and C of `groups` groups. state S [slots, heads, head_dim, state_dim]. Per
        position and head: t = softplus(dt + shift) within `limits`, S becomes exp(slope · t)·S + t·x Bᵀ, then
        y = S·C + skip·x. dt: of a row the numbers from dt_first on. slope, shift, skip [heads] f32."""
        _, heads, head_dim, state_dim = state.shape
        self._check_state(state, name, heads, head_dim, state_dim)
        self._check_rows_of_state(slots, positions, links, name)
        if heads % groups:
            raise ShapeError(f"{self.named(name)}: {heads} heads do not divide over {groups} groups")
        self.check_rows(x, name, heads * head_dim + 2 * groups * state_dim)
        check_spread(self, dt, Spread(dt_first), heads, 1, name)
        vectors = [
            self.float_vector(value, what, f"{name}.{what}", ((heads,),), name)
            for value, what in ((slope, "slope"), (shift, "shift"), (skip, "skip"))
        ]
        y = self.scratch(name, (self.rows, heads * head_dim))
        self.add(
            name,
            "ssm_scan",
            (x, dt, *vectors, slots, positions, links),
            (state, y),
            {
                "rows": self.rows,
                "heads": heads,
                "groups": groups,
                "head_dim": head_dim,
                "state_dim": state_dim,
                "dt_row": dt.shape[1],
                "dt_first": dt_first,
                "least": min(limits[0], LARGEST_F32),
                "most": min(limits[1], LARGEST_F32),
            },
            depth=heads * math.ceil(head_dim / _core.DELTA_VALUES),
        )
        return y

    def _check_state(self, state: Tensor, name: str, *shape: int) -> None:
        self.check_shape(state, name, state.shape[0], *shape)
        if state.dtype != "f32" or 0 in shape:
            raise BuildError(f"{self.named(name)}: {state} cannot be a state; it must be f32, and not empty")

    def _check_rows_of_state(self, slots: Tensor, positions: Tensor, links: Tensor, name: str) -> None:
        self.check_rows(slots, name, dtype="u32")
        self.check_rows(positions, name, dtype="u32")
        self.check_rows(links, name, 2, dtype="u32")
