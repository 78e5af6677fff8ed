"""Steps become a plan, a plan becomes a chain: one command buffer per run."""

from .._lazy import lazy

_HOMES = {
    "Pipeline": ".builder",
    "Chain": ".chain",
    "Plan": ".plan",
    "Mapped": ".tensors",
    "Storage": ".tensors",
    "Tensor": ".tensors",
    "Blocks": ".weights",
    "Quantized": ".weights",
    "Weight": ".weights",
    "quantize": ".weights",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOMES)
