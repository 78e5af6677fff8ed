"""What transformers' configuration classes say of a configuration; `python tests/support/config_classes.py` writes
pipeline/data/config_defaults.json anew from them."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# Fields that say nothing of a forward pass, and tokens, which come from the files of the tokenizer.
LEFT_OUT = {
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "initializer_range",
    "num_mtp_layers",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "use_cache",
    "vocab_size_per_layer_input",
}
# What the classes take besides their fields.
MORE = {
    "glm4_moe": {"partial_rotary_factor": 0.5},
    "gemma3_text": {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6},
    "gemma4_text": {"global_head_dim": 512, "num_global_key_value_heads": None},
}


def class_defaults(model_type: str) -> dict[str, Any]:
    """The values of the keys of config.json that are absent, by the class's fields and by what it makes of them."""
    from transformers import CONFIG_MAPPING

    made = CONFIG_MAPPING[model_type]
    fields = {field.name: field for field in dataclasses.fields(made)}
    own = [name for name in made.__annotations__ if name in fields and name not in LEFT_OUT]
    found = {name: fields[name].default for name in own}
    if isinstance(made.default_theta, float) and model_type != "gemma4_text":
        found["rope_theta"] = made.default_theta
    if found["rope_parameters"] is None and model_type in ("gpt_oss", "gemma4_text"):  # made when an object is
        rope = made().rope_parameters
        found["rope_parameters"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    return found | MORE.get(model_type, {})


def main() -> None:
    from pipeline.models.defaults import FILE
    from pipeline.models.families import FAMILIES

    lines = [f'  "{name}": {json.dumps(class_defaults(name))}' for name in FAMILIES]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # in place of this folder, whose modules are named as others are
    main()
