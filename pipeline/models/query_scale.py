"""Queries that grow with their position beyond the trained context, so that attention stays as sharp (Llama 4,
Ministral 3, Mistral 4): s(p) = 1 + beta · log(1 + floor(p / trained))."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..checkpoints.config import integer, number
from ..graph.builder import Pipeline
from ..graph.tensors import Storage, Tensor, VectorLike
from ..graph.weights import WeightLike
from .fields import Fields
from .rope import parameters


@dataclass(frozen=True, eq=False)
class QueryScale:
    """The scale of queries by position.

    A projection multiplies a row by `most` · sigma(gate), so the table has the gate of each position.
    """

    most: float  # twice the largest scale
    gates: Storage  # [context, 1] f32

    @classmethod
    def read(cls, f: Fields) -> QueryScale | None:
        """From the rope's part of config.json; None where no position of the context is scaled."""
        rope = parameters(f.config, f.source)
        beta = number(rope, "llama_4_scaling_beta", source=f.source)
        context = f.whole("max_position_embeddings")
        trained = integer(rope, "original_max_position_embeddings", context, source=f.source)
        return cls.of(1 + beta * np.log1p(np.arange(context) // trained))

    @classmethod
    def of(cls, scale: np.ndarray) -> QueryScale | None:
        """Of the scale of each position."""
        if (scale == 1).all():
            return None
        most = 2 * float(scale.max())
        share = scale / most
        return cls(most, Storage.of(np.log(share / (1 - share)).astype(np.float32)[:, None]))

    def gate(self, pipe: Pipeline, positions: Tensor) -> Tensor:
        """The gate of each row, [R, 1]: once per run."""
        return pipe.embed(positions, self.gates, name="query_scale")

    def linear3(
        self,
        pipe: Pipeline,
        gate: Tensor,
        x: Tensor,
        weights: Sequence[WeightLike],
        names: Sequence[str],
        biases: Sequence[VectorLike | None] = (None, None, None),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value projections, the queries scaled."""
        q = pipe.linear(x, weights[0], biases[0], names[0], scale=self.most, gate=gate)
        k, v = (pipe.linear(x, *each) for each in zip(weights[1:], biases[1:], names[1:]))
        return q, k, v
