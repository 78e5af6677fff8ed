"""The JSONL file of finished prompts, in input order, complete at every moment.

A row is written whole once it and all rows before it are finished. A row that waits for an earlier one is written when
the writer is closed, so that an interrupted run keeps all finished rows.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeAlias, TypeVar

from ..errors import UsageError
from .prompts import Prompt

__all__ = ["InOrder", "Row", "RowWriter", "failed_row", "finished_row"]

Row: TypeAlias = dict[str, Any]  # one line of JSON, with the keys that docs/command-line.md lists
_Item = TypeVar("_Item")


def finished_row(
    prompt: Prompt,
    prompt_text: str | None,
    text: str,
    tokens: Iterable[int],
    logprobs: Iterable[float],
    reason: str,
    top: Sequence[Iterable[tuple[int, float]]] = (),
) -> Row:
    """The row of a prompt that ran. A log-probability that is no number is null, because JSON has no NaN.

    top: for each token the largest log-probabilities, as (token, log-probability), where asked for.
    """
    row: Row = {
        "id": prompt.id,
        "index": prompt.index,
        "prompt": prompt_text,
        "text": text,
        "tokens": [int(token) for token in tokens],
        "logprobs": [_number(value) for value in logprobs],
        "finish_reason": reason,
    }
    if top:
        row["top_logprobs"] = [[[int(token), _number(value)] for token, value in pairs] for pairs in top]
    return row


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def failed_row(prompt: Prompt, error: str, prompt_text: str | None = None) -> Row:
    """The row of a prompt that did not run, or not to its end: the same keys, and `error`."""
    row = finished_row(prompt, prompt_text if prompt_text is not None else prompt.text, "", (), (), "error")
    return row | {"error": error}


class InOrder(Generic[_Item]):
    """Turns items that come in any order into input order: each is due once all before it have come."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Item] = {}
        self._next = 0

    def add(self, index: int, item: _Item) -> list[_Item]:
        """Takes the item at `index`, once; returns the items now due."""
        self._waiting[index] = item
        due = []
        while self._next in self._waiting:
            due.append(self._waiting.pop(self._next))
            self._next += 1
        return due

    def rest(self) -> list[_Item]:
        """The items that wait for earlier ones, in order, when no more will come."""
        due = [self._waiting[index] for index in sorted(self._waiting)]
        self._waiting.clear()
        return due


class RowWriter:
    """Writes rows to the file `path`, or to any binary `stream`, each by one `write` of a whole line."""

    def __init__(self, path: Path | None = None, stream: BinaryIO | None = None) -> None:
        self._name = str(path) if path else "standard output"
        self._owned = stream is None
        if stream is None:
            if path is None:
                raise ValueError("RowWriter: give a path or a stream")
            try:
                stream = open(path, "wb", buffering=0)
            except OSError as error:
                raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
        self._stream = stream
        self._order: InOrder[bytes] = InOrder()
        self.rows = 0

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add(self, row: Row) -> None:
        """Takes the finished row of one prompt. Each index comes once, in any order."""
        for line in self._order.add(row["index"], _line(row)):
            self._write(line)

    def close(self) -> None:
        """Writes what still waits for earlier rows, in order, and closes a file that the writer opened."""
        try:
            for line in self._order.rest():
                self._write(line)
        finally:
            if self._owned:
                self._stream.close()

    def _write(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += self._stream.write(line[written:])
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._drop_partial(written)
            self._order.rest()
            done = f"{self.rows} rows are complete in it"
            raise UsageError(f"{self._name}: cannot be written: {error.strerror or error}; {done}") from error
        self.rows += 1

    def _drop_partial(self, count: int) -> None:
        """Removes the part of a row that fitted, where the stream is a file."""
        try:
            if count:
                os.ftruncate(self._stream.fileno(), self._stream.tell() - count)
        except (OSError, AttributeError):
            pass


def _line(row: Row) -> bytes:
    """One line of JSON in UTF-8. Half a surrogate pair, which UTF-8 cannot hold, stays as an escape."""
    try:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(row, allow_nan=False) + "\n").encode("ascii")
