"""The scheduler: requests join and leave a running batch, whose every step is one command buffer.

submit ─▶ waiting ─▶ a slot of the cache ─▶ prompt, beside rows that decode ─▶ a row that decodes ─▶ events
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..errors import PromptError, UsageError
from ..graph.formats import CACHE_DTYPES
from ..graph.transfers import Writes
from ..models.decoder import Model, Progress
from ..models.fitting import CONTEXT_UNIT, Size
from .flight import IN_FLIGHT, Flight
from .parts import Parts, fitting_parts
from .requests import Event, Failed, Finished, Handle, Prefilled, Request, Stats, TraceEvent
from .sampler import Features
from .sequence import Sequence
from .settings import PROMPT_ROWS, Sampling
from .share import share


class Scheduler:
    """Runs requests through a model, up to `batch_size` of them at the same time.

    context: positions a sequence may reach (default the model's). kv_cache: the dtype in which keys and values are
    kept, "f16", "f32" or "q8". prompt_rows: the most tokens of prompts that go through in a step beside rows that
    decode; fewer give smoother streams, more give more tokens per second; with 0 prompts go through alone while rows
    that decode wait. sampling: settings for which the chains are made at first; requests that need more make them
    anew. trace: keep the times of every dispatch of steps that decode; prompts then go through alone. `progress` gets
    (bytes so far, all) while weights go to a device with memory of its own. least: (batch size, context) to which these
    may be lowered where such memory is short, by default a context that is not given; `notice` gets a line about it.
    UsageError where memory is too small.

    Each :meth:`step` is one command buffer. The tokens of a request depend on it alone, and not on what runs beside it.

    Threads: :meth:`submit` and :meth:`cancel` are for any thread, also while another is in :meth:`step`. Steps are made
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
        least: tuple[int, int] | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        if context is not None and not 1 <= context <= model.context:
            raise UsageError(f"a context of {context} is not possible; the model has {model.context}")
        if batch_size < 1:
            raise UsageError(f"batch size {batch_size} is not possible; use 1 or more")
        if prompt_rows < 0:
            raise UsageError(f"{prompt_rows} rows for prompts are not possible; use 0 or more")
        self.model = model
        self.stats = Stats()
        self._prompt_rows = 0 if trace else prompt_rows
        self._trace: list[TraceEvent] | None = [] if trace else None
        features = Features.of([sampling or Sampling()])
        size, lowest = Size(batch_size, context or model.context), least or (batch_size, context or CONTEXT_UNIT)
        lowest_size = Size(min(lowest[0], size.batch_size), min(lowest[1], size.context))
        parts, line = fitting_parts(model, size, lowest_size, kv_cache, features, self._prompt_rows, self._copies)
        if line and notice is not None:
            notice(line)
        model.place(progress)
        self._use(parts)
        self._stepping, self._submitting = threading.Lock(), threading.Lock()
        self._waiting: deque[Handle] = deque()
        self._dropped: list[Handle] = []  # cancelled before they had a slot
        self._free = list(range(self.batch_size))[::-1]
        self._prompts: list[Sequence] = []  # that have a slot and no row, in order of arrival
        self._active: list[Sequence] = []  # by row

    @property
    def batch_size(self) -> int:
        """The most requests that run at the same time."""
        return self._parts.size.batch_size

    @property
    def context(self) -> int:
        """Positions that a sequence may reach."""
        return self._parts.size.context

    @property
    def _copies(self) -> int:
        return IN_FLIGHT if self._trace is None else 1

    def _use(self, parts: Parts) -> None:
        self._parts, self._seats = parts, parts.seats
        parts.decode.prepare()
        self._flight = Flight(parts.decode, self._trace)

    def _make_chains(self, features: Features) -> None:
        """Makes the chains anew, for other features. The cache stays."""
        old = self._parts
        self._use(Parts(self.model, old.cache, old.size, features, self._prompt_rows, self._copies))

    # For any thread

    def submit(self, request: Request) -> Handle:
        """Takes a request, which joins when a slot is free. PromptError where it can never run here."""
        self._check(request)
        handle = Handle(request)
        with self._submitting:
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
        return not (self._waiting or self._dropped or self._prompts or self._active)

    @property
    def room(self) -> int:
        """How many more requests would have a slot."""
        ended = sum(sequence.ended for sequence in self._active)
        return len(self._free) + ended - len(self._waiting)

    def _check(self, request: Request) -> None:
        if not request.tokens:
            raise PromptError("an empty prompt has nothing to continue; give at least one token")
        if len(request.tokens) > self.context - 1:
            raise PromptError(
                f"{len(request.tokens)} prompt tokens do not fit a context of {self.context}; "
                f"use at most {self.context - 1}"
            )
        bad = next((token for token in request.tokens if not 0 <= token < self.model.vocab_size), None)
        if bad is not None:
            raise PromptError(f"token {bad} is not in the vocabulary of {self.model.vocab_size}")
        bad = next((token for token in request.sampling.logit_bias if token >= self.model.vocab_size), None)
        if bad is not None:
            raise PromptError(
                f"logit_bias names token {bad}, which is not in the vocabulary of {self.model.vocab_size}"
            )

    # For one thread at a time

    def step(self) -> list[Event]:
        """One more step, and its events; where rows are to change first, that is all and there may be no events.

        RunError where the command buffer failed: requests that had a slot have failed then, those that wait go on."""
        with self._stepping:
            try:
                return self._step()
            except BaseException as error:
                self._leave(str(error))
                raise

    def expect(self, settings: Iterable[Sampling]) -> None:
        """Makes chains for requests with such settings, and for no more, if nothing runs."""
        with self._stepping:
            features = Features.of(settings)
            if not (self._prompts or self._active) and features != self._seats.features:
                self._make_chains(features)

    def abandon(self) -> None:
        """Drops all requests, and waits for the steps that are in flight."""
        with self._stepping:
            with self._submitting:
                self._waiting.clear()
                self._dropped.clear()
            self._leave("abandoned")

    def explain(self) -> str:
        """The decode chain as a table."""
        return str(self._parts.decode.plan)

    def trace(self) -> list[TraceEvent]:
        """The times of all decode dispatches so far; empty without `trace`."""
        return list(self._trace or ())

    def _leave(self, why: str) -> None:
        self._flight.drain()
        for sequence in (*self._prompts, *self._active):
            if not sequence.ended:
                sequence.handle.end = Failed(sequence.request.index, why)
        self._free = list(range(self.batch_size))[::-1]
        self._prompts, self._active = [], []

    def _step(self) -> list[Event]:
        events: list[Event] = []
        if not self._flight:
            events = self._between_steps()
            if self._prompts:
                return events + self._step_with_prompts()
        if self._active:
            with self._counting():
                events += self._flight.step(self._active, self.stats, self._changing)
        return events

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        """Counts the command buffers that are committed within."""
        before = self.model.device.computing_command_buffers
        try:
            yield
        finally:
            self.stats.command_buffers += self.model.device.computing_command_buffers - before

    def _changing(self) -> bool:
        """Whether rows are to change before another step."""
        if self._dropped or (self._waiting and self._free):
            return True
        return any(sequence.ended or sequence.handle.cancelled for sequence in self._active)

    def _between_steps(self) -> list[Event]:
        """Requests leave and join."""
        events: list[Event] = []
        with self._submitting:
            dropped, self._dropped = self._dropped, []
            for handle in dropped:
                handle.end = Finished(handle.request.index, [], [], "cancelled")
                events.append(handle.end)
            joined = self._joining(events)
        if joined:
            self._provide(Features.of(sequence.request.sampling for sequence in joined))
        self._prompts += joined
        ready = [sequence for sequence in self._prompts if not sequence.left]
        with Writes(self.model.device) as writes:
            self._seat(writes, ready)
        return events

    def _joining(self, events: list[Event]) -> list[Sequence]:
        """Takes those that ended or were cancelled from their slots, and gives those that wait a slot."""
        for sequence in (*self._prompts, *self._active):
            if sequence.handle.cancelled and not sequence.ended:
                events.append(sequence.finish("cancelled"))
        gone = [sequence for sequence in (*self._prompts, *self._active) if sequence.ended]
        self._free += [sequence.slot for sequence in gone]
        self._seats.move_up([row for row, sequence in enumerate(self._active) if not sequence.ended])
        self._active = [sequence for sequence in self._active if not sequence.ended]
        self._prompts = [sequence for sequence in self._prompts if not sequence.ended]
        joined = []
        while self._waiting and self._free:
            handle = self._waiting.popleft()
            request = handle.request
            length = min(request.max_tokens, self.context - len(request.tokens))
            joined.append(Sequence(handle, self._free.pop(), length))
        return joined

    def _provide(self, features: Features) -> None:
        """Makes the chains anew where they lack some of `features`, and seats all rows again."""
        needed = self._seats.features.also(features)
        if needed == self._seats.features:
            return
        self._make_chains(needed)
        with Writes(self.model.device) as writes:
            for row, sequence in enumerate(self._active):
                self._seats.seat(writes, row, sequence)

    def _seat(self, writes: Writes, ready: list[Sequence]) -> None:
        """Gives rows to sequences, whose last prompt token goes through with the next step."""
        for sequence in ready:
            self._seats.seat(writes, len(self._active), sequence)
            self._active.append(sequence)
            self._prompts.remove(sequence)
            sequence.done += 1
            self.stats.prompt_tokens += 1

    def _step_with_prompts(self) -> list[Event]:
        """Tokens of prompts go through, beside the rows that decode and those whose prompt ends here."""
        left = [sequence.left for sequence in self._prompts]
        mixed = self._parts.mixed
        if mixed is None:
            return self._step_of_prompts(left)
        counts = share(left, mixed.rows)
        if not self._active and not any(count == each for count, each in zip(counts, left)):
            return self._step_of_prompts(left)
        parts = [(sequence, count) for sequence, count in zip(self._prompts, counts) if count]
        ready = [sequence for sequence, count in parts if count == sequence.left]
        rows, start = len(self._active) + len(ready), time.perf_counter()
        with Writes(self.model.device) as writes:
            prompts = self._seats.show(writes, rows, parts)
            self._seat(writes, ready)
        with self._counting():
            mixed.run(rows, prompts)
        seconds = (time.perf_counter() - start) / (rows + prompts)
        self.stats.decode_seconds += rows * seconds
        self.stats.prefill_seconds += prompts * seconds
        return self._went_through(parts) + mixed.results.take(0, self._active, self.stats)

    def _step_of_prompts(self, left: list[int]) -> list[Event]:
        """Tokens of prompts go through alone, as many as a chain takes."""
        prefill = self._parts.prefill
        counts, start = share(left, prefill.rows), time.perf_counter()
        parts = [(sequence, count) for sequence, count in zip(self._prompts, counts) if count]
        with Writes(self.model.device) as writes:
            prompts = self._seats.show(writes, self.batch_size, parts)
        prefill.run(prompts)
        self.stats.prefill_seconds += time.perf_counter() - start
        return self._went_through(parts)

    def _went_through(self, parts: list[tuple[Sequence, int]]) -> list[Event]:
        events: list[Event] = []
        for sequence, count in parts:
            sequence.done += count
            self.stats.prompt_tokens += count
            before = len(sequence.request.tokens)
            events.append(Prefilled(sequence.request.index, count, min(sequence.done, before - 1), before))
        return events
