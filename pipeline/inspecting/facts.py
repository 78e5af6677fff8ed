"""A checkpoint in figures: its family, tensors, memory, and what one decoded token reads of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hub import model_name
from ..checkpoints.tensor_info import TensorInfo
from ..errors import OnebufError, UsageError
from ..graph.builder import Pipeline
from ..graph.formats import AFFINE_BITS, BLOCKS, CACHE_DTYPES, FLOAT_MODES, FLOATS, NATIVE
from ..graph.kernel_names import affine_format, block_format
from ..models.decoder import Decoder
from ..models.families import surveyed
from ..models.row_state import Rows

__all__ = ["active", "costs", "gather", "runs", "token_bytes", "types"]

ENDS = (  # of the names of kernels that read weights
    *FLOATS,
    *(affine_format(bits, scales) for bits in AFFINE_BITS for scales in FLOATS),
    *FLOAT_MODES,
    "fp8",
    *map(block_format, BLOCKS),
)
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


def gather(checkpoint: Checkpoint, context: int | None = None, kv_cache: str = CACHE_DTYPES[0]) -> dict[str, Any]:
    """The facts, as --json prints them. No weight is read.

    context: the positions of the KV cache; None takes the model's context. UsageError where they are more than that.
    """
    tokenizer = _tokenizer(checkpoint)
    model, survey = surveyed(checkpoint)
    problems = [str(problem) for problem in survey.problems]
    return {
        "model": model_name(checkpoint.path),
        "format": "gguf" if checkpoint.path.is_file() else "safetensors",
        "files": len(checkpoint.files),
        "bytes": checkpoint.nbytes,
        "family": checkpoint.config.get("model_type"),
        "config": {name: _first(checkpoint.config, keys) for name, keys in CONFIG.items()},
        "tensors": types(checkpoint) if model is None else costs(checkpoint, model),
        "runs": [] if problems or model is None else runs(model),
        "memory": _memory(model, context, kv_cache),
        "active": active(checkpoint, model),
        "tokenizer": tokenizer,
        "unused": list(checkpoint.unused) if model is not None else [],
        "unsupported": problems + ([tokenizer["error"]] if "error" in tokenizer else []),
    }


def types(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """How many tensors of each stored type there are, and their bytes; the type with most bytes first."""
    return _counted(checkpoint, _kinds(checkpoint))


def _counted(checkpoint: Checkpoint, kinds: dict[str, str]) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    for name, info in checkpoint.tensors.items():
        kind = kinds[name]
        counts[kind] += 1
        nbytes[kind] += info.nbytes
    return [{"type": kind, "tensors": counts[kind], "bytes": nbytes[kind]} for kind, _ in nbytes.most_common()]


def _kinds(checkpoint: Checkpoint) -> dict[str, str]:
    """The stored type of each tensor; of weights of other libraries' formats that format, for all their parts."""
    packed = {part: str(weight.packing) for weight in checkpoint.packed_weights() for part in weight.parts}
    tensors = checkpoint.tensors.items()
    return {name: packed[name] if name in packed else _stored(checkpoint, name, info) for name, info in tensors}


def _stored(checkpoint: Checkpoint, name: str, info: TensorInfo) -> str:
    """The dtype; for weights that MLX packed their bits and groups, and the same for their scales and biases."""
    module, _, part = name.rpartition(".")
    if part not in ("weight", "scales", "biases") or f"{module}.scales" not in checkpoint.tensors:
        return info.dtype
    try:
        scheme = checkpoint.quantization(module)
    except OnebufError:
        return "MLX, another scheme"
    if scheme is None:
        return info.dtype
    return (
        f"MLX {scheme.mode}" if scheme.mode in FLOAT_MODES else f"MLX {scheme.bits} bits, groups of {scheme.group_size}"
    )


def _memory(model: Decoder | None, context: int | None, kv_cache: str) -> dict[str, Any] | None:
    if model is None:
        return None
    if context is not None and not 1 <= context <= model.context:
        raise UsageError(f"--context {context}: the model's context is {model.context:,}; give 1 to that")
    positions = model.context if context is None else context
    cache = model.cache(1, positions, kv_cache)
    return {
        "mapped_bytes": model.mapped_bytes,
        "repacked_bytes": model.repacked_bytes,
        "repacked": dict(model.repacked),
        "kv_cache_dtype": kv_cache,
        "context": positions,
        "kv_cache_bytes": cache.nbytes - cache.state_bytes,
        "kv_cache_bytes_per_position": sum(table.position_bytes for table in cache.tables),
        "state_bytes": cache.state_bytes,
    }


