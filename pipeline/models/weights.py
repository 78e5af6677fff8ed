"""Groups of weights that families share, by their names in checkpoints.

Shapes are [outputs, inputs], experts in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from ..errors import CheckpointError
from ..graph.tensors import Storage
from ..graph.weights import StackLike, WeightLike
from .fields import Shape
from .loading import Loader, Stored

GateUpDown: TypeAlias = tuple[WeightLike, WeightLike, WeightLike]
Stacks: TypeAlias = tuple[StackLike, StackLike, StackLike]  # gate, up and down of experts
MaybeBiases: TypeAlias = tuple[Storage | None, Storage | None, Storage | None]

FEW = 1000  # experts that are named one by one where they are missing
GATE_UP_DOWN = ("gate_proj", "up_proj", "down_proj")


class Biased(Protocol):
    """A configuration that says which projections of attention have a bias."""

    @property
    def hidden(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def biased(self) -> bool: ...
    @property
    def output_biased(self) -> bool: ...


def qkv(load: Loader, attention: str, c: Shape) -> tuple[Stored, Stored, Stored]:
    """Query, key and value projections."""
    return (
        load.matrix(f"{attention}.q_proj", (c.heads * c.head_dim, c.hidden)),
        load.matrix(f"{attention}.k_proj", (c.kv_heads * c.head_dim, c.hidden)),
        load.matrix(f"{attention}.v_proj", (c.kv_heads * c.head_dim, c.hidden)),
    )


def fused_qkv(load: Loader, attention: str, c: Shape, name: str = "qkv_proj") -> tuple[WeightLike, ...]:
    """Query, key and value projections whose rows lie one behind another in one matrix; or apart, as some formats have
    them."""
    if not has(load, f"{attention}.{name}"):
        return qkv(load, attention, c)
    sizes = (c.heads * c.head_dim, c.kv_heads * c.head_dim, c.kv_heads * c.head_dim)
    return load.split(f"{attention}.{name}", (sum(sizes), c.hidden), sizes)


def attention_biases(
    load: Loader, attention: str, c: Biased, kv_heads: int, head_dim: int, *, value: bool = True, q_dim: int = 0
) -> tuple[MaybeBiases, Storage | None]:
    """(biases of query, key and value, bias of the output), None where the configuration has none. value: whether
    values have a projection of their own; else their bias is that of the keys. q_dim: outputs of a query head; 0 for
    head_dim."""
    inner: MaybeBiases = (None, None, None)
    if c.biased:
        q = load.array(f"{attention}.q_proj.bias", (c.heads * (q_dim or head_dim),))
        k = load.array(f"{attention}.k_proj.bias", (kv_heads * head_dim,))
        inner = (q, k, load.array(f"{attention}.v_proj.bias", (kv_heads * head_dim,)) if value else k)
    return inner, load.array(f"{attention}.o_proj.bias", (c.hidden,)) if c.output_biased else None


def head_norms(
    load: Loader, attention: str, queries: int, keys: int, names: tuple[str, str] = ("q_norm", "k_norm")
) -> tuple[Storage, Storage]:
    """The weights of the norms of queries and of keys, which share a dtype."""
    wanted = zip(names, (queries, keys))
    q, k = load.alike([(f"{attention}.{name}.weight", (count,)) for name, count in wanted])
    return q, k


def dense(load: Loader, mlp: str, dim: int, hidden: int, names: Sequence[str] = GATE_UP_DOWN) -> GateUpDown:
    """gate, up [hidden, dim] and down [dim, hidden] of a gated MLP, called `names`."""
    gate, up, down = names
    return (
        load.matrix(f"{mlp}.{gate}", (hidden, dim)),
        load.matrix(f"{mlp}.{up}", (hidden, dim)),
        load.matrix(f"{mlp}.{down}", (dim, hidden)),
    )


def dense_biases(load: Loader, mlp: str, dim: int, hidden: int, biased: bool) -> MaybeBiases:
    """The biases of gate, up and down of a gated MLP, None where there are none."""
    if not biased:
        return (None, None, None)
    return (
        load.array(f"{mlp}.gate_proj.bias", (hidden,)),
        load.array(f"{mlp}.up_proj.bias", (hidden,)),
        load.array(f"{mlp}.down_proj.bias", (dim,)),
    )


CORRECTIONS = ("gate.e_score_correction_bias", "e_score_correction_bias", "gate.expert_bias", "expert_bias")


def correction(load: Loader, mlp: str, count: int) -> Storage:
    """What is added to the scores of experts [count] where they are chosen, by whichever name it has."""
    name = next((name for name in CORRECTIONS if load.has(f"{mlp}.{name}")), CORRECTIONS[0])
    return load.array(f"{mlp}.{name}", (count,))


def experts(load: Loader, mlp: str, count: int, dim: int, hidden: int, names: Sequence[str] = GATE_UP_DOWN) -> Stacks:
    """gate, up [experts, hidden, dim] and down [experts, dim, hidden]: stacks as MLX and GGUF have them, gate and up in
    one stack as transformers keeps them, or matrices one by one, called `names`."""
    for stack in (f"{mlp}.switch_mlp", f"{mlp}.experts.switch_glu", f"{mlp}.experts"):
        if has(load, f"{stack}.gate_proj"):
            return (
                load.matrix(f"{stack}.gate_proj", (count, hidden, dim)),
                load.matrix(f"{stack}.up_proj", (count, hidden, dim)),
                load.matrix(f"{stack}.down_proj", (count, dim, hidden)),
            )
        if has(load, f"{stack}.gate_up_proj"):
            if _inputs_first(load, f"{stack}.gate_up_proj", (count, dim, 2 * hidden)):
                return transposed_halves(load, stack, count, dim, hidden)
            return halves(load, f"{stack}.gate_up_proj", f"{stack}.down_proj", count, dim, hidden)
    shapes = ((hidden, dim), (hidden, dim), (dim, hidden))
    check_count(load, count)
    gate, up, down = load.stacks([[f"{mlp}.experts.{e}.{name}" for e in range(count)] for name in names], shapes)
    return gate, up, down


def check_count(load: Loader, count: int) -> None:
    """Demands that there can be so many experts, one by one, before as many names are made."""
    if count > len(load.checkpoint.tensors) + FEW:
        raise CheckpointError(
            f"{load.checkpoint.source}: says {count:,} experts, the checkpoint has {len(load.checkpoint.tensors):,} "
            "tensors in all; download it again"
        )


def _inputs_first(load: Loader, name: str, shape: tuple[int, ...]) -> bool:
    """Whether a stack is stored as [experts, inputs, outputs], which Qwen3-VL's published files are."""
    info = load.checkpoint.tensors.get(name)
    return info is not None and tuple(info.shape) == shape and shape[1] != shape[2]


def transposed_halves(load: Loader, stack: str, count: int, dim: int, hidden: int) -> Stacks:
    """gate, up and down of experts whose stacks are stored as [experts, inputs, outputs]: copies."""
    gate, up = load.split(f"{stack}.gate_up_proj", (count, 2 * hidden, dim), (hidden, hidden), transposed=True)
    return gate, up, load.transposed(f"{stack}.down_proj", (count, dim, hidden))


def halves(load: Loader, gate_up: str, down: str, count: int, dim: int, hidden: int) -> GateUpDown:
    """gate, up and down where one stack has the rows of gate, then those of up; with a count of 0, matrices."""
    lead = (count,) if count else ()
    gate, up = load.split(gate_up, (*lead, 2 * hidden, dim), (hidden, hidden))
    return gate, up, load.matrix(down, (*lead, dim, hidden))


def has(load: Loader, module: str) -> bool:
    """Whether the checkpoint has a weight of that module, in whatever format."""
    parts = ("weight", "scales", "qweight", "weight_packed")
    return load.has(module) or any(load.has(f"{module}.{part}") for part in parts)
