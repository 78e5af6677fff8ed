"""The files beside the weights of an MLX folder; config.json, without which a folder is no checkpoint, comes last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..checkpoints.chat import DEFAULT
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import Quantization
from ..checkpoints.folder import INDEX
from ..checkpoints.gguf.checkpoint import GgufCheckpoint
from . import files
from .configuration import converted_config, stated_rope
from .mlx_output import quantization
from .settings import Settings
from .shards import Shard, index
from .tensors import Output

__all__ = ["finish_folder"]

OWN = ("quantization", "quantization_config")


def finish_folder(
    checkpoint: Checkpoint, folder: Path, outputs: list[Output], shards: list[Shard], settings: Settings
) -> None:
    """Writes them."""
    config = {key: value for key, value in checkpoint.config.items() if key not in OWN}
    if isinstance(checkpoint, GgufCheckpoint):
        config = _config(checkpoint)
        _write_tokenizer(checkpoint, folder)
    else:
        files.copy_files(checkpoint.path, folder)
    files.write_json(folder / INDEX, index(shards))
    assert isinstance(settings.scheme, Quantization)
    files.write_json(folder / "config.json", converted_config(config, quantization(outputs, settings.scheme)))


def _config(checkpoint: GgufCheckpoint) -> dict[str, Any]:
    """The configuration that the file amounts to, with the tokens that begin and end a text."""
    config = {key: value for key, value in checkpoint.config.items() if not key.startswith("_")}
    config |= {"rope_parameters": stated_rope(config, checkpoint.source)}
    ends = list(checkpoint.end_tokens)
    return config | {"bos_token_id": checkpoint.bos_token, "eos_token_id": ends[0] if len(ends) == 1 else ends or None}


def _write_tokenizer(checkpoint: GgufCheckpoint, folder: Path) -> None:
    """tokenizer.json, which adds the beginning token, and tokenizer_config.json, which names the special ones."""
    tokenizer = checkpoint.tokenizer()
    content = json.loads(tokenizer.to_json())
    named = checkpoint.special_texts()
    if checkpoint.bos_token is not None:
        begin = named["bos_token"]
        first = [{"SpecialToken": {"id": begin, "type_id": 0}}]
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [*first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [*first, *({"Sequence": {"id": name, "type_id": 0}} for name in "AB")],
            "special_tokens": {begin: {"id": begin, "ids": [checkpoint.bos_token], "tokens": [begin]}},
        }
    files.write_json(folder / "tokenizer.json", content)
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"} | named
    templates = checkpoint.chat().templates
    if templates:
        listed = [{"name": name, "template": text} for name, text in templates.items()]
        settings["chat_template"] = templates[DEFAULT] if list(templates) == [DEFAULT] else listed
    files.write_json(folder / "tokenizer_config.json", settings)
