"""The rows of finished prompts in Onebuf's own dialect, what tells rows of both dialects apart, and input order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar

from .prompt import MOST_SAMPLES, OPENAI, Prompt

__all__ = [
    "ASKED",
    "REQUEST",
    "InOrder",
    "Row",
    "failed_row",
    "finished_row",
    "has_failed",
    "identity",
    "key_of",
    "number",
    "prompt_scores",
    "row_identity",
    "row_key",
]

Row: TypeAlias = dict[str, Any]  # one line of JSON, with the keys that docs/command-line.md lists
REQUEST, ASKED = "batch_req_", "req_"  # how the ids of OpenAI's rows begin: the index, and the request's digest follow
_SAMPLES = 2 * MOST_SAMPLES  # keys of one prompt's rows
_KEYS = 2**56  # indices below this have keys of 64 bits
_Item = TypeVar("_Item")


def key_of(index: int, sample: int = 0) -> int:
    """A number that tells a row from all others of a run. Keys are in input order."""
    return index * _SAMPLES + sample


def row_key(row: Any) -> int:
    """The key of a row. KeyError, TypeError, ValueError or AttributeError where it is none."""
    if "custom_id" in row and "response" in row:
        index, sample = int(row["id"].removeprefix(REQUEST)), 0
    else:
        index, sample = row["index"], row.get("sample", 0)
    if type(index) is not int or type(sample) is not int or not 0 <= index < _KEYS or not 0 <= sample < _SAMPLES:
        raise ValueError("no index")
    if type(row["id"]) not in (str, int) or ("prompt" not in row and "custom_id" not in row):
        raise ValueError("no id")
    return key_of(index, sample)


def has_failed(row: Row) -> bool:
    """Whether the row says that its prompt failed."""
    return row.get("error") is not None


def row_identity(row: Any) -> tuple[str | int, str]:
    """Names the prompt of a row in a file, as `identity` names that of a job."""
    if "custom_id" in row:
        return row["custom_id"], row["response"]["request_id"].removeprefix(ASKED)
    if not isinstance(row["prompt"], str):
        raise ValueError("no prompt")
    return row["id"], row["prompt"]


def identity(prompt: Prompt, text: str) -> tuple[str | int, str]:
    """Names the prompt of a row: by its id and text, or by the digest of a request, which may have any settings."""
    if prompt.dialect == OPENAI and prompt.wanted is not None:
        return prompt.id, prompt.wanted.digest
    return prompt.id, text


def finished_row(
    prompt: Prompt,
    prompt_text: str | None,
    text: str,
    tokens: Iterable[int],
    logprobs: Iterable[float],
    reason: str,
    top: Sequence[Iterable[tuple[int, float]]] | None = None,
    sample: int | None = None,
    scored: Mapping[str, Any] = MappingProxyType({}),
) -> Row:
    """The row of a prompt that ran. A log-probability that is no number is null, because JSON has no NaN.

    top: for each token the largest log-probabilities, as (token, log-probability); None where nobody asks. sample: the
    number of the prompt's text, where there are several. scored: what `prompt_scores` gives, where asked for.
    """
    row: Row = {"id": prompt.id, "index": prompt.index}
    if sample is not None:
        row["sample"] = sample
    row |= {
        "prompt": prompt_text,
        "text": text,
        "tokens": [int(token) for token in tokens],
        "logprobs": [number(value) for value in logprobs],
        "finish_reason": reason,
    }
    if top is not None:
        row["top_logprobs"] = [_pairs(pairs) for pairs in top]
    return row | dict(scored)


def prompt_scores(
    tokens: Sequence[int], logprobs: Sequence[float], top: Sequence[Iterable[tuple[int, float]]] | None
) -> dict[str, Any]:
    """The keys of a row for the log-probabilities of its prompt's `tokens`, all but the first of which have some.

    top: as in `finished_row`.
    """
    keys: dict[str, Any] = {
        "prompt_tokens": [int(token) for token in tokens],
        "prompt_logprobs": [None, *(number(value) for value in logprobs)],
    }
    if top is not None:
        keys["prompt_top_logprobs"] = [None, *(_pairs(pairs) for pairs in top)]
    return keys


def _pairs(pairs: Iterable[tuple[int, float]]) -> list[list[float | None]]:
    return [[int(token), number(value)] for token, value in pairs]


def number(value: float) -> float | None:
    """A log-probability for JSON."""
    return round(float(value), 6) if math.isfinite(value) else None


def failed_row(prompt: Prompt, error: str, prompt_text: str | None = None, sample: int | None = None) -> Row:
    """The row of a prompt that did not run, or not to its end: the same keys, and `error`."""
    text = prompt_text if prompt_text is not None else prompt.text
    return finished_row(prompt, text, "", (), (), "error", sample=sample) | {"error": error}


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
