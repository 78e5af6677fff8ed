"""What llama.cpp is known to run otherwise than a GGUF file says: found by comparing its logits with ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["differences"]

AFMOE_PERIOD = 4  # of its layers, the last of each period sees all positions


def differences(config: Mapping[str, Any]) -> Iterator[str]:
    """Each as a sentence."""
    kind = config.get("model_type")
    if kind == "lfm2_moe" and config.get("routed_scaling_factor", 1) != 1:
        yield "llama.cpp takes routed_scaling_factor of lfm2_moe as 1, so its texts differ"
    layers = config.get("layer_types")
    if kind == "afmoe" and isinstance(layers, list):
        full = [(layer + 1) % AFMOE_PERIOD == 0 for layer in range(len(layers))]
        if full != [each == "full_attention" for each in layers]:
            yield f"llama.cpp takes each {AFMOE_PERIOD}th layer of afmoe as one without a window, so its texts differ"
