"""A generator's requests, the events that it gives, and the cost of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from .grammar import Grammar
from .settings import Sampling, check

Top: TypeAlias = tuple[tuple[int, float], ...]  # (token, log-probability) of the largest ones


@dataclass(frozen=True)
class Request:
    """A prompt to continue. temperature ≤ 0 is greedy; seed is that row's own, up to 64 bits; sampling
    has its other settings, the default all off. Raises UsageError naming a number that is impossible.

    max_tokens: at least 1; 0 where only the prompt's log-probabilities are wanted (`Sampling.prompt_logprobs`).
    score_from: the first token of the prompt that has one then. The first token of all has none: nothing precedes it.

    ends: called with each generated token, in order; the row ends with the one for which it is true. Where it raises an
    exception the row fails.

    grammar: what the text must be; the device then draws none but tokens that it allows.
    """

    index: int
    tokens: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    sampling: Sampling = Sampling()
    ends: Callable[[int], bool] | None = None
    score_from: int = 1
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "temperature", "seed"):
            if name != "max_tokens" or not self.scores_alone:
                check(name, getattr(self, name))
        check("score_from", self.score_from)

    @property
    def scores_alone(self) -> bool:
        """Whether nothing is generated: the log-probabilities of the prompt are all that is wanted."""
        return type(self.max_tokens) is int and self.max_tokens == 0 and self.sampling.prompt_logprobs is not None


@dataclass(frozen=True)
class Prefilled:
    """`tokens` more of a prompt went through: `done` of `total`."""

    index: int
    tokens: int
    done: int
    total: int


class Token(NamedTuple):  # made for each row of each step: a frozen dataclass takes three times as long
    """One generated token and its log-probability under the model (temperature 1, no filters).

    top: (token, log-probability) of the largest under the model, as many as the row asks for.
    """

    index: int  # type: ignore[assignment]  # the field hides tuple.index, which nobody calls on a token
    token: int
    logprob: float
    top: Top = ()


@dataclass(frozen=True)
class Finished:
    """A row is complete; reason is "stop" (an end token, or `Request.ends`), "length" (max_tokens or the context) or
    "cancelled".

    top: of each token, as in `Token`; empty where the row asks for none. prompt_logprobs, prompt_top: the same
    of the prompt's tokens from `Request.score_from` on, where `Sampling.prompt_logprobs` asks for them.
    """

    index: int
    tokens: list[int]
    logprobs: list[float]
    reason: str
    top: list[Top] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    prompt_top: list[Top] = field(default_factory=list)


@dataclass(frozen=True)
class Failed:
    """A row that cannot go on, and why. asked: it is what its request asks for that cannot be had."""

    index: int
    error: str
    asked: bool = False


class Handle:
    """A request that was submitted. `end` is its Finished or Failed, None until a step has brought it.

    Threads: any thread may read it.
    """

    def __init__(self, request: Request, number: int) -> None:
        self.request = request
        self.number = number  # in order of arrival
        self.end: Finished | Failed | None = None
        self.cancelled = False


Event: TypeAlias = Prefilled | Token | Finished | Failed


@dataclass(frozen=True)
class TraceEvent:
    """One dispatch of one decode step; times in seconds of the device's clock."""

    name: str
    step: str
    start_seconds: float
    end_seconds: float
    command_buffer: int


@dataclass
class Stats:
    """The cost of a run. The numbers of decode leave prefill out. A step in which tokens of prompts go through beside
    rows that decode is one of decode; its time is shared among the rows.

    The step that is in flight where a text stops by its tokens is wasted for that row: no token of
    `decode_tokens`, but counted in `command_buffers` and `expert_counts`.
    """

    prompt_tokens: int = 0  # of them prefix_tokens were in the cache already
    prefix_tokens: int = 0
    preemptions: int = 0  # sequences that gave up their part of a full cache, and were computed again
    generated_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    decode_tokens: int = 0  # rows × steps
    decode_steps: int = 0  # whose results were used
    command_buffers: int = 0  # counted at the device's queue, without transfers
    readback_bytes: int = 0
    expert_counts: np.ndarray | None = None  # [layers, experts]: how often each was chosen
