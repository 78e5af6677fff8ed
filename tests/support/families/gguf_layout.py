"""The same weights as a GGUF file: names and metadata by the inverse of what the package reads, blocks of Q8_0 or
Q4_K."""

import numpy as np
from support import gguf_files as files
from support.families import further, recurrent
from support.families.cases import ALL, CASES
from support.families.grid import Grid
from support.families.layouts import ROUTERS, latent, modules, rows

from pipeline.checkpoints.gguf.families import COMMON, FAMILIES
from pipeline.checkpoints.gguf.names import BARE, MODEL

F32 = 0
ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "mixtral": "mixtral",
    "olmoe": "olmoe",
    "qwen2_moe": "qwen2moe",
    "granitemoe": "granitemoe",
    "granitemoeshared": "granitemoe",
    "gpt_oss": "gpt-oss",
    "gemma3_text": "gemma3",
    "glm4_moe": "glm4moe",
    "deepseek_v3": "deepseek2",
    "deepseek_v2": "deepseek2",
    "gemma4_text": "gemma4",
    "qwen3_next": "qwen3next",
    "qwen3_5_moe_text": "qwen35moe",
    "qwen3_5_text": "qwen35",
    "granitemoehybrid": "granitehybrid",
    "nemotron_h": "nemotron_h_moe",
    "lfm2": "lfm2",
    "lfm2_moe": "lfm2moe",
}
# Variants whose settings such a file can say.
ARCHITECTURES |= {
    "granite": "granite",
    "ernie4_5": "ernie4_5",
    "olmo2": "olmo2",
    "olmo3": "olmo2",
    "phi3": "phi3",
    "minimax_m2": "minimax-m2",
    "ernie4_5_moe": "ernie4_5-moe",
    "hunyuan_v1_dense": "hunyuan-dense",
    "hunyuan_v1_moe": "hunyuan-moe",
    "bailing_moe": "bailingmoe2",
    "exaone_moe": "exaone-moe",
    "afmoe": "afmoe",
    "gemma4_dense": "gemma4",
    "gemma4_small": "gemma4",
}
NO_ROPE = {"rope_theta": 1e4, "rope_type": "default"}


