"""The other files of a checkpoint: tokenizer, chat template, generation settings; each appears whole."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..checkpoints.folder import INDEX
from .writer import UNFINISHED

__all__ = ["copy_files", "put", "write_json"]

COPIED = (
    "*.json",
    "*.jinja",
    "*.txt",
    "*.jsonl",
    "*.tiktoken",
    "tokenizer.model",
    "additional_chat_templates/*.jinja",
    "LICENSE*",
    "NOTICE*",
)
MADE = ("config.json", INDEX)
OF_SOURCE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")  # how its weights were quantised


def copy_files(source: Path, folder: Path) -> list[str]:
    """Copies the files that go with the weights; returns the names of the copies."""
    files = sorted({file for pattern in COPIED for file in source.glob(pattern) if file.is_file()})
    names = [
        str(file.relative_to(source))
        for file in files
        if file.name not in (*MADE, *OF_SOURCE) and not file.name.endswith(".index.json")
    ]
    for name in names:
        put(folder / name, functools.partial(shutil.copyfile, source / name))
    return names


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes the file at `path`, indented as transformers does it."""
    text = json.dumps(value, indent=4, ensure_ascii=False) + "\n"
    put(path, lambda target: target.write_text(text, encoding="utf-8"))


def put(path: Path, write: Callable[[Path], object]) -> None:
    """Makes the file at `path` by `write`, under another name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + UNFINISHED)
    write(unfinished)
    with open(unfinished, "rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(unfinished, path)
