"""A checkpoint's folder as Hugging Face and MLX lay it out: config.json, tokenizer.json and safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models

from ..errors import CheckpointError
from .chat import DEFAULT, Chat, read_template
from .checkpoint import Checkpoint
from .config import read_json, token_ids
from .end_tokens import END_TEXTS, only_ends, template_ends
from .files import exists
from .folder_tokenizer import special_texts, with_transformers_rules
from .panics import panics_become
from .safetensors import Header
from .shards import INDEX, merged, no_weights, read_weights
from .tensor_info import TensorInfo
from .text_part import text_part
from .tokenizer import Tokenizer
from .tokenizer_files import TOKENIZER, add_ends, read_core

__all__ = ["INDEX", "Folder", "open_folder"]


# The end token that transformers' configuration class has where no file names one.
_ENDS = {
    1: "gemma3_text gemma4_text gemma4_unified_text deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa",
    2: "llama mistral ministral ministral3 mistral4 mixtral seed_oss internlm3 iquestcoder ernie4_5 ernie4_5_moe "
    "granite granitemoe granitemoeshared deepseek_v2 hunyuan_v1_dense hunyuan_v1_moe "
    "nemotron_h llama4_text phimoe",
    53: "exaone_moe",
    32000: "phi3",
    50279: "olmoe olmo2 olmo3",
    128001: "smollm3 youtu",
    200020: "minimax_m2",
}
DEFAULT_ENDS = {name: end for end, names in _ENDS.items() for name in names.split()}


class Folder(Checkpoint):
    """An open folder. Made by `open_folder`."""

    def __init__(
        self, path: Path, config: dict[str, Any], headers: list[Header], tensors: dict[str, TensorInfo]
    ) -> None:
        sizes = {header.file: header.size for header in headers}
        super().__init__(path, path / "config.json", config, sizes, tensors)
        self._tokenizer: Tokenizer | None = None
        self._ends: tuple[int, ...] | None = None
        self._named_ends = _named_ends(path, config)  # files with impossible ids are refused at once

    @property
    def end_tokens(self) -> tuple[int, ...]:
        if self._ends is None:
            try:
                self._ends = self.tokenizer().end_tokens
            except CheckpointError:  # the model can be used with token ids all the same
                self._ends = self._named_ends
        return self._ends

    @property
    def bos_token(self) -> int | None:
        try:
            return self.tokenizer().begins_with
        except CheckpointError:
            return None

    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = self._make_tokenizer()
        return self._tokenizer

    def _make_tokenizer(self) -> Tokenizer:
        settings = self.path / "tokenizer_config.json"
        config, special = _optional_json(settings), _optional_json(self.path / "special_tokens_map.json")
        core = read_core(self.path, config)

        def bad(what: str) -> CheckpointError:
            return CheckpointError(f"{core.file}: not a tokenizer: {what}; download it again")

        with panics_become(bad, silent=True):
            with_transformers_rules(core.tokenizer, self.config.get("model_type"), config, special, settings)
            if core.file.name != TOKENIZER:
                add_ends(core, special_texts(config, special), config)
            made = Tokenizer(core.tokenizer, clean_up=_cleans_up(core.tokenizer, config))
            made.set_ends(self._named_ends, self._end_texts(config, special, made))
            if not made.end_tokens and "eos_token_id" not in self.config:
                default = DEFAULT_ENDS.get(str(self.config.get("model_type")))
                made.set_ends([default] if default is not None and made.is_special(default) else [], ())
        return made

    def _end_texts(self, config: dict[str, Any], special: dict[str, Any], made: Tokenizer) -> set[str]:
        """The texts of end tokens that the tokenizer's files and the chat templates name."""
        named = {special_texts(source, {}).get("eos_token", "") for source in (config, special)} - {""}
        ends = only_ends(template_ends(_templates(self.path, config)[1].values()), made.knows)
        return named | {text for text in ends if text in END_TEXTS or made.knows(text)}

    def chat(self) -> Chat:
        config = _optional_json(self.path / "tokenizer_config.json")
        source, templates = _templates(self.path, config)
        return Chat(source, templates, special_texts(config, _optional_json(self.path / "special_tokens_map.json")))


def open_folder(path: Path) -> Folder:
    """The checkpoint in folder `path`; every header is checked against its file's size."""
    if not exists(path / "config.json") and any(path.glob("*.gguf")):
        raise no_weights(path)
    config = _modelopt(read_json(path / "config.json"), path / "hf_quant_config.json")
    headers, note = read_weights(path)
    config, tensors = text_part(config, merged(headers), path / "config.json")
    folder = Folder(path, config, headers, tensors)
    folder.note = note
    return folder


def _modelopt(config: dict[str, Any], file: Path) -> dict[str, Any]:
    """The configuration with what older versions of ModelOpt keep in a file of its own."""
    if any(config.get(key) is not None for key in ("quantization", "quantization_config")) or not exists(file):
        return config
    values = read_json(file).get("quantization")
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: 'quantization' must be an object; download it again")
    return config | {"quantization_config": values | {"quant_method": "modelopt"}}


def _named_ends(path: Path, config: dict[str, Any]) -> tuple[int, ...]:
    """The end tokens that generation_config.json and config.json name by their ids."""
    generation = _optional_json(path / "generation_config.json")
    end = token_ids(generation, "eos_token_id", str(path / "generation_config.json"))
    end += token_ids(config, "eos_token_id", str(path / "config.json"))
    return tuple(dict.fromkeys(end))


def _cleans_up(core: tokenizers.Tokenizer, config: dict[str, Any]) -> bool:
    """Whether decoding takes spaces out before punctuation, by the rules of transformers."""
    forced = bool(config.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"))
    return bool(config.get("clean_up_tokenization_spaces")) and (forced or not isinstance(core.model, models.BPE))


def _templates(path: Path, tokenizer: dict[str, Any]) -> tuple[Path, dict[str, str]]:
    """The chat templates, and the file for messages: files of their own before tokenizer_config.json."""
    file = path / "chat_template.jinja"
    more = {item.stem: read_template(item) for item in sorted((path / "additional_chat_templates").glob("*.jinja"))}
    if exists(file):
        return file, {DEFAULT: read_template(file)} | more
    source = path / "tokenizer_config.json"
    found = tokenizer.get("chat_template")
    if found is None and exists(path / "chat_template.json"):
        source = path / "chat_template.json"
        found = read_json(source).get("chat_template")
    entries = found if isinstance(found, list) else [] if found is None else [{"name": DEFAULT, "template": found}]
    named = {}
    for entry in entries:
        name, template = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(template, str):
            raise CheckpointError(
                f"{source}: 'chat_template' must be a text or a list of objects with name and template; "
                "download it again"
            )
        named[name] = template
    return source, named | more


def _optional_json(file: Path) -> dict[str, Any]:
    return read_json(file) if exists(file) else {}
