"""llama.cpp's recipes for GGUF files: which tensors get more bits than the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .mlx_output import more_bits

__all__ = ["block_of"]

VALUES = re.compile(r"\.attn_(v|qkv|kv_b)\.weight$")
DOWN = re.compile(r"\.ffn_down(_exps|_shexp)?\.weight$")
LARGE_LLAMA = 80  # layers of the Llama whose heads share values eight by eight


def block_of(
    name: str, shape: tuple[int, ...], recipe: str, kind: str, metadata: Mapping[str, Any], names: Sequence[str]
) -> str:
    """The type of a matrix. recipe: such as Q4_K_M, or none, where all but the head have the type `kind`."""
    head = "output.weight" if "output.weight" in names else "token_embd.weight"
    if name == head:
        return "Q8_0" if kind == "Q8_0" or shape[-1] % 256 else "Q6_K"
    if not recipe or name.startswith("token_embd"):
        return kind
    architecture = str(metadata.get("general.architecture"))
    experts = metadata.get(f"{architecture}.expert_count", 0)
    layers = metadata.get(f"{architecture}.block_count", 0)
    medium, five = recipe.endswith("_M"), kind == "Q5_K"
    if VALUES.search(name):
        values = [each for each in names if VALUES.search(each)]
        place = values.index(name)
        if medium and more_bits(place, len(values)):
            kind = "Q6_K"
        elif not medium and not five and place < 4:
            kind = "Q5_K"
        if architecture == "llama" and layers == LARGE_LLAMA and kind == "Q4_K":
            kind = "Q5_K"
        return "Q8_0" if experts == 8 else kind
    if name.endswith(".attn_k.weight"):
        return "Q8_0" if experts == 8 else kind
    if DOWN.search(name):
        downs = [each for each in names if DOWN.search(each)]
        layer = int(name.split(".")[1]) if experts else downs.index(name)
        if medium and more_bits(layer, layers):
            return "Q6_K"
        return "Q5_K" if not medium and not five and layer < layers // 8 else kind
    if name.endswith(".attn_output.weight"):
        return "Q5_K" if experts == 8 and not five else kind
    return kind
