"""A checkpoint's folder as Hugging Face and MLX lay it out: config.json, tokenizer.json and safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models

from ..errors import CheckpointError, UnsupportedError
from .chat import DEFAULT, Chat, read_template
from .checkpoint import WEIGHTS, Checkpoint
from .config import read_json, token_ids
from .end_tokens import END_TEXTS, only_ends, template_ends
from .folder_tokenizer import special_texts, with_transformers_rules
from .safetensors import Header, read_header
from .tensor_info import TensorInfo, listed, quoted
from .text_part import text_part
from .tokenizer import Tokenizer, read_tokenizer

__all__ = ["INDEX", "Folder", "open_folder"]

INDEX = "model.safetensors.index.json"

# The end token that transformers' configuration class has where no file names one.
DEFAULT_ENDS = {
    **dict.fromkeys(("llama", "mistral", "mixtral", "granitemoe", "granitemoeshared", "deepseek_v2"), 2),
    **dict.fromkeys(("gemma3_text", "gemma4_text", "deepseek_v3"), 1),
    "olmoe": 50279,
}

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
            file, settings = self.path / "tokenizer.json", self.path / "tokenizer_config.json"
            config, special = _optional_json(settings), _optional_json(self.path / "special_tokens_map.json")
            core = read_tokenizer(file)
            with_transformers_rules(core, self.config.get("model_type"), config, special, settings)
            made = Tokenizer(core, clean_up=_cleans_up(core, config))
            made.set_ends(self._named_ends, self._end_texts(config, special, made))
            if not made.end_tokens and "eos_token_id" not in self.config:
                default = DEFAULT_ENDS.get(str(self.config.get("model_type")))
                made.set_ends([default] if default is not None and made.is_special(default) else [], ())
            self._tokenizer = made
        return self._tokenizer

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
    if not (path / "config.json").exists() and any(path.glob("*.gguf")):
        raise _no_weights(path)
    config = read_json(path / "config.json")
    if (path / WEIGHTS).exists():
        headers = [read_header(path / WEIGHTS)]
        tensors = headers[0].tensors
    elif (path / INDEX).exists():
        headers, tensors = _read_shards(path)
    else:
        raise _no_weights(path)
    config, tensors = text_part(config, tensors, path / "config.json")
    return Folder(path, config, headers, tensors)


def _read_shards(path: Path) -> tuple[list[Header], dict[str, TensorInfo]]:
    """The headers of the files that the index names, and all their tensors, which must lie where it says."""
    index = path / INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no 'weight_map' from tensors to files; download it again")
    for name, file in weight_map.items():
        if not isinstance(file, str) or file in ("", ".", "..") or any(c in file for c in "/\\\0"):
            raise CheckpointError(f"{index}: tensor {name!r} is in {file!r}, which is no file name; download it again")
    files = sorted(set(weight_map.values()))
    missing = [file for file in files if not (path / file).exists()]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} of the {len(files)} files that {INDEX} names are not found: "
            f"{listed(missing, len(missing))}; download them"
        )
    headers = {file: read_header(path / file) for file in files}
    for file in files:
        absent = [name for name, where in weight_map.items() if where == file and name not in headers[file].tensors]
        if absent:
            raise CheckpointError(
                f"{path / file}: has no tensor {listed(map(repr, absent))}, though {INDEX} says so; download it again"
            )
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        for name, info in headers[file].tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{path / file}: tensor {quoted(name)} is in {tensors[name].file.name}, too; download them again"
                )
            tensors[name] = info
    return list(headers.values()), tensors


def _no_weights(path: Path) -> CheckpointError:
    """The error for a folder without safetensors; the advice depends on the files that it holds instead."""
    names = sorted(item.name for item in path.iterdir())
    for name in names:
        if name.endswith(".gguf"):
            return CheckpointError(f"{path}: holds GGUF files and no {WEIGHTS}; give the file itself: {path / name}")
        if name.endswith((".bin", ".pt", ".pth")):
            return UnsupportedError(f"{path / name}: PyTorch weights are not supported; convert them to {WEIGHTS}")
    return CheckpointError(f"{path}: has neither {WEIGHTS} nor {INDEX}; download or convert it again")


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
    if file.exists():
        return file, {DEFAULT: read_template(file)} | more
    source = path / "tokenizer_config.json"
    found = tokenizer.get("chat_template")
    if found is None and (path / "chat_template.json").exists():
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
    return read_json(file) if file.exists() else {}
