"""The weights of a step of experts, and of a dense MLP beside them; and what a kernel is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ..tensors import Tensor, VectorLike
from ..weights import Weight, WeightLike

# The biases of gate, up and down.
Biases: TypeAlias = tuple[VectorLike | None, VectorLike | None, VectorLike | None]


class Mlp(NamedTuple):
    """A dense MLP beside the experts: gate_proj, up_proj [hidden, dim], down_proj [dim, hidden].
    gate_logit [1, dim], if given: its output counts σ(gate_logit · h) times (Qwen2-MoE). biases as for `mlp`."""

    gate_proj: WeightLike
    up_proj: WeightLike
    down_proj: WeightLike
    gate_logit: WeightLike | None = None
    biases: Biases | None = None


def as_mlp(shared: Mlp | Sequence[WeightLike]) -> Mlp:
    """The weights of an Mlp in its order, as one."""
    if isinstance(shared, Mlp):
        return shared
    gate, up, down, *logit = shared
    return Mlp(gate, up, down, logit[0] if logit else None)


@dataclass(frozen=True, eq=False)
class ExpertLayer:
    """The stacks of a step, and the constants of the kernels that read them."""

    gate: Weight
    up: Weight
    biases: tuple[Tensor, ...]  # gate, up, down; where there is none, another tensor, bound but not read
    stored: tuple[int, ...]
    constants: dict[str, int]

    @property
    def alike(self) -> bool:
        """Whether one kernel can read gate and up together."""
        gate, up = (
            (weight.format, weight.group_size, weight.expert_rows, weight.row_step, stored)
            for weight, stored in zip((self.gate, self.up), self.stored)
        )
        return gate == up

    @property
    def into(self) -> dict[str, int]:
        """The constants of a kernel that reads gate and up."""
        return self.reading(self.gate, self.stored[0])

    def reading(self, weight: Weight, stored: int, **other: int) -> dict[str, int]:
        """The constants of such a kernel for weights that lie like `weight`, with a bias stored so."""
        count, hidden, dim = weight.shape
        constants = {
            **self.constants,
            "experts": count,
            "inputs": dim,
            "outputs": hidden,
            "group_size": weight.group_size,
            "bias": stored,
            "expert_rows": weight.expert_rows or hidden,
            "row_step": weight.row_step,
        }
        return constants | other

    def out(self, down: Weight) -> dict[str, int]:
        """The constants of a kernel that reads down."""
        count, dim, hidden = down.shape
        return {
            **self.constants,
            "experts": count,
            "inputs": hidden,
            "outputs": dim,
            "group_size": down.group_size,
            "bias": self.stored[2],
            "expert_rows": dim,
            "row_step": 1,
        }
