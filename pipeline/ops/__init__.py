"""The fused kernels as plain functions on NumPy arrays, rows first.

    from pipeline import ops
    ids, weights = ops.moe_softmax_topk(logits, top_k=8)

Each call is one command buffer. `device` is a name ("auto": the system's default) or a
`pipeline.Device`; named devices stay open, and the chain of a shape is kept, so a repeated call
only copies and runs. Calls may come from several threads: those of one shape wait for each other.

Arrays are float32, or bfloat16 where a function says so: either ml_dtypes.bfloat16, or its bits in
uint16 together with ``bits="bf16"``, which needs no further package; results come back in kind. Any
strides will do. What does not fit raises ShapeError or DTypeError naming the argument; a row in which
there is nothing to choose raises RunError naming the row.
"""

from .._lazy import lazy

_HOMES = {
    "fused_norm_add": ".norms",
    "fused_norm_add_scalar": ".norms",
    "fused_residual_norm": ".norms",
    "fused_residual_norm_scalar": ".norms",
    "moe_softmax_topk": ".routing",
    "fused_moe_routing": ".routing",
    "Sampled": ".sampling",
    "gumbel_sample": ".sampling",
    "softmax_sample": ".sampling",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOMES)
