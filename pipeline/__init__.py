"""Onebuf: mixture-of-experts transformers with one command buffer per token.

    import pipeline as p
    print(p.load("path/to/checkpoint").generate("Once upon a time"))
    pipe = p.Pipeline(device="auto", rows=4)

Names are loaded when first used, so importing the package costs next to nothing.
"""

from ._start import leave_out_current_folder

leave_out_current_folder(__name__)

from ._lazy import lazy  # noqa: E402  # once nothing of the current folder can be taken for a module

_EXPORTS = {
    "Pipeline": ".graph.builder",
    "Chain": ".graph.chain",
    "Plan": ".graph.plan",
    "Device": ".device.device",
    "checked": ".device.device",
    "open_device": ".device.device",
    "Buffer": ".device.buffers",
    "Dispatch": ".device.kernels",
    "DispatchChain": ".device.kernels",
    "Kernel": ".device.kernels",
    "Library": ".device.kernels",
    "Finding": ".device.findings",
    "Storage": ".graph.tensors",
    "Tensor": ".graph.tensors",
    "Blocks": ".graph.weights",
    "Quantized": ".graph.weights",
    "quantize": ".graph.weights",
    "open_checkpoint": ".checkpoints.opening",
    "load": ".language.loading",
    "load_model": ".models.families",
    "Generator": ".generation.generator",
    "Scheduler": ".generation.scheduler",
    "Request": ".generation.requests",
    "score": ".generation.scoring",
    "perplexity": ".generation.scoring",
    "errors": None,
    "generation": None,
    "language": None,
    "ops": None,
}

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy(__name__, _EXPORTS)
