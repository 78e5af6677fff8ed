"""Generation: prompts in, tokens out, every decoded token of a batch one command buffer.

requests ─▶ prefill (prompt chunks, no head) ─▶ decode (sample on device, 8 bytes a row) ─▶ events
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..device.core import _core
from ..errors import PromptError, RunError, UsageError
from ..graph.builder import Pipeline
from ..graph.chain import Chain
from ..graph.formats import CACHE_DTYPES
from ..models.cache import PREFILL_ROWS
from ..models.rows import Rows
from .requests import Failed, Finished, Prefilled, Request, Stats, Token, TraceEvent
from .sampler import Features, Sampler
from .settings import Sampling

__all__ = ["Generator", "cache_bytes"]

# PREFILL_ROWS is halved until the prefill chain's scratch, most of it the experts' products, takes no more.
PREFILL_SCRATCH = 64 << 20

# Decode steps that are committed and not waited for: the device has the next one while the host reads the
# last one's results. More would be in vain where a text ends.
IN_FLIGHT = 2


@dataclass
class _Sequence:
    request: Request
    slot: int
    length: int  # tokens at which it ends, by max_tokens or the context
    done: int = 0  # prompt tokens that went through
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list = field(default_factory=list)

    @property
    def before_last(self) -> int:
        """Prompt tokens to prefill: the last one is the first decode step's input."""
        return len(self.request.tokens) - 1

    @property
    def room(self) -> int:
        """Steps after which it ends by length."""
        return self.length - len(self.tokens)

    def finished(self, reason: str) -> Finished:
        return Finished(self.request.index, self.tokens, self.logprobs, reason, self.top)


def cache_bytes(model, batch_size: int, context: int, kv_cache: str = CACHE_DTYPES[0]) -> int:
    """What the KV cache of such a Generator takes. Nothing is allocated."""
    return model.cache(batch_size, context, kv_cache, PREFILL_ROWS).nbytes