def active(checkpoint: Checkpoint, model: Decoder | None = None) -> dict[str, Any] | None:
    """The least bytes that decoding one token reads; None where the configuration does not tell.

    They are all weights, except that one row of the embedding is read (all of it where it is the head, too), and the
    share of the experts that a token chooses. Tensors that the family has no place for do not count.
    """
    read = _read(checkpoint, model)
    return None if read is None else {"weight_bytes": round(sum(read.values()))}


def _read(checkpoint: Checkpoint, model: Decoder | None) -> dict[str, float] | None:
    """The bytes of each tensor that one token reads, as `active` counts them."""
    config = checkpoint.config
    experts, top_k = _positive(_first(config, EXPERTS)), _positive(_first(config, TOP_K))
    rows = _positive(config.get("vocab_size"))
    unused = set(checkpoint.unused) if model is not None else set()
    tied = "lm_head.weight" not in checkpoint.tensors
    found: dict[str, float] = {}
    for name, info in checkpoint.tensors.items():
        if name in unused:
            continue
        if EXPERT.search(name):
            if experts is None or top_k is None:
                return None
            found[name] = info.nbytes * min(top_k / experts, 1)
        elif name.startswith("model.embed_tokens.") and not tied:
            if rows is None:
                return None
            found[name] = info.nbytes / rows
        else:
            found[name] = info.nbytes
    return found


def costs(checkpoint: Checkpoint, model: Decoder) -> list[dict[str, Any]]:
    """`types`, with the bytes of each type that one token reads and their share of all that it reads; None where the
    configuration does not tell."""
    read = _read(checkpoint, model)
    of_kind: dict[str, float] = {}
    kinds = _kinds(checkpoint)
    for name, nbytes in (read or {}).items():
        kind = kinds[name]
        of_kind[kind] = of_kind.get(kind, 0.0) + nbytes
    total = sum(of_kind.values()) or 1
    return [
        entry
        | {
            "bytes_per_token": None if read is None else round(of_kind.get(entry["type"], 0.0)),
            "share": None if read is None else round(of_kind.get(entry["type"], 0.0) / total, 4),
        }
        for entry in _counted(checkpoint, kinds)
    ]


def token_bytes(checkpoint: Checkpoint) -> dict[str, float]:
    """The bytes of each tensor that one token reads; empty where the configuration does not tell."""
    return _read(checkpoint, None) or {}


def runs(model: Decoder) -> list[dict[str, Any]]:
    """Which kernels read the matrices when one row is decoded: for each format, as kernels' names end in it, the
    kernels without it, and how many dispatches each has. native: whether `cpu` has its projections and experts written
    by hand, on x86-64."""
    pipe = Pipeline(rows=1)
    model.forward(pipe, Rows.zeros(1), model.cache(1, 1, rows=1))
    found: dict[str, Counter[str]] = {}
    for dispatch in pipe.dispatches:
        matrices = [tensor for tensor in dispatch.reads if tensor.role == "weight" and len(tensor.shape) > 1]
        named = max((end for end in ENDS if dispatch.kernel.endswith(f"_{end}")), key=len, default=None)
        if matrices and named is not None:
            found.setdefault(named, Counter())[dispatch.kernel.removesuffix(f"_{named}")] += 1
    order = sorted(found.items(), key=lambda item: -sum(item[1].values()))
    return [
        {"format": name, "kernels": dict(kernels.most_common()), "native": name in NATIVE} for name, kernels in order
    ]


def _tokenizer(checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        found = {
            "tokens": checkpoint.tokenizer().vocab_size,
            "bos_token": checkpoint.bos_token,
            "end_tokens": list(checkpoint.end_tokens),
        }
        return found | {"chat_templates": list(checkpoint.chat().templates)}
    except OnebufError as error:
        return {"error": str(error)}


def _first(config: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), None)


def _positive(value: object) -> int | None:
    """A whole number above 0, such as a configuration may have; None for anything else."""
    return value if type(value) is int and 0 < value < 2**31 else None
