"""How mlx-lm lays out the weights of each family, against Hugging Face's checkpoints.

An entry states what mlx-lm's model file of that name does when it loads (`sanitize`) and quantises (`quant_predicate`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from ..checkpoints.text_part import is_other_part

__all__ = ["FAMILIES", "Family", "left_out"]

LAYER = re.compile(r"\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Family:
    """One family's layout.

    stacked    modules of single experts: the expression finds the part of the name before them, the expert's number
               and its projection; `projections` names the stack's, below `stack`
    halves     a stack of gate and up in one tensor, the gate's rows first
    joined     a matrix of gate and up, the gate's rows first, whose halves go below `stack`
    plain      the layout where the configuration has no experts
    renamed    expressions and what the name becomes
    precise    modules that mlx-lm stores in 8 bits, in groups of 64
    whole      modules that it never quantises
    latent     kv_b_proj becomes embed_q and unembed_out
    clamped    gpt-oss: gate and up alternate, row by row
    taps       weights of convolutions, whose last two dimensions are exchanged
    centred    weights of norms to which 1 is added
    model_type  what the configuration says instead
    """

    stacked: str | None = None
    stack: str = "switch_mlp"
    projections: tuple[tuple[str, str], ...] = ()
    halves: str | None = None
    joined: str | None = None
    plain: Family | None = None
    renamed: tuple[tuple[str, str], ...] = ()
    precise: str | None = None
    whole: str | None = None
    latent: bool = False
    clamped: bool = False
    taps: str | None = None
    centred: str | None = None
    model_type: str | None = None


SAME = (("gate_proj", "gate_proj"), ("up_proj", "up_proj"), ("down_proj", "down_proj"))
ALONE = r"(.*\.mlp)\.experts\.(\d+)\.(gate_proj|up_proj|down_proj)"
_W = (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj"))
DENSE = Family()
MIXTURE = Family(stacked=ALONE, projections=SAME)
_QWEN3_NEXT = Family(
    stacked=ALONE,
    projections=SAME,
    halves=r"(.*\.mlp)\.experts\.gate_up_proj",
    renamed=((r"\.experts\.down_proj$", ".switch_mlp.down_proj.weight"),),
    precise=r"mlp\.gate$|shared_expert_gate$",
    taps=r"\.conv1d\.weight$",
    centred=r"(\.(input_layernorm|post_attention_layernorm|q_norm|k_norm)|^model\.norm)\.weight$",
)
_NEMOTRON = (
    (r"^model\.embed_tokens\.", "backbone.embeddings."),
    (r"^model\.norm\.", "backbone.norm_f."),
    (r"^model\.", "backbone."),
)
SIGMOID = Family(stacked=ALONE, projections=SAME, whole=r"\.mlp\.gate$")

FAMILIES = {
    "llama": DENSE,
    "mistral": DENSE,
    "qwen2": DENSE,
    "qwen3": DENSE,
    "gemma3_text": DENSE,
    "olmoe": MIXTURE,
    "qwen2_moe": MIXTURE,
    "qwen3_moe": Family(stacked=ALONE, projections=SAME, precise=r"mlp\.gate$"),
    "qwen3_next": _QWEN3_NEXT,
    "qwen3_5_moe_text": replace(_QWEN3_NEXT, model_type="qwen3_5_moe"),
    "qwen3_5_text": Family(taps=_QWEN3_NEXT.taps, centred=_QWEN3_NEXT.centred, model_type="qwen3_5"),
    "lfm2": Family(taps=r"\.conv\.weight$"),
    "lfm2_moe": Family(
        stacked=r"(.*\.feed_forward)\.experts\.(\d+)\.(w1|w2|w3)",
        projections=_W,
        renamed=tuple((rf"\.{old}\.weight$", f".{new}.weight") for old, new in _W),
        precise=r"feed_forward\.gate$",
        taps=r"\.conv\.weight$",
    ),
    "nemotron_h": Family(
        stacked=r"(.*\.mixer)\.experts\.(\d+)\.(up_proj|down_proj)",
        projections=(("up_proj", "fc1"), ("down_proj", "fc2")),
        renamed=_NEMOTRON,
        whole=r"\.mixer\.gate$",
        taps=r"\.conv1d\.weight$",
    ),
    "mixtral": Family(stacked=r"(.*\.block_sparse_moe)\.experts\.(\d+)\.(w1|w2|w3)", projections=_W),
    "granitemoe": Family(
        halves=r"(.*\.block_sparse_moe)\.input_linear\.weight",
        renamed=((r"\.output_linear\.weight$", ".switch_mlp.down_proj.weight"),),
        precise=r"block_sparse_moe\.router\.layer$|self_attn\.o_proj$|mlp\.down_proj$|^lm_head$",
    ),
    "granitemoehybrid": Family(
        halves=r"(.*\.block_sparse_moe)\.input_linear\.weight",
        renamed=((r"\.block_sparse_moe\.output_linear\.weight$", ".block_sparse_moe.switch_mlp.down_proj.weight"),),
        precise=r"router\.layer$",
        taps=r"\.conv1d\.weight$",
        plain=Family(
            joined=r"(.*)\.shared_mlp\.input_linear\.weight",
            stack="mlp",
            renamed=((r"\.shared_mlp\.output_linear\.weight$", ".mlp.down_proj.weight"),),
            taps=r"\.conv1d\.weight$",
        ),
    ),
    "gemma4_text": Family(
        halves=r"(.*\.experts)\.gate_up_proj(?:\.weight)?",
        stack="switch_glu",
        renamed=((r"\.experts\.down_proj(\.weight)?$", ".experts.switch_glu.down_proj.weight"),),
        precise=r"router\.proj$",
    ),
    "gpt_oss": Family(precise=r"router$", clamped=True),
    "deepseek_v2": SIGMOID,
    "glm4_moe": SIGMOID,
    "deepseek_v3": Family(stacked=ALONE, projections=SAME, whole=r"\.mlp\.gate$", latent=True),
    "glm4_moe_lite": Family(stacked=ALONE, projections=SAME, whole=r"\.mlp\.gate$", latent=True),
}

ROTARY = "rotary_emb.inv_freq"  # frequencies that the configuration gives, too


def left_out(name: str, config: dict[str, Any]) -> bool:
    """Whether mlx-lm has no place for a tensor: old rotary frequencies, a tied head, layers behind the last one, the
    image part of a model that is converted as its text part."""
    layer = LAYER.search(name)
    return (
        ROTARY in name
        or is_other_part(name)
        or name.startswith("mtp.")
        or (name.startswith("lm_head.") and config.get("tie_word_embeddings") is True)
        or (layer is not None and int(layer[1]) >= config["num_hidden_layers"])
    )
