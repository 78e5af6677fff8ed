"""The other files of a checkpoint: tokenizer, chat template, generation settings; each appears whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from ..checkpoints.folder import INDEX
from .writer import UNFINISHED

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


def copy_files(source: Path, folder: Path) -> list[str]:
    """Copies what goes with the weights; the names of the copies."""
    files = sorted({file for pattern in COPIED for file in source.glob(pattern) if file.is_file()})
    names = [
        str(file.relative_to(source))
        for file in files
        if file.name not in MADE and not file.name.endswith(".index.json")
    ]
    for name in names:
        put(folder / name, lambda target, name=name: shutil.copyfile(source / name, target))
    return names


def write_json(path: Path, value: dict) -> None:
    text = json.dumps(value, indent=4, ensure_ascii=False) + "\n"
    put(path, lambda target: target.write_text(text, encoding="utf-8"))


def put(path: Path, write) -> None:
    """The file at `path`, made by `write` under another name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + UNFINISHED)
    write(unfinished)
    with open(unfinished, "rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(unfinished, path)
