"""The scheduler: requests join and leave a running batch, whose every step is one command buffer.

submit ─▶ waiting ─▶ a slot of the cache ─▶ prompt, beside rows that decode ─▶ a row that decodes ─▶ events
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from ..errors import PromptError, UsageError
from ..graph.formats import CACHE_DTYPES
from ..models.decoder import Model, Progress
from ..models.fitting import CONTEXT_UNIT, Size
from .batch import Batch
from .flight import IN_FLIGHT
from .parts import fitting_parts
from .requests import Event, Failed, Finished, Handle, Request, Stats, TraceEvent
from .sampler import Features
from .settings import PROMPT_ROWS, Sampling
from .usage import Blocks

ABANDONED = "was abandoned before it ended"


class Scheduler:
    """Runs requests through a model, up to `batch_size` of them at the same time.

    context: positions a sequence may reach (default the model's). kv_cache: the dtype in which keys and values are
    kept, "f16", "f32" or "q8"; UsageError where that takes more memory than the machine has. A device that has memory
    of its own must also hold the weights and scratch memory. There `least` is the (batch size, context) to which these
    may be lowered where memory is too small (default: a context that was not given, to 256); `notice` then gets one
    line, and `batch_size` and `context` say what they are. `progress` gets (bytes so far, all) while weights go to such
    a device. prompt_rows: the most tokens of prompts that go through in a step beside rows that decode; fewer give
    smoother streams, more give more tokens per second; with 0 prompts go through alone while rows that decode wait.
    shares: whether the keys and values of a common beginning are kept and used again. trace: keep the times of every
    dispatch of steps that decode; prompts then go through alone. sampling: settings for which the chains are made at
    first; they have the sampling steps that some request may use, and a request that needs more makes them anew.

    Each `step` is one command buffer. The tokens of a request depend on it alone, and not on what runs beside it.

    Threads: `submit` and `cancel` are for any thread, also while another is in `step`. Steps are made
    by one thread at a time; a second one waits. A scheduler has a cache and rows of its own; several may use one model.
    """

    def __init__(
        self,
        model: Model,
        *,
        batch_size: int = 1,
        context: int | None = None,
        kv_cache: str = CACHE_DTYPES[0],
        prompt_rows: int = PROMPT_ROWS,
        trace: bool = False,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
        shares: bool = True,
        least: tuple[int, int] | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        for name, value in (("context", context), ("batch size", batch_size), ("rows for prompts", prompt_rows)):
            if value is not None and not hasattr(value, "__index__"):
                raise UsageError(f"{name} {value!r} is not possible; use a whole number")
        if context is not None and not 1 <= context <= model.context:
            raise UsageError(f"a context of {context} is not possible; the model has {model.context}")
        if batch_size < 1:
            raise UsageError(f"batch size {batch_size} is not possible; use 1 or more")
        if prompt_rows < 0:
            raise UsageError(f"{prompt_rows} rows for prompts are not possible; use 0 or more")
        self.model = model
        self.stats = Stats()
        size, lowest = Size(batch_size, context or model.context), least or (batch_size, context or CONTEXT_UNIT)
        lowest_size = Size(min(lowest[0], size.batch_size), min(lowest[1], size.context))
        features, prompt_rows = Features.of([sampling or Sampling()]), 0 if trace else prompt_rows
        copies = 1 if trace else IN_FLIGHT
        parts, line = fitting_parts(model, size, lowest_size, kv_cache, features, prompt_rows, copies)
        if line and notice is not None:
            notice(line)
        model.place(progress)
        self._trace: list[TraceEvent] | None = [] if trace else None
        self._batch = Batch(model, parts, self._trace, shares)
        self._stepping, self._submitting = threading.Lock(), threading.Lock()
        self._waiting: deque[Handle] = deque()
        self._dropped: list[Handle] = []  # cancelled before they had a slot
        self._numbers = itertools.count()
        self._running = threading.Lock()  # of a Generator's run

    @property
    def batch_size(self) -> int:
        """The most requests that run at the same time."""
        return self._batch.parts.size.batch_size

    @property
    def context(self) -> int:
        """Positions that a sequence may reach."""
        return self._batch.parts.size.context

    @property
    def blocks(self) -> Blocks:
        """The blocks of the KV cache, and who has them. For the thread that steps."""
        return self._batch.paging.blocks

    # For any thread

    def submit(self, request: Request) -> Handle:
        """Takes a request, which joins when a slot is free. PromptError where it can never run here."""
        self._check(request)
        with self._submitting:
            handle = Handle(request, next(self._numbers))
            self._waiting.append(handle)
        return handle

    def cancel(self, handle: Handle) -> None:
        """Ends a request with what it has by now: a step gives its Finished, whose reason is "cancelled"."""
        with self._submitting:
            handle.cancelled = True
            if handle in self._waiting:
                self._waiting.remove(handle)
                self._dropped.append(handle)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do."""
        return not (self._waiting or self._dropped or self._batch.has_sequences)

    @property
    def room(self) -> int:
        """How many more requests would have a slot."""
        return self._batch.room - len(self._waiting)

    def _check(self, request: Request) -> None:
        if not request.tokens:
            raise PromptError("an empty prompt has nothing to continue; give at least one token")
        most = self.context if request.scores_alone else self.context - 1
        if len(request.tokens) > most:
            raise PromptError(
                f"{len(request.tokens)} prompt tokens do not fit a context of {self.context}; use at most {most}"
            )
        if not self._batch.paging.holds(min(len(request.tokens) + request.max_tokens, self.context)):
            raise PromptError(
                f"{len(request.tokens)} prompt tokens and {request.max_tokens} new ones need more than the whole KV "
                "cache; shorten the prompt, or ask for fewer tokens"
            )
        for token in request.tokens:
            if not self._is_token(token):
                raise PromptError(f"token {token!r} is not in the vocabulary of {self.model.vocab_size}")
        bad = next((token for token in request.sampling.logit_bias if token >= self.model.vocab_size), None)
        if bad is not None:
            raise PromptError(
                f"logit_bias names token {bad}, which is not in the vocabulary of {self.model.vocab_size}"
            )

    def _is_token(self, token: object) -> bool:
        if not isinstance(token, (int, np.integer)) or isinstance(token, bool):
            return False
        return 0 <= int(token) < self.model.vocab_size

    # For one thread at a time

    def step(self) -> list[Event]:
        """One more step, and its events; where rows are to change first, that is all and there may be no events.

        RunError where the command buffer failed: requests that had a slot have failed then, those that wait go on."""
        with self._stepping:
            try:
                return self._step()
            except BaseException as error:
                self._batch.leave(str(error), self.stats, spoiled=True)
                raise

    def _step(self) -> list[Event]:
        batch = self._batch
        if batch.in_flight:
            return batch.decode(self.stats, self._joins)
        with self._submitting:
            dropped, self._dropped = self._dropped, []
        events: list[Event] = []
        for handle in dropped:
            handle.end = Finished(handle.request.index, [], [], "cancelled")
            events.append(handle.end)
        events += batch.close_gaps()
        with self._submitting:
            batch.join(self._waiting)
        return events + batch.step(self.stats, self._joins)

    def _joins(self) -> bool:
        """Whether a request is to be dropped or to join before another step."""
        if not (self._waiting or self._dropped):
            return False
        with self._submitting:
            return bool(self._dropped) or bool(self._waiting and self._batch.admits(self._waiting[0]))

    def expect(self, requests: Iterable[Request]) -> None:
        """Makes chains for what such requests need, and for no more, if nothing runs."""
        requests = list(requests)
        with self._stepping:
            if not self._batch.has_sequences:
                masks = any(request.grammar is not None for request in requests)
                self._batch.make_chains(Features.of((request.sampling for request in requests), masks))

    def abandon(self) -> None:
        """Fails all requests, and waits for the steps that are in flight. There are no events of that."""
        with self._stepping:
            with self._submitting:
                waiting = [*self._waiting, *self._dropped]
                self._waiting.clear()
                self._dropped.clear()
            for handle in waiting:
                handle.end = Failed(handle.request.index, ABANDONED)
            self._batch.leave(ABANDONED, self.stats)

    def explain(self) -> str:
        """The decode chain as a table."""
        return str(self._batch.parts.decode.plan)

    def trace(self) -> list[TraceEvent]:
        """The times of all decode dispatches so far; empty without `trace`."""
        return list(self._trace or ())
