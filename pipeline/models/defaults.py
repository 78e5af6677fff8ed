"""The values that keys of config.json have where they are absent: those of transformers' configuration classes.

data/config_defaults.json has them, one object for each model_type. A test compares it with transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["defaults_of", "with_defaults"]

FILE = Path(__file__).parents[1] / "data" / "config_defaults.json"

# Keys with which null says another thing than their absence: no window, one key-value head for each head and so on.
NULL_SAYS_MORE = ("sliding_window", "num_key_value_heads", "head_dim", "q_lora_rank", "attention_value_scale")

# Other names that a class takes for some keys.
ALSO = {
    "internlm3": {"attention_bias": "qkv_bias", "mlp_bias": "bias"},
    "nemotron_h": {
        "conv_kernel": "mamba_d_conv",
        "n_groups": "mamba_n_groups",
        "time_step_min": "mamba_dt_min",
        "use_conv_bias": "mamba_conv_bias",
    },
}


@cache
def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
    return table


def defaults_of(model_type: object) -> Mapping[str, Any]:
    """The defaults of a family; none where it is not known."""
    return _table().get(model_type, {}) if isinstance(model_type, str) else {}


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in which the keys that are absent have their values; null counts as absent for most."""
    family = config.get("model_type")
    also = ALSO.get(family, {}) if isinstance(family, str) else {}
    config = {key: config[other] for key, other in also.items() if other in config} | dict(config)
    given = {key: value for key, value in config.items() if value is not None or key in NULL_SAYS_MORE}
    return {**config, **defaults_of(config.get("model_type")), **given}
