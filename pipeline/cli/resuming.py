"""An earlier run's rows, from which a run with --resume goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import UsageError

__all__ = ["KeptRow", "read_rows"]


@dataclass(frozen=True)
class KeptRow:
    """A row that stays in the file: what tells whose it is, and its line's place and length in bytes."""

    index: int
    id: str | int
    prompt: str
    start: int
    length: int


def read_rows(stream: BinaryIO, path: Path) -> list[KeptRow]:
    """The rows of prompts that an earlier run finished, in the order of the file.

    Left out are rows with `error`, whose prompts run again, and the end of a line that its run did not write to its
    end. UsageError where the file has anything else.
    """
    rows: dict[int, KeptRow] = {}
    position = 0
    for number, line in enumerate(stream, 1):
        start, position = position, position + len(line)
        if not line.endswith(b"\n"):
            break
        row = _row(line)
        if row is None:
            raise UsageError(
                f"--resume: {path} line {number} is no row of a run; give the file of an earlier run to --out"
            )
        if "error" not in row:
            rows.setdefault(row["index"], KeptRow(row["index"], row["id"], row["prompt"], start, len(line)))
    return list(rows.values())


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("index")) is not int or type(row.get("id")) not in (str, int):
        return None
    return row if isinstance(row.get("prompt"), str) or "error" in row else None
