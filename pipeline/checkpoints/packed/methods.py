"""Which library's configuration quantization_config is, by its `quant_method`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import UnsupportedError
from .compressed_tensors import CompressedTensors
from .floats import Fbgemm, Fp8, ModelOpt
from .integers import Awq, Gptq
from .scheme import Aliases, Packings, Table, brief

__all__ = ["packings"]

METHODS = ("awq", "compressed-tensors", "fbgemm_fp8", "fp8", "gptq", "modelopt")


def packings(config: Mapping[str, Any], source: str, aliases: Aliases) -> Packings:
    """How another library's tools stored the weights, by `quantization_config`. CheckpointError for values that cannot
    be, UnsupportedError for what is not known."""
    values = config.get("quantization_config")
    if not isinstance(values, dict) or "quant_method" not in values or config.get("quantization") is not None:
        return Packings()
    table, method = Table(values, source), values["quant_method"]
    if method == "mxfp4":
        return Packings()  # gpt-oss as Hugging Face stores it: blocks and scales under names of their own
    if method == "compressed-tensors":
        return CompressedTensors(table, aliases)
    readers = {"awq": Awq, "fbgemm_fp8": Fbgemm, "fp8": Fp8, "gptq": Gptq, "modelopt": ModelOpt}
    if not isinstance(method, str) or method not in readers:
        raise UnsupportedError(
            f"{source}: quantization_config.quant_method = {brief(method)} is not supported; use one of "
            f"{', '.join(METHODS)}, bf16, one of MLX's formats or GGUF"
        )
    made: Packings = readers[method](table)
    return made
