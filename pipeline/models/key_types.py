"""The types of the values in config.json, by transformers' configuration classes, which check them strictly.

A family reads the keys that its forward pass needs. A value of a wrong type at another key says that the file is
damaged or that another program wrote it, so it is refused, too. data/config_types.json has the types, key by key; a
test compares it with transformers. null is always taken: it stands for a key that is absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..printing import brief
from .defaults import defaults_of

__all__ = ["check_types"]

FILE = Path(__file__).parents[1] / "data" / "config_types.json"
WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a word",
    "list": "a list",
    "dict": "an object",
}
# Every family may have these keys beside the fields of its class.
EVERYWHERE: dict[str, tuple[str, ...]] = {
    "rope_scaling": ("dict",),
    "rope_theta": ("float",),
    "partial_rotary_factor": ("float",),
    "bos_token_id": ("int",),
    "eos_token_id": ("int", "list"),
    "pad_token_id": ("int",),
    "use_cache": ("bool",),
}
# The objects about rope have these keys.
OF_ROPE = {
    "rope_type": ("str",),
    "type": ("str",),
    "truncate": ("bool",),
    "original_max_position_embeddings": ("int",),
    "short_factor": ("list",),
    "long_factor": ("list",),
    "mrope_section": ("list",),
    **dict.fromkeys(("rope_theta", "partial_rotary_factor", "factor", "alpha", "attention_factor"), ("float",)),
    **dict.fromkeys(("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "low_freq_factor"), ("float",)),
    **dict.fromkeys(("high_freq_factor", "short_mscale", "long_mscale", "llama_4_scaling_beta"), ("float",)),
}


@cache
def _table() -> dict[str, tuple[str, ...]]:
    return {key: tuple(kinds) for key, kinds in json.loads(FILE.read_text()).items()}


def check_types(config: Mapping[str, Any], source: str) -> None:
    """CheckpointError for the first key that the family's class knows and whose value has another type."""
    known = defaults_of(config.get("model_type"))
    for key, value in config.items():
        kinds = (_table().get(key, ()) if key in known else ()) or EVERYWHERE.get(key, ())
        _check(key, value, kinds, source)
        if key in ("rope_parameters", "rope_scaling"):
            for name, part in (value or {}).items():
                for inner, found in part.items() if isinstance(part, dict) else ((name, part),):
                    _check(inner, found, OF_ROPE.get(inner, ()), f"{source}: {key}")


def _check(key: str, value: object, kinds: tuple[str, ...], source: str) -> None:
    if kinds and not any(_is(value, kind) for kind in (*kinds, "null")):
        words = " or ".join(WORDS[kind] for kind in kinds)
        raise CheckpointError(f"{source}: {key!r} must be {words}, found {brief(value)}")


def _is(value: object, kind: str) -> bool:
    """Whether it is of that kind; every whole number is a number."""
    found = {"NoneType": "null"}.get(type(value).__name__, type(value).__name__)
    return found == kind or (found, kind) == ("int", "float")
