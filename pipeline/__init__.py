"""Onebuf: mixture-of-experts transformers with one command buffer a token.

    import pipeline as p
    pipe = p.Pipeline(device="auto", rows=4)

Names are loaded when first used, so importing the package costs next to nothing.
"""

import importlib

_EXPORTS = {
    "Pipeline": "graph.builder",
    "Chain": "graph.chain",
    "Plan": "graph.plan",
    "Device": "device.device",
    "open_device": "device.device",
    "Storage": "graph.tensors",
    "Tensor": "graph.tensors",
    "Blocks": "graph.weights",
    "Quantized": "graph.weights",
    "quantize": "graph.weights",
    "open_checkpoint": "checkpoints.opening",
    "load_model": "models",
    "Generator": "generation",
    "Request": "generation",
    "errors": None,
    "ops": None,
}

__all__ = sorted(_EXPORTS)
__version__ = "0.1.0"


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_EXPORTS[name] or name}", __name__)
    value = getattr(module, name) if _EXPORTS[name] else module
    globals()[name] = value
    return value


def __dir__():
    return __all__
