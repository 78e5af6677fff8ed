"""The rows of finished prompts, and their input order."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from .prompts import Prompt

__all__ = ["InOrder", "Row", "failed_row", "finished_row"]

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
