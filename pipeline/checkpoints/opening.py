"""Opens a checkpoint, whatever files it is made of."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from .checkpoint import WEIGHTS, Checkpoint
from .folder import open_folder
from .gguf import open_gguf

__all__ = ["open_checkpoint"]


def open_checkpoint(path: Path | str) -> Checkpoint:
    """The checkpoint at `path`, a folder or a GGUF file; headers are checked before anything is mapped for use.

    Raises CheckpointError, with the file, the tensor and what to do; UnsupportedError for another library's
    quantisation, another weight format or, in a GGUF file, another architecture.
    """
    path = Path(path)
    if path.is_dir():
        return open_folder(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such folder or file; {_WANTED}")
    if path.suffix.lower() == ".gguf" or _starts_like_gguf(path):
        return open_gguf(path)
    raise CheckpointError(f"{path}: neither a folder nor a GGUF file; {_WANTED}")


_WANTED = f"give the folder that holds config.json and {WEIGHTS}, or a .gguf file"


def _starts_like_gguf(path: Path) -> bool:
    try:
        with open(path, "rb", buffering=0) as stream:
            return path.is_file() and stream.read(4) == b"GGUF"
    except OSError:
        return False
