"""A generator's requests, the events that it gives, and the cost of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from .settings import Sampling, check

Top: TypeAlias = tuple[tuple[int, float], ...]  # (token, log-probability) of the largest ones


@dataclass(frozen=True)
class Request:
    """A prompt to continue. temperature ≤ 0 is greedy; seed is that row's own, up to 64 bits; sampling
    has its other settings, the default all off. Raises UsageError naming a number that is impossible.

    ends: called with each generated token, in order; the row ends with the one for which it is true.
    """

    index: int
    tokens: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    sampling: Sampling = Sampling()
    ends: Callable[[int], bool] | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "temperature", "seed"):
            check(name, getattr(self, name))


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

    top: of each token, as in :class:`Token`; empty where the row asks for none.
    """

    index: int
    tokens: list[int]
    logprobs: list[float]
    reason: str
    top: list[Top] = field(default_factory=list)


@dataclass(frozen=True)
class Failed:
    """A row that cannot go on, and why."""

    index: int
    error: str


class Handle:
    """A request that was submitted. `end` is its Finished or Failed, None until a step has brought it.

    Threads: any thread may read it.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
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

    prompt_tokens: int = 0
    generated_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    decode_tokens: int = 0  # rows × steps
    decode_steps: int = 0  # whose results were used
    command_buffers: int = 0  # counted at the device's queue, without transfers
    readback_bytes: int = 0
    expert_counts: np.ndarray | None = None  # [layers, experts]: how often each was chosen