class Generator:
    """Runs requests through a model, `batch_size` sequences at a time.

    context: positions a sequence may reach (default the model's). kv_cache: the dtype in which keys and
    values are kept, "f16", "f32" or "q8"; UsageError where that takes more memory than the machine has.
    trace: time every decode dispatch, each then in a command buffer of its own. The decode chain has the
    sampling steps that some request of a run may use, and no others; before the first run, those of `sampling`.
    """

    def __init__(
        self,
        model,
        *,
        batch_size: int = 1,
        context: int | None = None,
        kv_cache: str = CACHE_DTYPES[0],
        trace: bool = False,
        sampling: Sampling = Sampling(),
    ):
        context = model.context if context is None else context
        if not 1 <= context <= model.context:
            raise UsageError(f"a context of {context} is not possible; the model has {model.context}")
        if batch_size < 1:
            raise UsageError(f"batch size {batch_size} is not possible; use 1 or more")
        self.model = model
        self.batch_size = batch_size
        self.context = context
        self.stats = Stats()
        self._trace = [] if trace else None
        self._in_flight = 1 if trace else IN_FLIGHT
        self._cache = model.cache(batch_size, context, kv_cache, PREFILL_ROWS)
        self._cache.check_fits()
        self._rows = Rows.zeros(batch_size)
        self._prefill, self._prefill_rows = None, None  # built at the first prompt of two tokens
        self._counts = model.counts.numpy(model.device)
        self._build_decode(Features.of([sampling]))

    def explain(self) -> str:
        """The decode chain as a table."""
        return str(self._decode)

    def trace(self) -> list[TraceEvent]:
        return list(self._trace or ())

    def run(self, requests: Iterable[Request]) -> Iterator[object]:
        """Yields Prefilled, Token, Finished and Failed as they happen; rows end in any order."""
        self._counts[:] = 0
        waiting = deque(requests)
        features = Features.of(request.sampling for request in waiting)
        if features != self._sampler.features:
            self._build_decode(features)
        free = list(range(self.batch_size))[::-1]
        active: list[_Sequence] = []
        while waiting or active:
            joined = []
            while waiting and free:
                request = waiting.popleft()
                try:
                    self._check(request)
                except PromptError as error:
                    yield Failed(request.index, str(error))
                    continue
                length = min(request.max_tokens, self.context - len(request.tokens))
                joined.append(_Sequence(request, free.pop(), length))
            yield from self._prefill_all(joined)
            for sequence in joined:
                self._seat(len(active), sequence)
                active.append(sequence)
            if active:
                yield from self._decode_until_one_ends(active, free)
        self.stats.expert_counts = self._counts.copy()

    # Prefill

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

    def _prefill_all(self, sequences: list[_Sequence]) -> Iterator[Prefilled]:
        """Prompts of all `sequences` but their last tokens, as many at a time as the chain takes."""
        pending = [(sequence, position) for sequence in sequences for position in range(sequence.before_last)]
        if pending and self._prefill is None:
            self._build_prefill()
        while pending:
            chunk, pending = pending[: self._prefill.plan.rows], pending[self._prefill.plan.rows :]
            start = time.perf_counter()
            rows, device = self._prefill_rows, self.model.device
            tokens, positions, slots = (
                rows.tokens.numpy(device),
                rows.positions.numpy(device),
                rows.slots.numpy(device),
            )
            for row, (sequence, position) in enumerate(chunk):
                tokens[row] = sequence.request.tokens[position]
                positions[row] = position
                slots[row] = sequence.slot
            self._prefill.commit(len(chunk)).wait()
            self.stats.prefill_seconds += time.perf_counter() - start
            self.stats.prompt_tokens += len(chunk)
            for sequence, group in itertools.groupby(chunk, key=lambda item: item[0]):
                count = len(list(group))
                sequence.done += count
                yield Prefilled(sequence.request.index, count, sequence.done, len(sequence.request.tokens))

    def _seat(self, row: int, sequence: _Sequence) -> None:
        """Puts a prefilled sequence into a row of the decode chain."""
        request, state = sequence.request, self._state
        state["tokens"][row] = request.tokens[-1]
        state["positions"][row] = len(request.tokens) - 1
        state["slots"][row] = sequence.slot
        state["temperatures"][row] = request.temperature
        state["seeds"][row] = (request.seed & 0xFFFFFFFF, request.seed >> 32 & 0xFFFFFFFF)
        self._sampler.seat(row, request.sampling, request.tokens, sequence.slot)

    # Decode

    def _decode_until_one_ends(self, active: list[_Sequence], free: list[int]) -> Iterator[object]:
        """Steps of all active rows until a row ends, whose slot then goes to `free`.

        A step is committed before the results of the one before it are read, unless that one is known to be
        a row's last. A row that ends all the same computes the step ahead in vain, within its own slot; the
        other rows use it, and rows are moved when nothing is in flight.
        """
        for sequence in active:
            if not sequence.tokens:  # its last prompt token goes through now
                self.stats.prompt_tokens += 1
                sequence.done += 1
        device, rows, stats = self.model.device, len(active), self.stats
        results = [[view[:rows] for view in views] for views in self._results]
        nbytes = sum(view.nbytes for view in results[0])
        steps = min(sequence.room for sequence in active)  # none goes beyond an end that is known
        ends: list[object | None] = [None] * rows
        live, step, events, flight = rows, 0, [], deque()
        before, clock = device.command_buffers, time.perf_counter()
        try:
            while True:
                while live == rows and len(flight) < self._in_flight and step + len(flight) < steps:
                    flight.append(self._commit(rows, (step + len(flight)) % self._in_flight))
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
                    events = self._take(active, ends, *results[step % self._in_flight])
                    live = ends.count(None)
                step += 1
        finally:
            for run in flight:  # left early: no one is to change rows under a step that runs
                with contextlib.suppress(RunError):  # the first error counts
                    run.wait()
            stats.command_buffers += device.command_buffers - before
        self._unseat(active, [end is not None for end in ends], free)

    def _take(self, active: list[_Sequence], ends: list, result, top=None) -> list[object]:
        """The events of a step, from 8 bytes a row. `ends` has the event that ended a row, or None."""
        events = []
        tops = itertools.repeat(()) if top is None else self._largest(active, top)
        rows = zip(active, ends, result[:, 0].tolist(), result[:, 1].view("float32").tolist(), tops)
        for row, (sequence, end, token, logprob, largest) in enumerate(rows):
            if end is not None:
                continue
            index, tokens = sequence.request.index, sequence.tokens
            if token == _core.NONE:
                end = Failed(index, self._decode.failure(int(result[row, 1])))
            elif token in self.model.end_tokens:
                end = sequence.finished("stop")
            else:
                tokens.append(token)
                sequence.logprobs.append(logprob)
                if largest:
                    sequence.top.append(largest)
                self.stats.generated_tokens += 1
                events.append(Token(index, token, logprob, largest))
                if sequence.request.ends is not None and sequence.request.ends(token):
                    end = sequence.finished("stop")
                elif len(tokens) >= sequence.length:
                    end = sequence.finished("length")
                else:
                    continue
            ends[row] = end
            events.append(end)
        return events

    @staticmethod
    def _largest(active: list[_Sequence], top) -> list[tuple]:
        """The largest log-probabilities that each row asks for, of [rows, n, 2] u32."""
        counts = [sequence.request.sampling.logprobs for sequence in active]
        rows = zip(counts, top[..., 0].tolist(), top[..., 1].view("float32").tolist())
        return [
            tuple(pair for pair in zip(ids[:count], logprobs) if pair[0] != _core.NONE) for count, ids, logprobs in rows
        ]

    def _unseat(self, active: list[_Sequence], ended: list[bool], free: list[int]) -> None:
        """Closes the gaps: rows that go on move up, with their state."""
        kept = [row for row, end in enumerate(ended) if not end]
        for values in self._state.values():
            values[: len(kept)] = values[kept]
        free.extend(sequence.slot for sequence, end in zip(active, ended) if end)
        active[:] = [active[row] for row in kept]

    def _commit(self, rows: int, copy: int):
        """One step, whose results go to that copy."""
        if self._trace is None:
            return self._decode.commit(rows, copy)
        times = self._decode.core.trace(rows)
        self._trace += [
            TraceEvent(dispatch.kernel, dispatch.step, start, end, self.stats.decode_steps)
            for dispatch, (start, end) in zip(self._decode.plan.dispatches, times)
        ]
        return _Done()

    # Chains

    def _build_decode(self, features: Features) -> None:
        """The decode chain with these features, and the state of its rows."""
        device, rows = self.model.device, self._rows
        pipe = Pipeline(device, rows=self.batch_size, label="decode")
        self._sampler = Sampler(device, features, self.batch_size, self.batch_size, self.context)
        outputs = self._sampler.add(pipe, self.model.forward(pipe, rows, self._cache), rows)
        self._decode = pipe.build(outputs, copies=self._in_flight)
        self._results = [
            [self._decode.view(output, copy) for output in self._decode.plan.outputs] for copy in range(self._in_flight)
        ]
        names = ("tokens", "positions", "slots", "temperatures", "seeds")
        self._state = {name: getattr(rows, name).numpy(device) for name in names} | self._sampler.state

    def _build_prefill(self) -> None:
        """The chain that prompts go through: see PREFILL_ROWS."""
        rows, plan = 2 * PREFILL_ROWS, None
        while plan is None or (plan.layout.nbytes > PREFILL_SCRATCH and rows > 1):
            rows //= 2
            self._prefill_rows = Rows.zeros(rows)
            pipe = Pipeline(self.model.device, rows=rows, label="prefill")
            self.model.forward(pipe, self._prefill_rows, self._cache, head=False)
            plan = pipe.plan(())
        self._prefill = Chain(plan, self.model.device)


class _Done:
    """A traced step has completed when it returns."""

    def wait(self) -> None:
        pass
