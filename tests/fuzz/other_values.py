"""Other values for the keys of a config.json: other sizes, switches, words, lists and objects, and values of a wrong
type."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

WINDOW, TRAINED = 5, 16
# Values of keys of which neither the default nor the type tells one that says something.
WORTH_TRYING: dict[str, tuple[Any, ...]] = {
    "sliding_window": (WINDOW, None, 0),
    "time_step_limit": ([0.1, 0.2], [0.0, 0.5], [0.0, float("inf")]),
    "mamba_d_head": ("auto", 8),
    "hidden_act": ("gelu", "relu", "gelu_pytorch_tanh", "silu", "swish"),
    "hidden_activation": ("gelu", "relu", "gelu_pytorch_tanh", "silu"),
    "mlp_hidden_act": ("silu", "relu", "relu2"),
    "mamba_hidden_act": ("gelu", "silu", "swish"),
    "clip_qkv": (0.1, None),
    "q_lora_rank": (None, 24),
    "head_dim": (None, 16, 24),
    "num_key_value_heads": (None, 1, 2),
    "moe_latent_size": (None, 32),
    "final_logit_softcapping": (None, 2.0),
    "attn_logit_softcapping": (None, 2.0),
    "rope_scaling": ({"rope_type": "linear", "factor": 4.0},),
    "position_embedding_type": (None, "rope", "nope"),
    "topk_method": ("greedy", "noaux_tc", "group_limited_greedy"),
    "scoring_func": ("softmax", "sigmoid"),
    "score_func": ("softmax", "sigmoid"),
    "hybrid_override_pattern": ("M*M*M", "MEM*EM*E", "M-M*"),
    "use_bidirectional_attention": (True, "all"),
    "attention_chunk_size": (None, 5, 64),
    "sliding_window_pattern": (2, 3),
}
ROPES: tuple[dict[str, Any], ...] = (
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 4.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED, "attention_factor": 1.5},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED, "truncate": False},
    {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": TRAINED,
    },
    {"rope_type": "default", "partial_rotary_factor": 0.5},
    {"rope_type": "unheard of"},
)
WRONG: tuple[Any, ...] = ("wrong", [3], {"a": 1}, True, -3, 1.5)


def changes(config: Mapping[str, Any], skip: Container[str], *, wrong: bool) -> Iterator[tuple[str, Any]]:
    """(key, value): each key of `config` and of WORTH_TRYING with values other than its own; also with values of a
    `wrong` type."""
    for key in sorted({*config, *WORTH_TRYING}):
        if key in skip or key.startswith("_"):
            continue
        own, seen = config.get(key), []
        for value in (*_others(key, own), *(WRONG if wrong else ())):
            known = any(type(value) is type(each) and value == each for each in (*seen, own))
            if not known:
                seen.append(value)
                yield key, value


def _others(key: str, own: Any) -> Iterator[Any]:
    yield from WORTH_TRYING.get(key, ())
    if isinstance(own, bool):
        yield not own
    elif isinstance(own, int):
        yield from (own + 1, max(own - 1, 0), 2 * own, 0, 1, None)
    elif isinstance(own, float):
        yield from (own * 2, own / 2, 0.0, None)
    elif isinstance(own, list):
        yield from (own[::-1], own[:-1], [*own, *own[:1]], [], None)
    elif own is None:
        yield from (True, False, 1, 2, 0.5)
    elif isinstance(own, dict):
        yield from _objects(key, own)


def _objects(key: str, own: dict[str, Any]) -> Iterator[Any]:
    parts = [name for name, value in own.items() if isinstance(value, dict)]
    for part in parts:
        for value in _objects(key, own[part]):
            yield own | {part: value}
        yield {name: value for name, value in own.items() if name != part}
    if parts:
        return
    if "rope" in key:
        theta = own.get("rope_theta", 1e4)
        yield from ({"rope_theta": theta} | rope for rope in ROPES)
    for name, value in own.items():
        for other in (*_others(name, value), "wrong", [1], True, -1.0):
            if other != value:
                yield own | {name: other}
        yield {key: value for key, value in own.items() if key != name}
