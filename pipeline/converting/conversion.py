"""One conversion, from the checks before it to the last file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..errors import UsageError
from ..graph.plan import human
from . import journal
from .finishing import finish_folder
from .gguf_file import make_file
from .gguf_output import gguf_contents
from .importance import importances
from .mlx_output import mlx_outputs
from .settings import Settings
from .shards import MOST_BYTES, Shard, make_shards
from .source import Source
from .tensors import Output
from .writer import UNFINISHED, Writer, sync_folder

__all__ = ["Conversion", "Progress", "plan", "run"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OTHERS = 64_000_000  # bytes kept free for the small files


@dataclass(frozen=True)
class Conversion:
    """The work: from which checkpoint, to which folder or file, how.

    metadata     of a GGUF file
    importance   by the output's name
    """

    source: Source
    out: Path
    settings: Settings
    outputs: list[Output]
    shards: list[Shard]
    metadata: dict[str, Any]
    importance: dict[str, np.ndarray]

    @property
    def checkpoint(self) -> Checkpoint:
        return self.source.checkpoint

    @property
    def folder(self) -> Path:
        """Where files are written."""
        return self.out.parent if self.settings.gguf else self.out

    @property
    def journal(self) -> Path:
        return self.out.with_name(f"{self.out.name}.{journal.NAME}") if self.settings.gguf else self.out / journal.NAME

    @property
    def stored_bytes(self) -> int:
        return sum(output.stored_bytes for output in self.outputs)

    @property
    def nbytes(self) -> int:
        return sum(shard.size for shard in self.shards)

    @property
    def left_out(self) -> list[str]:
        """Tensors of the checkpoint that mlx-lm has no place for."""
        used = {piece.tensor.name for output in self.outputs for piece in output.pieces}
        return [name for name in self.source.tensors if name not in used]

    def work(self) -> dict[str, Any]:
        """A description that two conversions share where one may go on with the other's files."""
        stats = {str(file): os.stat(file) for file in self.checkpoint.files}
        sources = {file: [stat.st_size, stat.st_mtime_ns] for file, stat in stats.items()}
        layout = hashlib.sha256(b"".join(shard.name.encode() + shard.header for shard in self.shards))
        config = hashlib.sha256(json.dumps(self.checkpoint.config, sort_keys=True).encode())
        return {
            "sources": sources,
            "config": config.hexdigest(),
            "layout": layout.hexdigest(),
            "settings": self.settings.described(),
        }


class Progress(Protocol):
    """The display that a conversion reports to."""

    def start(self, nbytes: int) -> None:
        """`nbytes` of the checkpoint will be read."""

    def advance(self, nbytes: int) -> None:
        """`nbytes` more of them were read."""

    def shard(self, name: str, number: int, count: int) -> None:
        """File `name`, number `number` of `count`, comes next."""


def plan(checkpoint: Checkpoint, out: Path, settings: Settings, most_bytes: int = MOST_BYTES) -> Conversion:
    """The conversion of an open checkpoint; nothing is written yet, and no weight is read."""
    source = Source(checkpoint, whole=settings.gguf)
    if settings.gguf:
        metadata, outputs = gguf_contents(source, settings)
        shards = [make_file(out.name, metadata, outputs)]
    else:
        metadata, outputs = {}, mlx_outputs(source, settings)
        shards = make_shards(outputs, most_bytes)
    _check_rules(settings, outputs)
    importance = {} if settings.importance is None else importances(settings.importance, outputs)
    return Conversion(source, out, settings, outputs, shards, metadata, importance)


def _check_rules(settings: Settings, outputs: list[Output]) -> None:
    """Refuses a rule that no tensor's name fits, as it would change nothing."""
    for rule in settings.rules:
        if not any(rule.expression.search(output.name) for output in outputs):
            example = max((output.name for output in outputs), key=len, default="")
            raise UsageError(f"--rule {rule.text}: fits no tensor; names are like {example}")


def run(conversion: Conversion, threads: int, progress: Progress) -> None:
    """Does the work, or the rest of it. UsageError where the folder cannot be used or the disk is full."""
    folder = conversion.folder
    try:
        _check_place(conversion)
        folder.mkdir(parents=True, exist_ok=True)
        with journal.Journal(conversion.journal, conversion.work()) as record:
            _check_space(conversion)
            progress.start(conversion.stored_bytes)
            source, advance, importance = conversion.source, progress.advance, conversion.importance
            with Writer(source, folder, record, threads, advance, importance) as writer:
                for number, shard in enumerate(conversion.shards, 1):
                    progress.shard(shard.name, number, len(conversion.shards))
                    writer.write(shard)
            if not conversion.settings.gguf:
                finish_folder(conversion.checkpoint, folder, conversion.outputs, conversion.shards, conversion.settings)
            record.remove()
            sync_folder(folder)
    except OSError as error:
        where = error.filename or folder
        if error.errno in FULL:
            raise UsageError(
                f"{where}: {error.strerror}; make room and give the same command again, which goes on from there"
            ) from error
        raise UsageError(f"{where}: {error.strerror or error}") from error
    finally:
        conversion.source.close()


def _check_place(conversion: Conversion) -> None:
    """Refuses a place that is neither new nor empty, and in which no conversion was begun."""
    out = conversion.out
    if not out.exists() or conversion.journal.exists():
        return
    if conversion.settings.gguf:
        raise UsageError(f"{out}: is there already; give a file that does not exist yet, or delete it")
    if not out.is_dir():
        raise UsageError(f"{out}: is a file; give a folder that does not exist yet")
    if any(out.iterdir()):
        raise UsageError(f"{out}: is not empty; give a folder that does not exist yet, or delete what is in it")


def _check_space(conversion: Conversion) -> None:
    """Refuses to begin where the disk has no room for the bytes that are not written yet."""
    there = sum(
        _allocated(conversion.folder / name)
        for shard in conversion.shards
        for name in (shard.name, shard.name + UNFINISHED)
    )
    needed = max(conversion.nbytes - there, 0) + OTHERS
    free = shutil.disk_usage(conversion.folder).free
    if needed > free:
        raise UsageError(
            f"{conversion.folder}: {human(needed)} are needed and {human(free)} are free; make room, "
            "or give a folder on another disk"
        )


def _allocated(path: Path) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0
