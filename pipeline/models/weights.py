"""Groups of weights that families share, by their names in checkpoints. Shapes are [outputs, inputs], experts in front."""

from __future__ import annotations

from .loading import Loader

GATE_UP_DOWN = ("gate_proj", "up_proj", "down_proj")


def qkv(load: Loader, attention: str, c) -> tuple:
    """Query, key and value projections."""
    return (load.matrix(f"{attention}.q_proj", (c.heads * c.head_dim, c.hidden)),
            load.matrix(f"{attention}.k_proj", (c.kv_heads * c.head_dim, c.hidden)),
            load.matrix(f"{attention}.v_proj", (c.kv_heads * c.head_dim, c.hidden)))


def qkv_bias(load: Loader, attention: str, c) -> tuple:
    return (load.array(f"{attention}.q_proj.bias", (c.heads * c.head_dim,)),
            load.array(f"{attention}.k_proj.bias", (c.kv_heads * c.head_dim,)),
            load.array(f"{attention}.v_proj.bias", (c.kv_heads * c.head_dim,)))


def dense(load: Loader, mlp: str, dim: int, hidden: int) -> tuple:
    """gate, up [hidden, dim] and down [dim, hidden] of a gated MLP."""
    return (load.matrix(f"{mlp}.gate_proj", (hidden, dim)), load.matrix(f"{mlp}.up_proj", (hidden, dim)),
            load.matrix(f"{mlp}.down_proj", (dim, hidden)))


def experts(load: Loader, mlp: str, count: int, dim: int, hidden: int, names=GATE_UP_DOWN, stack: str = "switch_mlp") -> tuple:
    """gate, up [experts, hidden, dim] and down [experts, dim, hidden]: stacks as MLX and GGUF have them, or
    matrices one by one, called `names`."""
    shapes = ((hidden, dim), (hidden, dim), (dim, hidden))
    if any(load.has(f"{mlp}.{stack}.gate_proj.{part}") for part in ("weight", "scales")):
        return tuple(load.matrix(f"{mlp}.{stack}.{name}", (count, *shape)) for name, shape in zip(GATE_UP_DOWN, shapes))
    return tuple(load.stack([f"{mlp}.experts.{e}.{name}" for e in range(count)], shape) for name, shape in zip(names, shapes))
