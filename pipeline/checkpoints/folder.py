"""A checkpoint's folder as Hugging Face and MLX lay it out: config.json, tokenizer.json and safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .chat import DEFAULT, Chat, read_template
from .checkpoint import Checkpoint
from .config import read_json, token_ids
from .safetensors import Header
from .shards import INDEX, merged, no_weights, read_weights
from .tensor_info import TensorInfo
from .text_part import text_part
from .tokenizer import Tokenizer

__all__ = ["INDEX", "Folder", "open_folder"]

SPECIAL_TEXTS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Folder(Checkpoint):
    """An open folder. Made by `open_folder`."""

    def __init__(
        self, path: Path, config: dict[str, Any], headers: list[Header], tensors: dict[str, TensorInfo]
    ) -> None:
        sizes = {header.file: header.size for header in headers}
        super().__init__(path, path / "config.json", config, sizes, tensors)
        self._end_tokens, self._bos_token = _special_tokens(path, config)

    @property
    def end_tokens(self) -> tuple[int, ...]:
        return self._end_tokens

    @property
    def bos_token(self) -> int | None:
        return self._bos_token

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.open(self.path / "tokenizer.json", self.bos_token)

    def chat(self) -> Chat:
        tokenizer = _optional_json(self.path / "tokenizer_config.json")
        source, templates = _templates(self.path, tokenizer)
        return Chat(source, templates, _special_texts(self.path, tokenizer))


def open_folder(path: Path) -> Folder:
    """The checkpoint in folder `path`; every header is checked against its file's size."""
    if not (path / "config.json").exists() and any(path.glob("*.gguf")):
        raise no_weights(path)
    config = read_json(path / "config.json")
    headers, note = read_weights(path)
    config, tensors = text_part(config, merged(headers), path / "config.json")
    folder = Folder(path, config, headers, tensors)
    folder.note = note
    return folder


def _special_tokens(path: Path, config: dict[str, Any]) -> tuple[tuple[int, ...], int | None]:
    """The end tokens, from generation_config.json and config.json, and the beginning token.

    Some families name a bos_token_id that their tokenizer never uses: tokenizer_config.json has the last word.
    """
    generation = _optional_json(path / "generation_config.json")
    end = token_ids(generation, "eos_token_id", str(path / "generation_config.json"))
    end += token_ids(config, "eos_token_id", str(path / "config.json"))
    begin = token_ids(config, "bos_token_id", str(path / "config.json"))
    tokenizer = _optional_json(path / "tokenizer_config.json")
    wanted = tokenizer.get("add_bos_token")
    if wanted is None:
        wanted = not tokenizer or bool(tokenizer.get("bos_token"))
    return tuple(dict.fromkeys(end)), begin[0] if begin and wanted else None


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


def _special_texts(path: Path, tokenizer: dict[str, Any]) -> dict[str, str]:
    """The texts of the special tokens, which templates write."""
    values = _optional_json(path / "special_tokens_map.json") | {k: v for k, v in tokenizer.items() if v is not None}
    found = {}
    for name in SPECIAL_TEXTS:
        value = values.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found


def _optional_json(file: Path) -> dict[str, Any]:
    return read_json(file) if file.exists() else {}
