"""Opens a checkpoint, whatever files it is made of."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from .checkpoint import WEIGHTS, Checkpoint
from .files import exists, open_file
from .folder import open_folder
from .gguf import open_gguf

__all__ = ["open_checkpoint"]


def open_checkpoint(path: Path | str) -> Checkpoint:
    """The checkpoint at `path`, a folder or a GGUF file; headers are checked before anything is mapped for use.

    Raises CheckpointError, with the file, the tensor and what to do; UnsupportedError for another library's
    quantisation, another weight format or, in a GGUF file, another architecture.
    """
    path = Path(path)
    try:
        return _opened(path)
    except OSError as error:  # of listing a folder, for one
        raise CheckpointError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error


def _opened(path: Path) -> Checkpoint:
    if path.is_dir():
        return open_folder(path)
    if not exists(path):
        raise CheckpointError(f"{path}: no such folder or file; {_WANTED}")
    if path.suffix.lower() == ".gguf" or _starts_like_gguf(path):
        return open_gguf(path)
    raise CheckpointError(f"{path}: neither a folder nor a GGUF file; {_WANTED}")


_WANTED = f"give the folder that holds config.json and {WEIGHTS}, or a .gguf file"


def _starts_like_gguf(path: Path) -> bool:
    try:
        with open_file(path) as stream:
            return stream.read(4) == b"GGUF"
    except (OSError, CheckpointError):
        return False
