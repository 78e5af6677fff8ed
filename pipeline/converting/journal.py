"""A record of the tensors that are converted and on the disk, so that a run that was ended goes on from there."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any

from ..errors import UsageError

__all__ = ["NAME", "Journal"]

NAME = "conversion.unfinished"  # in the folder that is written, or behind a file's name, until everything is there


class Journal:
    """A file of lines: first the work as JSON, then the name of each finished tensor. A context manager.

    One process has it at a time. A line is written when its tensor is on the disk; a torn last line does not count.
    """

    def __init__(self, path: Path, work: dict[str, Any]) -> None:
        self.path = path
        self._file = _locked(self.path)
        try:
            self.done = self._read(json.dumps(work, sort_keys=True))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, names: Iterable[str]) -> None:
        """Notes finished tensors, whose bytes are on the disk."""
        names = list(names)
        self._file.write("".join(json.dumps(name) + "\n" for name in names).encode())
        os.fsync(self._file.fileno())
        self.done.update(names)

    def remove(self) -> None:
        """Deletes the record, when everything is there."""
        self.path.unlink()

    def _read(self, work: str) -> set[str]:
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        if not whole:
            self._file.truncate(0)
            self._file.write(work.encode() + b"\n")
            os.fsync(self._file.fileno())
            return set()
        first, *names = whole.decode(errors="replace").splitlines()
        if first != work:
            raise UsageError(
                f"{self.path}: is of an unfinished conversion of another checkpoint or with other options; "
                "delete it and what it made, or write to another place"
            )
        self._file.truncate(len(whole))
        self._file.seek(0, os.SEEK_END)
        return {json.loads(name) for name in names}


def _locked(path: Path) -> FileIO:
    """The open file, which no other process has."""
    stream = open(path, "a+b", buffering=0)
    try:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise UsageError(
            f"{path}: another process is converting into it; wait for that, or write to another place"
        ) from None
    return stream
