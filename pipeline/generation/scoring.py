"""Scoring: how probable a model finds a text that is there.

The perplexity of a text is exp(-1/N Σ log p(token | the tokens before it)) over N tokens. A text that is longer than
the model's context goes through in windows, as in "Perplexity of fixed-length models"
(https://huggingface.co/docs/transformers/perplexity).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import PromptError, UsageError
from ..models.decoder import Model
from .generator import Generator
from .requests import Failed, Finished, Request, Top
from .settings import Sampling

__all__ = ["WINDOW", "Perplexity", "Score", "Window", "perplexity", "score", "score_request", "windows"]

WINDOW = 2048  # tokens of a window, where nobody says and the model has so many


class Window(NamedTuple):
    """The tokens from `begin` to `end` go through together; those from `first` on are scored."""

    begin: int
    end: int
    first: int


@dataclass(frozen=True)
class Score:
    """The log-probabilities of a text's tokens, of each but the first under those before it.

    top: of each of them (token, log-probability) of the most probable ones.
    """

    logprobs: list[float]
    top: list[Top] = field(default_factory=list)

    @property
    def nll(self) -> float:
        """The negative log-likelihood of the text behind its first token, in nats."""
        return 0.0 - math.fsum(self.logprobs)


class Perplexity(NamedTuple):
    """tokens: how many were scored; nll: their negative log-likelihood together, in nats."""

    tokens: int
    nll: float

    @property
    def value(self) -> float:
        """exp(nll / tokens); NaN of no tokens, inf where it is beyond a float."""
        if not self.tokens:
            return math.nan
        mean = self.nll / self.tokens
        return math.exp(mean) if mean < 709 else mean if math.isnan(mean) else math.inf


def windows(length: int, window: int, stride: int) -> Iterator[Window]:
    """The windows of a text of `length` tokens: `window` tokens each, every one `stride` behind the one before it. Each
    scores what those before it did not, under all that it has before that. With a stride as long as the window, the
    first token of each has nothing before it and is left out, as that of the text."""
    begin = end = 0
    while end < length:
        done, end = end, min(begin + window, length)
        first = max(done, begin + 1)
        if first < end:
            yield Window(begin, end, first)
        begin += stride


def score_request(index: int, tokens: Sequence[int], first: int = 1, top: int = 0) -> Request:
    """A request for the log-probabilities of `tokens` from number `first` on, and of the `top` most probable ones."""
    return Request(index, tuple(tokens), 0, sampling=Sampling(prompt_logprobs=top), score_from=first)


def score(
    model: Model, texts: Iterable[Sequence[int]], *, top: int = 0, context: int | None = None, **options: Any
) -> list[Score]:
    """The scores of texts, each a list of tokens. PromptError where one is empty or longer than the context.

    options: others of `Generator`, such as `batch_size`."""
    texts = list(texts)
    longest = max((len(text) for text in texts), default=1)
    generator = Generator(model, context=context or max(1, min(longest, model.context)), **options)
    ends = _ends(generator, [score_request(index, text, 1, top) for index, text in enumerate(texts)])
    return [Score(end.prompt_logprobs, end.prompt_top) for end in ends]


def perplexity(
    model: Model, tokens: Sequence[int], *, window: int | None = None, stride: int | None = None, **options: Any
) -> Perplexity:
    """The perplexity of one text of any length, in windows of `window` tokens (default: WINDOW, or the model's context
    where that is less), each `stride` behind the last one (default: half of that).

    options: others of `Generator`, such as `kv_cache`."""
    window = min(WINDOW, model.context) if window is None else window
    stride = max(window // 2, 1) if stride is None else stride
    if not 2 <= window <= model.context:
        raise UsageError(f"a window of {window} is not possible; give 2 to {model.context:,}, the model's context")
    if not 1 <= stride <= window:
        raise UsageError(f"a stride of {stride} is not possible; give 1 to {window}, the window")
    generator = Generator(model, context=max(1, min(window, len(tokens))), **options)
    requests = [
        score_request(index, tokens[begin:end], first - begin)
        for index, (begin, end, first) in enumerate(windows(len(tokens), window, stride))
    ]
    found = [value for end in _ends(generator, requests) for value in end.prompt_logprobs]
    return Perplexity(len(found), 0.0 - math.fsum(found))


def _ends(generator: Generator, requests: Sequence[Request]) -> list[Finished]:
    """How the requests end, in their order."""
    ends: dict[int, Finished] = {}
    for event in generator.run(requests):
        if isinstance(event, Failed):
            raise PromptError(f"text {event.index}: {event.error}")
        if isinstance(event, Finished):
            ends[event.index] = event
    return [ends[request.index] for request in requests]
