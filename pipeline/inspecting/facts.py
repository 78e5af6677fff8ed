"""A checkpoint in figures: its family, tensors, memory, and what one decoded token reads of it."""

from __future__ import annotations

import re
from collections import Counter

from ..errors import OnebufError, UsageError
from ..graph.formats import CACHE_DTYPES
from ..models import surveyed

EXPERT = re.compile(r"\.(switch_mlp|experts|block_sparse_moe\.(input|output)_linear)\.")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
TOP_K = ("num_experts_per_tok", "top_k_experts")
CONFIG = {
    "layers": ("num_hidden_layers",),
    "hidden": ("hidden_size",),
    "heads": ("num_attention_heads",),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "experts": EXPERTS,
    "top_k": TOP_K,
    "vocabulary": ("vocab_size",),
    "context": ("max_position_embeddings",),
}


def gather(checkpoint, context: int | None = None, kv_cache: str = CACHE_DTYPES[0]) -> dict:
    """The facts, as --json prints them. Nothing of the weights is read.

    context: of the KV cache, the model's where None. UsageError for one that the model has not.
    """
    tokenizer = _tokenizer(checkpoint)
    model, survey = surveyed(checkpoint)
    problems = [str(problem) for problem in survey.problems]
    return {
        "model": checkpoint.path.resolve().name,
        "format": "gguf" if checkpoint.path.is_file() else "safetensors",
        "files": len(checkpoint.files),
        "bytes": checkpoint.nbytes,
        "family": checkpoint.config.get("model_type"),
        "config": {name: _first(checkpoint.config, keys) for name, keys in CONFIG.items()},
        "tensors": types(checkpoint),
        "memory": _memory(model, context, kv_cache),
        "active": active(checkpoint, model),
        "tokenizer": tokenizer,
        "unused": list(checkpoint.unused) if model is not None else [],
        "unsupported": problems + ([tokenizer["error"]] if "error" in tokenizer else []),
    }


def types(checkpoint) -> list[dict]:
    """How many tensors of each stored type there are, and their bytes; the type with most bytes first."""
    counts, nbytes = Counter(), Counter()
    for name, info in checkpoint.tensors.items():
        kind = _stored(checkpoint, name, info)
        counts[kind] += 1
        nbytes[kind] += info.nbytes
    return [{"type": kind, "tensors": counts[kind], "bytes": nbytes[kind]} for kind, _ in nbytes.most_common()]


def _stored(checkpoint, name: str, info) -> str:
    """The dtype; of words that MLX packed, their bits and groups, for the scales and biases too."""
    module, _, part = name.rpartition(".")
    if part not in ("weight", "scales", "biases") or f"{module}.scales" not in checkpoint.tensors:
        return info.dtype
    try:
        scheme = checkpoint.quantization(module)
    except OnebufError:
        return "MLX, another scheme"
    if scheme is None:
        return info.dtype
    return "MLX mxfp4" if scheme.mode == "mxfp4" else f"MLX {scheme.bits} bits, groups of {scheme.group_size}"


def _memory(model, context: int | None, kv_cache: str) -> dict | None:
    if model is None:
        return None
    if context is not None and not 1 <= context <= model.context:
        raise UsageError(f"--context {context}: the model's context is {model.context:,}; give 1 to that")
    positions = model.context if context is None else context
    return {
        "mapped_bytes": model.mapped_bytes,
        "repacked_bytes": model.repacked_bytes,
        "kv_cache_dtype": kv_cache,
        "context": positions,
        "kv_cache_bytes": model.cache(1, positions, kv_cache).nbytes,
        "kv_cache_bytes_per_position": model.cache(1, 1, kv_cache).nbytes,
    }


def active(checkpoint, model=None) -> dict | None:
    """Bytes that decoding one token reads at least; None where the configuration does not tell.

    weights: everything but the embedding, of which a row is read (all of it where it is the head, too), and of the
    experts the share that a token chooses. Tensors that the family has no place for do not count.
    """
    config = checkpoint.config
    experts, top_k, rows = _first(config, EXPERTS), _first(config, TOP_K), config.get("vocab_size")
    unused = set(checkpoint.unused) if model is not None else set()
    tied = "lm_head.weight" not in checkpoint.tensors
    total = 0.0
    for name, info in checkpoint.tensors.items():
        if name in unused:
            continue
        if EXPERT.search(name):
            if not _positive(experts) or not _positive(top_k):
                return None
            total += info.nbytes * min(top_k / experts, 1)
        elif name.startswith("model.embed_tokens.") and not tied:
            if not _positive(rows):
                return None
            total += info.nbytes / rows
        else:
            total += info.nbytes
    return {"weight_bytes": round(total)}


def _tokenizer(checkpoint) -> dict:
    try:
        found = {
            "tokens": checkpoint.tokenizer().vocab_size,
            "bos_token": checkpoint.bos_token,
            "end_tokens": list(checkpoint.end_tokens),
        }
        return found | {"chat_templates": list(checkpoint.chat().templates)}
    except OnebufError as error:
        return {"error": str(error)}


def _first(config, keys):
    return next((config[key] for key in keys if config.get(key) is not None), None)


def _positive(value) -> bool:
    return type(value) is int and value > 0
