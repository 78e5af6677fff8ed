"""config.json of the converted checkpoint: the source's, with the keys that mlx-lm reads and the quantisation table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..models.rope import Rope
from .families import FAMILIES

__all__ = ["converted_config", "earlier_keys", "stated_rope"]

FULL, SLIDING = "full_attention", "sliding_attention"


def converted_config(config: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """The configuration, sorted as mlx-lm writes it, with the quantisation table under both of its names."""
    kept = {key: value for key, value in config.items() if key != "_name_or_path"}
    family = FAMILIES.get(str(config.get("model_type")))
    if family is not None and family.model_type is not None:
        kept["model_type"] = family.model_type
    earlier = {key: value for key, value in earlier_keys(config).items() if key not in kept}
    return dict(sorted((earlier | kept | {"quantization": table, "quantization_config": table}).items()))


def earlier_keys(config: dict[str, Any]) -> dict[str, Any]:
    """The keys of transformers before its version 5, which mlx-lm's models read, from those that it writes now."""
    keys: dict[str, Any] = {}
    rope = config.get("rope_parameters")
    layered = isinstance(rope, dict) and isinstance(rope.get(FULL), dict)
    if isinstance(rope, dict) and (layered or not config.get("rope_scaling")):  # which comes before rope_parameters
        main = rope[FULL] if layered else rope
        keys["rope_theta"] = main.get("rope_theta", 10000.0)
        keys["rope_scaling"] = None if main.get("rope_type", "default") == "default" else main
        if "partial_rotary_factor" in main and not layered:
            keys["partial_rotary_factor"] = main["partial_rotary_factor"]
        if layered and isinstance(rope.get(SLIDING), dict):
            keys["rope_local_base_freq"] = rope[SLIDING].get("rope_theta", 10000.0)
    if "num_local_experts" in config:
        keys["num_experts"] = config["num_local_experts"]
    if "_sliding_window_pattern" in config:
        keys["sliding_window_pattern"] = config["_sliding_window_pattern"]
    return keys | _global_heads(config)


def stated_rope(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """rope_parameters of a GGUF file as mlx-lm knows them: the factors of single frequencies are those of Llama 3, or
    UnsupportedError is raised."""
    rope = dict(config.get("rope_parameters") or {})
    if rope.get("rope_type") != "factors":
        return rope
    theta, given = rope["rope_theta"], np.asarray(rope["factors"], np.float64)
    frequencies = theta ** (-np.arange(len(given)) / len(given))
    factor = float(given.max())
    between = (given > 1.001) & (given < factor * 0.999)
    share = (1 / given[between] - 1 / factor) / (1 - 1 / max(factor, 1.001))  # of the way from low to high frequencies
    trained = np.rint(2 * np.pi / frequencies[between] * (3 * share + 1))
    for length in (*{int(n) for n in trained}, *(1 << power for power in range(10, 18))):
        rest = {"factor": round(factor, 4), "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        made = {"rope_type": "llama3", "rope_theta": theta} | rest | {"original_max_position_embeddings": length}
        if factor > 1 and length > 0:
            found = Rope.read({"rope_parameters": made}, 2 * len(given), source).inv_freq
            if np.allclose(frequencies / found, given, rtol=1e-4):
                return made
    raise UnsupportedError(f"{source}: its factors of rope's frequencies (rope_freqs) are of no kind that mlx-lm knows")


def _global_heads(config: dict[str, Any]) -> dict[str, Any]:
    """The heads of Gemma 4's global layers, which transformers states layer by layer."""
    layers, kinds = config.get("per_layer_config"), config.get("layer_types")
    if not isinstance(layers, dict) or not isinstance(kinds, list) or FULL not in kinds:
        return {}
    own = layers.get(str(kinds.index(FULL)), {})
    keys = {"global_head_dim": own.get("head_dim", config.get("head_dim"))}
    if "num_key_value_heads" in own:
        keys["num_global_key_value_heads"] = own["num_key_value_heads"]
    return keys
