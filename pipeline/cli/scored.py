"""This file makes the rows of --eval perplexity, one per text, and the perplexity of all texts together."""

from __future__ import annotations

from collections.abc import Iterable

from ..generation.scoring import Perplexity
from .prompt import Prompt
from .rows import Row, number

__all__ = ["failed_score", "scored_row", "total"]


def total(scores: Iterable[Perplexity]) -> Perplexity:
    """That of texts together: of all their tokens, not the mean of theirs."""
    tokens, nll = 0, 0.0
    for score in scores:
        tokens, nll = tokens + score.tokens, nll + score.nll
    return Perplexity(tokens, nll)


def scored_row(prompt: Prompt, text: str, score: Perplexity) -> Row:
    """The row of a text. A number that JSON does not have is null, such as the perplexity of a single token."""
    return {
        "id": prompt.id,
        "index": prompt.index,
        "prompt": text,
        "scored_tokens": score.tokens,
        "nll": number(score.nll),
        "perplexity": number(score.value),
    }


def failed_score(prompt: Prompt, error: str, text: str | None = None) -> Row:
    """The row of a text that was not scored, or not to its end: the same keys, and `error`."""
    shown = prompt.text if text is None else text
    return {
        "id": prompt.id,
        "index": prompt.index,
        "prompt": shown,
        "scored_tokens": 0,
        "nll": None,
        "perplexity": None,
        "error": error,
    }
