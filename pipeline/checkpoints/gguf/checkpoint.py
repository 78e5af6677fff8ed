"""A GGUF file, or the parts that it was split into, as a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...errors import CheckpointError
from ..chat import DEFAULT, Chat
from ..checkpoint import Checkpoint
from ..tensor_info import TensorInfo, listed, quoted
from ..tokenizer import Tokenizer
from .configuration import make_config
from .families import FAMILIES, family_key
from .header import Header, read_header
from .names import tensor_name
from .tokenizer import Vocabulary, make_tokenizer
from .values import FIX

__all__ = ["GgufCheckpoint", "open_gguf"]

MOST_NAMED = 100  # missing parts
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class GgufCheckpoint(Checkpoint):
    """An open file. Made by `open_gguf`.

    architecture   as the file calls it
    metadata       its keys and values
    known_names    the names of `tensors` by those in the file
    """

    class_defaults = False  # what a file does not say, llama.cpp's code does, and configuration.py

    def __init__(self, path: Path, headers: list[Header], tensors: dict[str, TensorInfo]) -> None:
        main = replace(headers[0], tensors=tensors)
        self.metadata = main.metadata
        self.architecture = _architecture(main)
        family = FAMILIES.get(family_key(self.architecture, self.metadata))
        config = {"model_type": self.architecture} if family is None else make_config(main, self.architecture, family)
        if family is None:
            self.instead = tuple(FAMILIES)
        else:
            self.layout = family.layout
        block = family.names if family else {}
        renamed = _renamed(main.file, tensors, block)
        self.known_names = {name: tensor_name(name, block) for name in tensors}
        super().__init__(path, main.file, config, {header.file: header.size for header in headers}, renamed)
        # The configuration has their numbers.
        self._asked |= {f"rope_{name}.weight" for name in ("freqs", "factors_short", "factors_long")}
        self._vocabulary = Vocabulary(main.file, self.metadata)
        self._ends: tuple[int, ...] | None = None  # found when asked for: it reads the whole vocabulary

    @property
    def end_tokens(self) -> tuple[int, ...]:
        if self._ends is None:
            self._ends = self._vocabulary.end_tokens(_templates(self.metadata).values())
        return self._ends

    @property
    def bos_token(self) -> int | None:
        return self._vocabulary.bos_token()

    def tokenizer(self) -> Tokenizer:
        core = make_tokenizer(self._vocabulary, self.end_tokens)
        made = Tokenizer(core, self.bos_token, self._vocabulary.eos_token())
        made.set_ends(self.end_tokens, ())
        return made

    def chat(self) -> Chat:
        return Chat(self.source, _templates(self.metadata), self.special_texts())

    def special_texts(self) -> dict[str, str]:
        """The texts of the special tokens by their names: "bos_token" -> "<s>"."""
        return self._vocabulary.special_texts()


def open_gguf(path: Path) -> GgufCheckpoint:
    """The checkpoint in file `path`, and in the other parts of it where it was split."""
    first = read_header(path)
    headers = _parts(path, first)
    tensors: dict[str, TensorInfo] = {}
    for header in headers:
        for name, info in header.tensors.items():
            if name in tensors:
                raise CheckpointError(f"{header.file}: tensor {quoted(name)} is in {tensors[name].file}, too; {FIX}")
            tensors[name] = info
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors, only metadata; give a file with weights")
    _check_total(headers, len(tensors))
    return GgufCheckpoint(path, headers, tensors)


def _architecture(header: Header) -> str:
    value = header.metadata.get("general.architecture")
    if not isinstance(value, str) or not value:
        raise CheckpointError(
            f'{header.file}: key "general.architecture" must name the architecture, found {quoted(value)}; {FIX}'
        )
    return value


def _templates(metadata: Mapping[str, object]) -> dict[str, str]:
    """The chat templates: "tokenizer.chat_template", and "tokenizer.chat_template.NAME" where there are several."""
    key = "tokenizer.chat_template"
    named = {name.removeprefix(f"{key}."): value for name, value in metadata.items() if name.startswith(f"{key}.")}
    found = {DEFAULT: metadata.get(key)} | named
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _parts(path: Path, header: Header) -> list[Header]:
    """The headers of all parts, the first part's first: it has the metadata."""
    count = header.metadata.get("split.count", 1)
    if count == 1 or count == 0:
        return [header]
    match = _PART.fullmatch(path.name)
    if type(count) is not int or match is None or int(match[3]) != count or not 1 <= int(match[2]) <= count:
        raise CheckpointError(
            f'{path}: is a part of {quoted(count)} by its key "split.count"; give it its name back, '
            "such as model-00001-of-00003.gguf"
        )
    files = [path.with_name(f"{match[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} of its {count} parts are not found: {listed(missing, MOST_NAMED)}; download them"
        )
    headers = [header if file == path else read_header(file) for file in files]
    for number, part in enumerate(headers):
        if part.metadata.get("split.no", 0) != number or part.metadata.get("split.count") != count:
            raise CheckpointError(
                f"{part.file}: is not part {number + 1} of {count}, as its name says; download it again"
            )
    return headers


def _check_total(headers: list[Header], found: int) -> None:
    total = headers[0].metadata.get("split.tensors.count", found)
    if len(headers) > 1 and total != found:
        raise CheckpointError(
            f'{headers[0].file}: its parts hold {found:,} tensors, its key "split.tensors.count" says '
            f"{quoted(total)}; download them again"
        )


def _renamed(file: Path, tensors: dict[str, TensorInfo], block: Mapping[str, str]) -> dict[str, TensorInfo]:
    """The tensors by the names that families know, in the shape that transformers gives them."""
    renamed: dict[str, TensorInfo] = {}
    for name, info in tensors.items():
        known = tensor_name(name, block)
        if known in renamed:
            raise CheckpointError(f"{file}: tensor {quoted(name)} and another one are both {known}; {FIX}")
        shape = (
            (1, *info.shape) if known.endswith(".shared_expert_gate.weight") and len(info.shape) == 1 else info.shape
        )
        renamed[known] = replace(info, name=known, shape=shape)
    return renamed
