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

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import Quantization
from ..checkpoints.folder import INDEX, Folder
from ..errors import CheckpointError, UsageError
from ..graph.plan import human
from . import files, journal
from .configuration import converted_config
from .shards import MOST_BYTES, Shard, index, make_shards
from .tensors import Output, make_outputs, quantization
from .writer import UNFINISHED, Writer, sync_folder

__all__ = ["Conversion", "Progress", "plan", "run"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OTHERS = 64_000_000  # bytes kept free for the small files


@dataclass(frozen=True)
class Conversion:
    """The work: from which checkpoint, into which folder, how."""

    checkpoint: Folder
    folder: Path
    scheme: Quantization
    outputs: list[Output]
    shards: list[Shard]

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
        return [name for name in self.checkpoint.tensors if name not in used]

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
            "bits": self.scheme.bits,
            "group_size": self.scheme.group_size,
        }


class Progress(Protocol):
    """The display that a conversion reports to."""

    def start(self, nbytes: int) -> None:
        """`nbytes` of the checkpoint will be read."""

    def advance(self, nbytes: int) -> None:
        """`nbytes` more of them were read."""

    def shard(self, name: str, number: int, count: int) -> None:
        """File `name`, number `number` of `count`, comes next."""


def plan(checkpoint: Checkpoint, folder: Path, scheme: Quantization, most_bytes: int = MOST_BYTES) -> Conversion:
    """The conversion of an open checkpoint; nothing is read or written yet."""
    if not isinstance(checkpoint, Folder):
        raise CheckpointError(f"{checkpoint.path}: a GGUF file cannot be converted; give a Hugging Face folder")
    outputs = make_outputs(checkpoint, scheme)
    return Conversion(checkpoint, folder, scheme, outputs, make_shards(outputs, most_bytes))


def run(conversion: Conversion, threads: int, progress: Progress) -> None:
    """Does the work, or the rest of it. UsageError where the folder cannot be used or the disk is full."""
    folder = conversion.folder
    try:
        _check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with journal.Journal(folder, conversion.work()) as record:
            _check_space(conversion)
            progress.start(conversion.stored_bytes)
            with Writer(conversion.checkpoint, folder, record, threads, progress.advance) as writer:
                for number, shard in enumerate(conversion.shards, 1):
                    progress.shard(shard.name, number, len(conversion.shards))
                    writer.write(shard)
            _finish(conversion)
            record.remove()
            sync_folder(folder)
    except OSError as error:
        where = error.filename or folder
        if error.errno in FULL:
            raise UsageError(
                f"{where}: {error.strerror}; make room and give the same command again, which goes on from there"
            ) from error
        raise UsageError(f"{where}: {error.strerror or error}") from error


def _finish(conversion: Conversion) -> None:
    """Writes the files beside the weights; config.json, without which a folder is no checkpoint, comes last."""
    checkpoint, folder = conversion.checkpoint, conversion.folder
    files.copy_files(checkpoint.path, folder)
    files.write_json(folder / INDEX, index(conversion.shards))
    table = quantization(conversion.outputs, conversion.scheme)
    files.write_json(folder / "config.json", converted_config(checkpoint.config, table))


def _check_folder(folder: Path) -> None:
    """Refuses a folder that is neither new nor empty, and in which no conversion was begun."""
    if not folder.exists() or (folder / journal.NAME).exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder}: is a file; give a folder that does not exist yet")
    if any(folder.iterdir()):
        raise UsageError(f"{folder}: is not empty; give a folder that does not exist yet, or delete what is in it")


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
