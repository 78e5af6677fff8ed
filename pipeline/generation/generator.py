"""Generation: prompts in, tokens out, every decoded token of a batch one command buffer.

requests ─▶ prefill (prompt chunks, no head) ─▶ decode (sample on device, 8 bytes a row) ─▶ events
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ..errors import PromptError, RunError, UsageError
from ..graph.formats import CACHE_DTYPES
from ..graph.transfers import Writes
from ..models.cache import PREFILL_ROWS
from ..models.decoder import Model, Progress
from ..models.fitting import CONTEXT_UNIT, Size
from .decode import Decode, Pending
from .parts import fitting_parts
from .requests import Event, Failed, Request, Stats, Token, TraceEvent
from .sampler import Features
from .sequence import Sequence
from .settings import Sampling

__all__ = ["Generator", "cache_bytes"]

# Decode steps that are committed and not waited for: the device has the next one while the host reads the
# last one's results. More would be wasted where a text ends.
IN_FLIGHT = 2


def cache_bytes(model: Model, batch_size: int, context: int, kv_cache: str = CACHE_DTYPES[0]) -> int:
    """The bytes that the KV cache of such a Generator takes. Nothing is allocated."""
    return model.cache(batch_size, context, kv_cache, PREFILL_ROWS).nbytes


class Generator:
    """Runs requests through a model, `batch_size` sequences at a time.

    context: positions a sequence may reach (default the model's). kv_cache: the dtype in which keys and
    values are kept, "f16", "f32" or "q8"; UsageError where that takes more memory than the machine has. A device that
    has memory of its own must also hold the weights and scratch memory. There `least` is the (batch size, context) to
    which these may be lowered where memory is too small (default: the context that was not given, to 256); `notice`
    then gets one line, and `batch_size` and `context` say what they are. `progress` gets (bytes so far, all) while
    weights go to such a device.
    trace: time every decode dispatch, each then in a command buffer of its own. The decode chain has the
    sampling steps that some request of a run may use, and no others; before the first run, those of `sampling`.

    Threads: a generator has one cache and one set of rows, so it serves one run at a time; :meth:`run` raises
    UsageError where an earlier run has neither ended nor been closed. A run may be continued in another thread as long
    as only one thread at a time asks it for events. Generators of their own may run in threads of their own, also on
    one model; their `stats.expert_counts` then count the choices of all of them.
    """

    def __init__(
        self,
        model: Model,
        *,
        batch_size: int = 1,
        context: int | None = None,
        kv_cache: str = CACHE_DTYPES[0],
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
        self.model = model
        self.stats = Stats()
        self._running = threading.Lock()
        self._trace: list[TraceEvent] | None = [] if trace else None
        self._in_flight = 1 if trace else IN_FLIGHT
        wanted = Size(batch_size, context or model.context)
        lowest = least or (batch_size, context or CONTEXT_UNIT)
        parts, line = fitting_parts(
            model,
            wanted,
            Size(min(lowest[0], wanted.batch_size), min(lowest[1], wanted.context)),
            kv_cache,
            Features.of([sampling or Sampling()]),
            self._in_flight,
        )
        if line and notice is not None:
            notice(line)
        self.batch_size, self.context = parts.size.batch_size, parts.size.context
        self._cache, self._rows, self._prefill, self._decode = parts.cache, parts.rows, parts.prefill, parts.decode
        model.place(progress)
        self._decode.prepare()

    def explain(self) -> str:
        """The decode chain as a table."""
        return str(self._decode.plan)

    def trace(self) -> list[TraceEvent]:
        """The times of all decode dispatches so far; empty without `trace`."""
        return list(self._trace or ())

    def run(self, requests: Iterable[Request]) -> Iterator[Event]:
        """Yields Prefilled, Token, Finished and Failed as they happen; rows end in any order."""
        if not self._running.acquire(blocking=False):
            raise UsageError("this Generator runs already; end or close that run first, or make another Generator")
        try:
            yield from self._run(deque(requests))
        finally:
            self._running.release()

    def _run(self, waiting: deque[Request]) -> Iterator[Event]:
        counts, device = self.model.counts, self.model.device
        counts.write(device, np.zeros(counts.shape, np.uint32))
        features = Features.of(request.sampling for request in waiting)
        if features != self._decode.features:
            self._decode = Decode(self.model, self._cache, self._rows, self.context, features, self._in_flight)
        free = list(range(self.batch_size))[::-1]
        active: list[Sequence] = []
        while waiting or active:
            joined: list[Sequence] = []
            while waiting and free:
                request = waiting.popleft()
                try:
                    self._check(request)
                except PromptError as error:
                    yield Failed(request.index, str(error))
                    continue
                length = min(request.max_tokens, self.context - len(request.tokens))
                joined.append(Sequence(request, free.pop(), length))
            yield from self._prefill.run(joined, self.stats)
            with Writes(device) as writes:
                for sequence in joined:
                    self._decode.seat(writes, len(active), sequence)
                    active.append(sequence)
            if active:
                yield from self._decode_until_one_ends(active, free)
        self.stats.expert_counts = counts.read(device)

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

    def _decode_until_one_ends(self, active: list[Sequence], free: list[int]) -> Iterator[Event]:
        """Steps of all active rows until a row ends, whose slot then goes to `free`.

        A step is committed before the results of the one before it are read, unless that one is known to be
        a row's last. Where a row ends all the same, its part of the step ahead is wasted, within its own slot; the
        other rows use theirs, and rows are moved when nothing is in flight.
        """
        for sequence in active:
            if not sequence.tokens:  # its last prompt token goes through now
                self.stats.prompt_tokens += 1
                sequence.done += 1
        device, rows, stats = self.model.device, len(active), self.stats
        nbytes = self._decode.nbytes(rows)
        steps = min(sequence.room for sequence in active)  # none goes beyond an end that is known
        ends: list[Event | None] = [None] * rows
        events: list[Event] = []
        flight: deque[Pending] = deque()
        live, step = rows, 0
        before, clock = device.computing_command_buffers, time.perf_counter()
        try:
            while True:
                while live == rows and len(flight) < self._in_flight and step + len(flight) < steps:
                    flight.append(self._commit(rows, step + len(flight)))
                yield from events  # the device goes on meanwhile
                if not flight:
                    break
                flight[0].wait()
                flight.popleft()
                now = time.perf_counter()
                stats.decode_seconds += now - clock
                clock, events = now, []
                if live:
                    stats.decode_steps += 1
                    stats.decode_tokens += live
                    stats.readback_bytes += nbytes
                    events = self._decode.take(step, active, ends)
                    stats.generated_tokens += sum(isinstance(event, Token) for event in events)
                    live = ends.count(None)
                step += 1
        finally:
            for run in flight:  # left early: no one is to change rows under a step that runs
                with contextlib.suppress(RunError):  # the first error counts
                    run.wait()
            stats.command_buffers += device.computing_command_buffers - before
        self._decode.move_up([row for row, end in enumerate(ends) if end is None])
        free.extend(sequence.slot for sequence, end in zip(active, ends) if end is not None)
        active[:] = [sequence for sequence, end in zip(active, ends) if end is None]

    def _commit(self, rows: int, step: int) -> Pending:
        """One step; a traced one has completed when this returns."""
        if self._trace is None:
            return self._decode.commit(rows, step)
        self._trace += self._decode.trace(rows, self.stats.decode_steps)
        return _Done()


class _Done:
    def wait(self) -> None:
        """Returns at once: a traced step has completed."""
