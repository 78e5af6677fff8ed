"""Which names came before, in a few bytes each, since there may be millions."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["Seen"]

RECENT = 4096  # digests that are kept as a set before they become a run


class Seen:
    """Takes names, and tells which are there a second time. It keeps 64 bits of each: the latest ones as a set, the
    others in sorted runs, of which each is longer than the next one."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._runs: list[np.ndarray] = []

    def add(self, name: str) -> bool:
        """Whether the name is new."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        value = int.from_bytes(digest, "little")
        if value in self._recent or any(self._has(run, np.uint64(value)) for run in self._runs):
            return False
        self._recent.add(value)
        if len(self._recent) == RECENT:
            self._keep(np.sort(np.fromiter(self._recent, np.uint64, RECENT)))
            self._recent.clear()
        return True

    @property
    def nbytes(self) -> int:
        """Bytes of the runs."""
        return sum(run.nbytes for run in self._runs)

    def _keep(self, run: np.ndarray) -> None:
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.concatenate((self._runs.pop(), run))
            run.sort()
        self._runs.append(run)

    @staticmethod
    def _has(run: np.ndarray, value: np.uint64) -> bool:
        place = int(run.searchsorted(value))
        return place < len(run) and bool(run[place] == value)
