"""Decoding: the chain of one token per row, the state of its rows, and the results that the host reads of a step."""

from __future__ import annotations

import functools
import itertools
from typing import Protocol

import numpy as np

from ..device.core import _core
from ..graph.builder import Pipeline
from ..graph.chain import Chain
from ..graph.placing import move_rows
from ..graph.transfers import Writes
from ..models.cache import Cache
from ..models.decoder import Model
from ..models.row_state import Rows
from .requests import Event, Failed, Token, Top, TraceEvent
from .sampler import Features, Sampler
from .sequence import Sequence


class Pending(Protocol):
    """A committed step. `wait` blocks until it has completed, and raises RunError where it failed."""

    def wait(self) -> None: ...


class Decode:
    """The decode chain of `rows` with the sampling steps that `features` ask for, its outputs in `copies`.

    A row is seated, decodes step by step, and ends. Rows move, and new ones are seated, when no step is in flight.
    """

    def __init__(self, model: Model, cache: Cache, rows: Rows, context: int, features: Features, copies: int) -> None:
        (count,), device = rows.tokens.shape, model.device
        self.features = features
        self._copies = copies
        self._model = model
        self._sampler = Sampler(features, count, count, context)
        pipe = Pipeline(device, rows=count, label="decode", shows_status=False)
        logits = model.forward(pipe, rows, cache)
        assert logits is not None
        self.plan = pipe.plan(self._sampler.add(pipe, logits, rows, finite=True))
        self._rows = rows
        self._state = (*rows.all, *self._sampler.state)

    @functools.cached_property
    def chain(self) -> Chain:
        """The chain, which takes memory of the device from its first use on."""
        return Chain(self.plan, self._model.device, self._copies)

    @functools.cached_property
    def _results(self) -> list[list[np.ndarray]]:
        """The outputs of each copy."""
        return [[self.chain.view(output, copy) for output in self.plan.outputs] for copy in range(self._copies)]

    def prepare(self) -> None:
        """Builds the chain, where that has not happened."""
        _ = self._results

    # Rows

    def seat(self, writes: Writes, row: int, sequence: Sequence) -> None:
        """Puts a prefilled sequence into a row."""
        request, rows = sequence.request, self._rows
        writes.add(rows.tokens, request.tokens[-1], row)
        writes.add(rows.positions, len(request.tokens) - 1, row)
        writes.add(rows.slots, sequence.slot, row)
        writes.add(rows.temperatures, request.temperature, row)
        writes.add(rows.seeds, (request.seed & 0xFFFFFFFF, request.seed >> 32 & 0xFFFFFFFF), row)
        self._sampler.seat(writes, row, request.sampling, request.tokens, sequence.slot)

    def move_up(self, kept: list[int]) -> None:
        """Closes the gaps: the rows `kept` become the first ones, with their state."""
        if kept != list(range(len(kept))):
            move_rows(self._model.device, self._state, kept)

    # Steps

    def commit(self, rows: int, step: int) -> Pending:
        """Commits step number `step` of the first `rows` rows."""
        return self.chain.commit(rows, step % self._copies)

    def trace(self, rows: int, command_buffer: int) -> list[TraceEvent]:
        """Runs a step with each dispatch in a command buffer of its own, and waits. Needs `copies` of 1."""
        times = self.chain.core.trace(rows)
        return [
            TraceEvent(dispatch.kernel, dispatch.step, start, end, command_buffer)
            for dispatch, (start, end) in zip(self.plan.dispatches, times)
        ]

    @property
    def nbytes_on_device(self) -> int:
        """Bytes that the chain and the state of its rows take there, outputs included."""
        outputs = sum(tensor.nbytes for tensor in self.plan.outputs)
        return self.plan.layout.nbytes + self._copies * outputs + sum(storage.nbytes for storage in self._state)

    def nbytes(self, rows: int) -> int:
        """Bytes that the host reads of a step."""
        return sum(view[:rows].nbytes for view in self._results[0])

    def take(self, step: int, active: list[Sequence], ends: list[Event | None]) -> list[Event]:
        """The events of a step that has completed, from 8 bytes per row. `ends` has the event that ended a row, or
        None; rows that end with this step are entered there."""
        result, *more = (view[: len(active)] for view in self._results[step % self._copies])
        events: list[Event] = []
        tops = self._largest(active, more[0]) if more else itertools.repeat(())
        rows = zip(active, ends, result[:, 0].tolist(), result[:, 1].view("float32").tolist(), tops)
        for row, (sequence, end, token, logprob, top) in enumerate(rows):
            if end is not None:
                continue
            index = sequence.request.index
            if token == _core.NONE:
                end = Failed(index, self.chain.failure(int(result[row, 1])))
            elif token in self._model.end_tokens:
                end = sequence.finished("stop")
            else:
                events.append(Token(index, token, logprob, top))
                reason = sequence.take(token, logprob, top)
                if reason is None:
                    continue
                end = sequence.finished(reason)
            ends[row] = end
            events.append(end)
        return events

    @staticmethod
    def _largest(active: list[Sequence], top: np.ndarray) -> list[Top]:
        """The largest log-probabilities that each row asks for, of [rows, n, 2] u32."""
        counts = [sequence.request.sampling.logprobs for sequence in active]
        rows = zip(counts, top[..., 0].tolist(), top[..., 1].view("float32").tolist())
        return [
            tuple(pair for pair in zip(ids[:count], logprobs) if pair[0] != _core.NONE) for count, ids, logprobs in rows
        ]
