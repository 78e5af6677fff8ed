"""Metadata of GGUF files that a few families have, as llama.cpp's converter writes it."""

import math

from support import gguf_files as files


def metadata(architecture: str, config: dict, rope: dict, head_dim: int) -> dict:
    keys: dict = {}
    if rope.get("alpha"):  # Hunyuan: the base is stretched
        keys["rope.freq_base"] = rope["rope_theta"] * rope["alpha"] ** (head_dim / (head_dim - 2))
    if rope["rope_type"] == "longrope":
        trained, longest = config["original_max_position_embeddings"], config["max_position_embeddings"]
        scale = math.sqrt(1 + math.log(longest / trained) / math.log(trained))
        keys |= {"rope.scaling.attn_factor": scale, "rope.scaling.original_context_length": trained}
    if architecture == "gemma4":
        keys |= _two_kinds_of_heads(config)
    if architecture == "minimax-m2":
        keys["rope.dimension_count"] = config.get("rotary_dim") or int(head_dim * rope["partial_rotary_factor"])
    if architecture == "bailingmoe2":
        keys["rope.dimension_count"] = int(head_dim * config["partial_rotary_factor"])
        keys |= {"rope.freq_base": config["rope_theta"], "expert_gating_func": 2}
    if architecture == "hunyuan-moe":
        keys["expert_feed_forward_length"] = config["intermediate_size"]
    if architecture == "exaone-moe":
        keys["leading_dense_block_count"] = config["mlp_layer_types"].count("dense")
    if architecture in ("exaone-moe", "afmoe"):
        keys |= {"expert_weights_norm": True, "expert_gating_func": 2}
    return keys


def _two_kinds_of_heads(config: dict) -> dict:
    """Gemma 4: sizes with "_swa" are those of layers with a window."""
    own, layers = config["per_layer_config"], config["num_hidden_layers"]
    heads = [own.get(str(i), {}).get("num_key_value_heads", config["num_key_value_heads"]) for i in range(layers)]
    wide, narrow = next(iter(own.values()))["head_dim"], config["head_dim"]
    keys = {
        "attention.head_count_kv": files.array(files.U32, heads),
        "attention.key_length": wide,
        "attention.value_length": wide,
        "attention.key_length_swa": narrow,
        "attention.value_length_swa": narrow,
        "rope.dimension_count": wide,
        "rope.dimension_count_swa": narrow,
        "attention.shared_kv_layers": config.get("num_kv_shared_layers") or 0,
        "embedding_length_per_layer_input": config.get("hidden_size_per_layer_input") or 0,
    }
    if config.get("use_double_wide_mlp"):
        first, length = layers - config["num_kv_shared_layers"], config["intermediate_size"]
        keys["feed_forward_length"] = files.array(files.U32, [length * (1 + (i >= first)) for i in range(layers)])
    return keys
