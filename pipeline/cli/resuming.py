"""An earlier run's rows, from which a run with --resume goes on: in a few bytes each, since there may be millions."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import UsageError
from ..generation.scoring import Perplexity
from .rows import has_failed, row_identity, row_key

__all__ = ["KeptRows", "digest", "read_rows"]


def digest(identity: tuple[str | int, str]) -> int:
    """64 bits that tell the prompt of a row from others."""
    text = json.dumps(identity)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class KeptRows:
    """The rows that stay in the file, in its order: their keys and lengths, and whose they are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys = array("Q")
        self.starts = array("Q")
        self.lengths = array("I")
        self._digests = array("Q")
        self._scored = array("Q")  # tokens, and the negative log-likelihood, where the rows have them
        self._nll = array("d")
        self._order: np.ndarray | None = None
        self._claimed = np.zeros(0, bool)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def lines(self) -> Iterator[tuple[int, int]]:
        """The (start, length) of each row."""
        return zip(self.starts, self.lengths)

    @property
    def scores(self) -> Perplexity:
        """The perplexity of all texts that were scored."""
        return Perplexity(sum(self._scored), sum(self._nll))

    def score(self, tokens: int, nll: float) -> None:
        """Says what the row has that was added last."""
        self._scored.append(tokens)
        self._nll.append(nll)

    def add(self, key: int, whose: int, start: int, length: int) -> None:
        self.keys.append(key)
        self._digests.append(whose)
        self.starts.append(start)
        self.lengths.append(length)

    def without_repeated(self) -> KeptRows:
        """The first row of each key."""
        _, first = np.unique(np.asarray(self.keys), return_index=True)
        if len(first) == len(self):
            return self
        kept = KeptRows(self._path)
        for row in np.sort(first):
            kept.add(self.keys[row], self._digests[row], self.starts[row], self.lengths[row])
            if self._scored:
                kept.score(self._scored[row], self._nll[row])
        return kept

    def find(self, key: int) -> int | None:
        """The number of the row of that key; None where there is none."""
        if self._order is None:
            self._order = np.argsort(np.asarray(self.keys), kind="stable")
            self._claimed = np.zeros(len(self), bool)
        place = int(np.searchsorted(np.asarray(self.keys), key, sorter=self._order)) if len(self) else 0
        row = int(self._order[place]) if place < len(self) else -1
        return row if row >= 0 and self.keys[row] == key else None

    def claim(self, row: int, identity: tuple[str | int, str]) -> None:
        """Says whose a row is. UsageError where it is of another prompt."""
        if self._digests[row] != digest(identity):
            raise self._other_prompts(row)
        self._claimed[row] = True

    def check_all_claimed(self) -> None:
        """Raises UsageError where a row has no prompt, after all prompts have come."""
        if not len(self):
            return
        self.find(0)
        if not self._claimed.all():
            raise self._other_prompts(int(np.argmin(self._claimed)))

    def _other_prompts(self, row: int) -> UsageError:
        return UsageError(
            f"--resume: the row with index {self.keys[row] >> 8} in {self._path} is of another prompt; give the same "
            "prompts as in the earlier run, or another file to --out"
        )


def read_rows(stream: BinaryIO, path: Path, scores: bool = False) -> KeptRows:
    """The rows of prompts that an earlier run finished, in the order of the file. `scores`: they are those of --eval.

    Left out are rows with `error`, whose prompts run again, and the end of a line that its run did not write to its
    end. UsageError where the file has anything else, such as rows of
    the other kind.
    """
    rows = KeptRows(path)
    position = 0
    for number, line in enumerate(stream, 1):
        start, position = position, position + len(line)
        if not line.endswith(b"\n"):
            break
        try:
            row = json.loads(line)
            key = row_key(row)
            if not has_failed(row):
                rows.add(key, digest(row_identity(row)), start, len(line))
                if ("nll" in row) != scores:
                    raise UsageError(
                        f"--resume: {path} line {number} is {'no row' if scores else 'a row'} of --eval, which this "
                        f"run {'has' if scores else 'has not'}; give another file to --out"
                    )
                if scores:
                    rows.score(int(row["scored_tokens"]), math.inf if row["nll"] is None else float(row["nll"]))
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise UsageError(
                f"--resume: {path} line {number} is no row of a run; give the file of an earlier run to --out"
            ) from None
    return rows.without_repeated()
