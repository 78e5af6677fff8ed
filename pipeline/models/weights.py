"""Groups of weights that families share, by their names in checkpoints.

Shapes are [outputs, inputs], experts in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ..graph.tensors import Storage
from ..graph.weights import WeightLike
from .fields import Shape
from .loading import Loader, Stored

GateUpDown: TypeAlias = tuple[WeightLike, WeightLike, WeightLike]

GATE_UP_DOWN = ("gate_proj", "up_proj", "down_proj")


def qkv(load: Loader, attention: str, c: Shape) -> tuple[Stored, Stored, Stored]:
    """Query, key and value projections."""
    return (
        load.matrix(f"{attention}.q_proj", (c.heads * c.head_dim, c.hidden)),
        load.matrix(f"{attention}.k_proj", (c.kv_heads * c.head_dim, c.hidden)),
        load.matrix(f"{attention}.v_proj", (c.kv_heads * c.head_dim, c.hidden)),
    )


def qkv_bias(load: Loader, attention: str, c: Shape) -> tuple[Storage, Storage, Storage]:
    return (
        load.array(f"{attention}.q_proj.bias", (c.heads * c.head_dim,)),
        load.array(f"{attention}.k_proj.bias", (c.kv_heads * c.head_dim,)),
        load.array(f"{attention}.v_proj.bias", (c.kv_heads * c.head_dim,)),
    )


def dense(load: Loader, mlp: str, dim: int, hidden: int) -> GateUpDown:
    """gate, up [hidden, dim] and down [dim, hidden] of a gated MLP."""
    return (
        load.matrix(f"{mlp}.gate_proj", (hidden, dim)),
        load.matrix(f"{mlp}.up_proj", (hidden, dim)),
        load.matrix(f"{mlp}.down_proj", (dim, hidden)),
    )


def experts(
    load: Loader, mlp: str, count: int, dim: int, hidden: int, names: Sequence[str] = GATE_UP_DOWN
) -> GateUpDown:
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
            return halves(load, f"{stack}.gate_up_proj", f"{stack}.down_proj", count, dim, hidden)
    shapes = ((hidden, dim), (hidden, dim), (dim, hidden))
    gate, up, down = (
        load.stack([f"{mlp}.experts.{e}.{name}" for e in range(count)], shape) for name, shape in zip(names, shapes)
    )
    return gate, up, down


def halves(load: Loader, gate_up: str, down: str, count: int, dim: int, hidden: int) -> GateUpDown:
    """gate, up and down where one stack has the rows of gate, then those of up; with a count of 0, matrices."""
    lead = (count,) if count else ()
    gate, up = load.split(gate_up, (*lead, 2 * hidden, dim), (hidden, hidden))
    return gate, up, load.matrix(down, (*lead, dim, hidden))


def has(load: Loader, module: str) -> bool:
    """Whether the checkpoint has a weight of that module, in whatever format."""
    return any(load.has(name) for name in (module, f"{module}.weight", f"{module}.scales"))
