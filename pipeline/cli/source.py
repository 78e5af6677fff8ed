"""The lines of a file of prompts, which a thread reads ahead: rows that run do not wait for a pipe that is silent."""

from __future__ import annotations

import os
import queue
import stat
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import PromptError, UsageError

__all__ = ["JSONL", "TEXT", "Lines", "open_lines", "read_whole"]

TEXT, JSONL = ".txt", ".jsonl"
BLOCK = 1 << 16  # bytes that are asked for at once
BLOCKS = 8  # that are read ahead


class Lines:
    """Numbered lines of a stream, without their ends, each once. No more than some blocks of them are held.

    name      of the stream, for messages
    is_jsonl  whether lines are JSON; None: the first line that is not blank tells
    size      bytes of a file; 0 for a pipe, whose end nobody knows
    """

    def __init__(self, name: str, stream: BinaryIO, is_jsonl: bool | None = None, size: int = 0) -> None:
        self.name, self.is_jsonl, self.size = name, is_jsonl, size
        self.position = 0  # bytes of the lines that were taken
        self.ended = False
        self._number = 0
        self._lines: deque[bytes] = deque()
        self._blocks: queue.Queue[list[bytes] | OSError | None] = queue.Queue(BLOCKS)
        # A run does not wait for the thread at its end: it may hang in a pipe for ever.
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def take(self, seconds: float | None) -> tuple[int, bytes] | None:
        """The next line and its number, for which it waits so many seconds (None: as long as it takes). None where no
        line is there, or no more will come: `ended` tells. PromptError where the stream cannot be read."""
        while not self._lines:
            if self.ended:
                return None
            try:
                block = self._blocks.get(seconds != 0, seconds)
            except queue.Empty:
                return None
            if isinstance(block, OSError):
                self.ended = True
                raise PromptError(f"{self.name}: cannot be read: {block.strerror or block}") from block
            self.ended = block is None
            self._lines.extend(block or ())
        line = self._lines.popleft()
        self._number += 1
        self.position += len(line) + 1
        if self._number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        return self._number, line.removesuffix(b"\r")

    def _read(self, stream: BinaryIO) -> None:
        try:
            for lines in _blocks(stream):
                self._blocks.put(lines)
            self._blocks.put(None)
        except OSError as error:
            self._blocks.put(error)


def _blocks(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of each block that has the end of one."""
    begun: list[bytes] = []  # a line whose end has not come yet
    while block := stream.read(BLOCK):
        first, *lines = block.split(b"\n")
        begun.append(first)
        if lines:
            last = lines.pop()
            yield [b"".join(begun), *lines]
            begun = [last]
    if any(begun):
        yield [b"".join(begun)]


def open_lines(source: str) -> Lines:
    """The lines of the file `source`, or of standard input for "-". PromptError where that cannot be opened."""
    if source == "-":
        return Lines("standard input", _standard_input())
    file = Path(source)
    if not file.exists():
        raise PromptError(f"{file}: no such file; give a {TEXT} or {JSONL} file, or - for standard input")
    if file.is_dir():
        raise PromptError(f"{file}: a folder; give a {TEXT} or {JSONL} file, or - for standard input")
    suffix = file.suffix.lower()
    if file.is_file() and suffix not in (TEXT, JSONL):
        raise UsageError(f"{file}: prompts come as {TEXT} (one prompt per line) or {JSONL}; rename or convert the file")
    try:
        stream = open(file, "rb", buffering=0)  # else a pipe's lines would wait until there are many
    except OSError as error:
        raise PromptError(f"{file}: cannot be read: {error.strerror or error}") from error
    status = os.fstat(stream.fileno())
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return Lines(str(file), cast(BinaryIO, stream), {JSONL: True, TEXT: False}.get(suffix), size)


def read_whole(source: str) -> tuple[str, bytes]:
    """The name and the contents of the file `source`, or of standard input for "-". PromptError where it cannot be
    read."""
    if source == "-":
        return "standard input", _standard_input().read()
    try:
        return source, Path(source).read_bytes()
    except FileNotFoundError:
        raise PromptError(f"{source}: no such file; give a text file, or - for standard input") from None
    except OSError as error:
        raise PromptError(f"{source}: cannot be read: {error.strerror or error}; give a text file") from error


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise PromptError("standard input: is closed; give it a file or a pipe, or give a file to --prompts")
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError):  # no file is behind it
        return sys.stdin.buffer
    try:
        # Not through sys.stdin: the interpreter could not close it at its end while the thread reads.
        return cast(BinaryIO, open(descriptor, "rb", buffering=0, closefd=False))
    except OSError as error:
        raise PromptError(f"standard input: cannot be read: {error.strerror or error}") from error
