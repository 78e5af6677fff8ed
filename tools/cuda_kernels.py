"""The kernels of the shaders that are compiled for GPUs when the package is built, where NVRTC is there: those that the
common models run. A device compiles others when they are first asked for, and keeps them."""

from __future__ import annotations

import os

from pipeline.metalc import nvrtc

WEIGHTS = ("bf16", "q4_bf16", "q8_bf16")
HOT = (
    *(f"{name}_{format}" for format in WEIGHTS for name in ("embed", "linear", "linear3")),
    *(f"experts_{part}_{format}" for format in WEIGHTS for part in ("gate_up", "down", "gate_up_grouped")),
    *(f"experts_down_grouped_{format}" for format in WEIGHTS),
    *(f"stage_activations_{bits}" for bits in ("q4", "q8")),
    *(
        f"staged_{name}_{format}"
        for format in ("q4_bf16", "q8_bf16")
        for name in ("linear", "linear3", "experts_gate_up_grouped", "experts_down_grouped")
    ),
    *(
        f"row_{name}_{format}"
        for format in ("q4_bf16", "q8_bf16")
        for name in ("linear", "linear3", "squares", "gate_up", "down", "experts")
    ),
    *("rms_norm_f32_bf16", "fused_residual_norm_f32_bf16", "moe_routing_bf16", "moe_routing_f32"),
    *(
        "attention_f16",
        "attention_f32",
        "attention_merge",
        *(f"attention_tensor_{dim}" for dim in (64, 128)),
        *(f"heads_attention_{norm}_{dim}" for norm in ("f32", "bf16") for dim in (64, 128)),
        "heads_to_cache_bf16_f16",
        "heads_to_cache_bf16_f32",
        "rope_table",
    ),
    *("row_repeats", "row_links", "causal_conv", "gated_delta", "gated_norm", "gate_heads"),
    *("clear_status", "experts_combine", "group_experts", "draw_part", "filter_limit", "logits_part"),
    *("sample", "sample_merge", "sample_part"),
)


def archs() -> tuple[str, ...]:
    """The architectures that kernels are compiled for: those of OB_ARCHS, else that of an H100 or H200; none without
    NVRTC."""
    named = tuple(os.environ.get("OB_ARCHS", "sm_90a").replace(",", " ").split())
    return named if nvrtc.find() else ()