def write_gguf(
    file, name: str, golden: dict, kind: str, metadata: dict | None = None, kinds: dict[str, str] | None = None
) -> None:
    """Matrices in `kind`, or in that of `kinds` by their name in a block, where their rows are whole blocks of it, else
    Q8_0; routers and vectors F32. metadata: more of it, such as a tokenizer."""
    key = ARCHITECTURES[name]
    family, config = FAMILIES[key], golden["config"]
    matrices, vectors = modules(name, golden, lambda module, grid: _split(name, module, grid, config))
    if ALL[name].recurrent:
        matrices, vectors = recurrent.rearranged(family, matrices, vectors, config)
    names = {known: stem for stem, known in family.names.items()} | {known: stem for stem, known in MODEL.items()}
    tensors, data = [], b""
    for tensor, values in (matrices | vectors).items():
        stem = _gguf_name(tensor, names)
        extra = family.layout.norms_plus_one and stem.endswith("norm.weight") and not ALL[name].recurrent
        own = (kinds or {}).get(stem.split(".")[-2], kind)
        type_, raw = _stored(tensor, values, own, config, family.layout.rope_pairs, float(extra))
        shape = (values.q if isinstance(values, Grid) else values).shape
        shape = shape[1:] if tensor.endswith("shared_expert_gate") else shape
        tensors.append((stem, shape[::-1], type_))
        data += raw + bytes(-len(raw) % 32)
    for factors, raw in _factors(config).items():
        tensors.append((f"{factors}.weight", (len(raw) // 4,), F32))
        data += raw + bytes(-len(raw) % 32)
    file.write_bytes(files.gguf(_metadata(name, family, config) | (metadata or {}), tensors, data))


def _split(name: str, module: str, grid: Grid, config: dict):
    """Where llama.cpp has other parts of a matrix than MLX."""
    if name == "deepseek_v3" and module.endswith("kv_b_proj"):  # DeepSeek-V2 is written as it was before this
        return latent(module, grid, config)
    if name == "gemma4_text" and ".experts." in module:
        return {module: grid}
    if module.endswith(".mlp.gate.gate_proj"):  # MLX's name of a router
        return {module.removesuffix(".gate_proj"): grid}
    if module.endswith(("shared_mlp.input_linear", "shared_mlp.output_linear")):
        half, mlp = grid.q.shape[-2] // 2, module.rpartition(".")[0]
        return (
            {f"{mlp}.down_proj": grid}
            if module.endswith("output_linear")
            else {f"{mlp}.gate_proj": rows(grid, slice(half)), f"{mlp}.up_proj": rows(grid, slice(half, None))}
        )
    return None


def _metadata(name: str, family, config: dict) -> dict:
    key = ARCHITECTURES[name]
    architecture = "llama" if key == "mixtral" else key
    keys = {gguf: config[name] for name, gguf in (COMMON | dict(family.keys)).items() if config.get(name) is not None}
    keys |= recurrent.metadata(key, config) if ALL[name].recurrent else {}
    if "num_local_experts" in config or "n_routed_experts" in config:
        keys["expert_count"] = config.get("num_local_experts", config.get("n_routed_experts"))
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    keys |= {
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "vocab_size": config["vocab_size"],
    }
    rope = config.get("rope_parameters", NO_ROPE)
    full = rope.get("full_attention", rope)
    keys["rope.freq_base"] = float(full["rope_theta"])
    if "sliding_attention" in rope:
        keys["rope.freq_base_swa"] = float(rope["sliding_attention"]["rope_theta"])
    if full["rope_type"] in ("linear", "yarn"):
        keys |= {"rope.scaling.type": full["rope_type"], "rope.scaling.factor": float(full["factor"])}
    if full["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = full["original_max_position_embeddings"]
    if "partial_rotary_factor" in full:
        keys["rope.dimension_count"] = int(head_dim * full["partial_rotary_factor"])
    keys |= further.metadata(key, config, full, head_dim)
    if config.get("layer_types") and config.get("sliding_window"):
        keys["attention.sliding_window_pattern"] = files.array(
            files.BOOL, [t.startswith("slid") for t in config["layer_types"]]
        )
    if key in ("glm4moe", "deepseek2"):
        keys["expert_gating_func"] = 1 if name == "deepseek_v2" else 2
    if key == "deepseek2":
        keys |= _latent_sizes(config, absorbed=name == "deepseek_v3")
        keys["rope.scaling.yarn_log_multiplier"] = full.get("mscale_all_dim", 0.0) / 10
    floats = ("epsilon", "scale", "clamp", "softcapping", "freq_base", "freq_base_swa", "factor", "multiplier")
    typed = {
        gguf: float(value) if gguf.endswith(floats) else value
        for gguf, value in keys.items()
        if not isinstance(value, list)
    }
    return {"general.architecture": architecture, "tokenizer.ggml.model": "no_vocab"} | {
        f"{architecture}.{gguf}": value for gguf, value in typed.items()
    }


def _latent_sizes(config: dict, *, absorbed: bool) -> dict:
    """absorbed: with attn_k_b and attn_v_b, so that there is one head of keys, the compressed row."""
    rank, turning = config["kv_lora_rank"], config["qk_rope_head_dim"]
    own = config["qk_nope_head_dim"] + turning, config["v_head_dim"]
    key, value = (rank + turning, rank) if absorbed else own
    sizes = {"attention.key_length": key, "attention.value_length": value, "rope.dimension_count": turning}
    return sizes | (
        {"attention.head_count_kv": 1, "attention.key_length_mla": own[0], "attention.value_length_mla": own[1]}
        if absorbed
        else {}
    )


def _gguf_name(tensor: str, names: dict[str, str]) -> str:
    parts = tensor.split(".")
    layer, rest = (f"blk.{parts[2]}.", ".".join(parts[3:])) if tensor.startswith("model.layers.") else ("", tensor)
    if rest not in names:  # EXAONE has it beside the router
        rest = rest.replace("mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias")
    if rest in names:  # a matrix, by its module; or a name with its suffix, or without any
        whole = names[rest].endswith((".bias", ".scale", ".weight")) or names[rest] in BARE
        return layer + names[rest] + ("" if whole else ".weight")
    module, _, suffix = rest.rpartition(".")
    return f"{layer}{names[module]}.{suffix}"


def _stored(tensor: str, values, kind: str, config: dict, pairs: bool, extra: float):
    """(type, bytes)."""
    if not isinstance(values, Grid):
        return F32, (values + np.float32(extra)).astype(np.float32).tobytes()
    for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
        if pairs and tensor.endswith(part):
            values = Grid(_paired(values.q, config[heads]), _paired(values.scale, config[heads]))
    if tensor.endswith(ROUTERS):
        return F32, values.values.tobytes()
    if CASES["gpt_oss"].transposed(tensor) and "mlp.experts." in tensor:
        return files.TYPES["MXFP4"], _mxfp4(values)
    if kind == "Q4_K" and values.q.shape[-1] % 256 == 0:
        return files.TYPES["Q4_K"], _q4_k(values)
    return files.TYPES["Q8_0"], _q8_0(values)


def _paired(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows i and i + half of each head side by side."""
    return np.ascontiguousarray(rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape))


def _q8_0(grid: Grid) -> bytes:
    blocks = np.empty(grid.scale.size, [("d", "<f2"), ("q", "i1", 32)])
    blocks["d"], blocks["q"] = grid.scale.reshape(-1), grid.q.reshape(-1, 32)
    assert (blocks["d"] == grid.scale.reshape(-1)).all()
    return blocks.tobytes()


def _q4_k(grid: Grid) -> bytes:
    """d · scale[j] · q - dmin · min[j], eight scales and minima of six bits."""
    scale = grid.scale.reshape(-1, 8)
    unit = 2.0 ** np.floor(np.log2(scale.max(-1, keepdims=True))) / 8
    steps = (scale / unit).astype(np.uint8)
    assert (steps * unit == scale).all() and steps.max() < 16  # so the upper two bits, which lie apart, are 0
    blocks = np.zeros(len(scale), [("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12), ("q", "u1", 128)])
    blocks["d"], blocks["dmin"] = unit[:, 0], 8 * unit[:, 0]
    blocks["scales"][:, :4] = blocks["scales"][:, 4:8] = steps[:, :4]
    blocks["scales"][:, 8:] = steps[:, 4:] | steps[:, 4:] << 4
    q = (grid.q.reshape(-1, 4, 2, 32) + 8).astype(np.uint8)
    blocks["q"] = (q[:, :, 0] | q[:, :, 1] << 4).reshape(-1, 128)
    return blocks.tobytes()


def _mxfp4(grid: Grid) -> bytes:
    from support.families.layouts import _e2m1

    blocks = np.empty(grid.scale.size, [("e", "u1"), ("q", "u1", 16)])
    blocks["e"] = np.log2(grid.scale.reshape(-1)).astype(np.int32) + 128
    codes = _e2m1(grid.q).reshape(-1, 2, 16)
    blocks["q"] = codes[:, 0] | codes[:, 1] << 4
    return blocks.tobytes()


def _factors(config: dict) -> dict[str, bytes]:
    """What each frequency is divided by where that differs, which GGUF files hold as tensors."""
    from pipeline.models.rope import Rope

    rope = config.get("rope_parameters", NO_ROPE)
    full = rope.get("full_attention", rope)
    if full["rope_type"] == "proportional":
        pairs = next(iter(config["per_layer_config"].values()))["head_dim"] // 2
        divisors = np.where(np.arange(pairs) < int(full["partial_rotary_factor"] * pairs), 1, 1e30)
        return {"rope_freqs": divisors.astype("<f4").tobytes()}
    if full["rope_type"] == "longrope":
        parts = ("short", "long")
        return {f"rope_factors_{part}": np.asarray(full[f"{part}_factor"], "<f4").tobytes() for part in parts}
    if full["rope_type"] != "llama3":
        return {}
    scaled = Rope.read(config, config["head_dim"], "config.json").inv_freq
    plain = float(rope["rope_theta"]) ** (-np.arange(0, config["head_dim"], 2) / config["head_dim"])
    return {"rope_freqs": (plain / scaled).astype("<f4").tobytes()}
