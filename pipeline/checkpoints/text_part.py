"""The text part of models that also see or hear, with the names and the configuration of a text model alone; and the
usual names for families that have others.

Such a checkpoint nests the text model's configuration in `text_config` and puts a prefix before its tensors, which
transformers and mlx-lm choose differently. The tensors of images and sound keep their names and are not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .tensor_info import TensorInfo, quoted

__all__ = ["earlier_names", "is_other_part", "text_name", "text_part"]

# The keys that Gemma 3's published text_config leaves out (transformers' Gemma3TextConfig).
_GEMMA3: dict[str, Any] = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-6,
    "sliding_window": 4096,
    "query_pre_attn_scalar": 256,
}


@dataclass(frozen=True)
class Whole:
    """A model of several parts.

    text_type   the model_type of its text part where the text_config names none
    fixed       whether it is that one whatever the text_config says
    left_out    keys that the text_config may leave out
    tied        whether the head is the embedding where the outer configuration does not say it; None: the text_config
                says it, too
    """

    text_type: str
    fixed: bool = False
    left_out: dict[str, Any] = field(default_factory=dict)
    tied: bool | None = None


WHOLES = {
    "gemma3": Whole("gemma3_text", fixed=True, left_out=_GEMMA3),
    "gemma4": Whole("gemma4_text", fixed=True),
    "gemma4_unified": Whole("gemma4_unified_text", fixed=True),
    "glm4v_moe": Whole("glm4v_moe_text", fixed=True),
    "llama4": Whole("llama4_text", fixed=True),
    "kimi_k25": Whole("deepseek_v3", tied=True),
    "mistral3": Whole("mistral", tied=True),
    "qwen3_5": Whole("qwen3_5_text", fixed=True),
    "qwen3_5_moe": Whole("qwen3_5_moe_text", fixed=True),
    "qwen3_vl_moe": Whole("qwen3_vl_moe_text", fixed=True, tied=False),
}
FLAT = ("qwen3_5", "qwen3_5_moe")  # whose configuration may be that of the text part alone, as mlx-lm takes it
PREFIXES = {
    "language_model.model.blocks.": "model.layers.",  # as transformers saves Kimi K2.5
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
}
# Names of families that have others than most.
RENAMED = {
    "nemotron_h": {
        "backbone.embeddings.": "model.embed_tokens.",
        "model.embeddings.": "model.embed_tokens.",
        "backbone.norm_f.": "model.norm.",
        "model.norm_f.": "model.norm.",
        "backbone.": "model.",
    }
}
OTHERS = re.compile(
    r"(model\.)?(vision_tower|vision_model|vision_embedder|audio_tower|embed_vision|embed_audio|multi_modal_projector|mm_projector"
    r"|visual)\."
)
OUTER = ("quantization", "quantization_config", "eos_token_id", "bos_token_id", "tie_word_embeddings")


def text_part(
    config: dict[str, Any], tensors: dict[str, TensorInfo], source: Path
) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
    """(configuration, tensors) of the text part; both as they are where the model is nothing else.

    CheckpointError where there is no text_config, or where two tensors get one name.
    """
    whole = config.get("model_type")
    if isinstance(whole, str) and whole in RENAMED:
        prefixes = RENAMED[whole]
        return config | _counted(config) | _tables(config, prefixes), _renamed(tensors, prefixes)
    if not isinstance(whole, str) or whole not in WHOLES:
        return config, tensors
    kind = WHOLES[whole]
    text = config.get("text_config")
    if text is None and whole in FLAT:
        text = {key: value for key, value in config.items() if key not in OUTER}
    if not isinstance(text, dict):
        raise CheckpointError(f"{source}: model_type {whole!r} needs a 'text_config'; download it again")
    own = {key: config[key] for key in OUTER if config.get(key) is not None}
    own["eos_token_id"] = _both(config.get("eos_token_id"), text.get("eos_token_id"))
    own |= _tables(own, PREFIXES)
    found = _renamed(tensors, PREFIXES)
    named = kind.text_type if kind.fixed else text.get("model_type", kind.text_type)
    if kind.tied is not None:  # a head that is there is another one than the embedding, whatever is said
        own["tie_word_embeddings"] = own.get("tie_word_embeddings", kind.tied) and not _has_head(found)
    return kind.left_out | text | own | {"model_type": named}, found


def _tables(config: Mapping[str, Any], prefixes: Mapping[str, str]) -> dict[str, Any]:
    """The tables of the configuration that go by modules, with the names that these get."""
    tables = {key: config.get(key) for key in ("quantization", "quantization_config")}
    return {
        key: {text_name(name, prefixes): value for name, value in table.items()}
        for key, table in tables.items()
        if isinstance(table, dict)
    }


def _renamed(tensors: Mapping[str, TensorInfo], prefixes: Mapping[str, str]) -> dict[str, TensorInfo]:
    names: dict[str, str] = {}
    for name, info in tensors.items():
        inner = text_name(name, prefixes)
        if inner in names:
            raise CheckpointError(
                f"{info.file}: tensors {quoted(name)} and {quoted(names[inner])} are the same of the text "
                "part; download it again"
            )
        names[inner] = name
    return {inner: replace(tensors[name], name=inner) for inner, name in names.items()}


def _counted(config: Mapping[str, Any]) -> dict[str, Any]:
    """The number of layers, where a list of their kinds says it. Beside a pattern of signs the number that is given
    stays: the family compares the two."""
    for key in ("layers_block_type", "layer_types", "hybrid_override_pattern"):
        if isinstance(config.get(key), (list, str)):
            kept = key == "hybrid_override_pattern" and config.get("num_hidden_layers") is not None
            return {} if kept else {"num_hidden_layers": len(config[key])}
    return {}


def _has_head(names: Iterable[str]) -> bool:
    return any(name.startswith("lm_head.") for name in names)


def _both(outer: Any, inner: Any) -> Any:
    """The end tokens of both configurations; one of them may name those of the chat alone."""
    ids = [item for value in (outer, inner) for item in (value if isinstance(value, list) else [value])]
    return [item for i, item in enumerate(ids) if item is not None and item not in ids[:i]] or None


def earlier_names() -> list[tuple[str, str]]:
    """Beginnings of names that changed: (new, old)."""
    changes = [PREFIXES, *RENAMED.values()]
    return [(new, old) for change in changes for old, new in change.items()]


def is_other_part(name: str) -> bool:
    """Whether a tensor belongs to images or sound."""
    return OTHERS.match(name) is not None


def text_name(name: str, prefixes: Mapping[str, str] = PREFIXES) -> str:
    """The name that a tensor or module has in a text model alone, by the beginnings that change."""
    for prefix, short in prefixes.items():
        if name.startswith(prefix):
            return short + name.removeprefix(prefix)
    return name
