"""Decoding: the chain of one token per row, which may be committed ahead."""

from __future__ import annotations

import functools
from typing import Protocol

from ..graph.builder import Pipeline
from ..graph.chain import Chain
from ..models.cache import Cache
from ..models.decoder import Model
from .requests import TraceEvent
from .results import Results
from .seats import Seats


class Pending(Protocol):
    """A committed step. `wait` blocks until it has completed, and raises RunError where it failed."""

    def wait(self) -> None: ...


class Decode:
    """The decode chain of the rows that decode, its outputs in `copies`. It takes memory of the device from its first
    use on."""

    def __init__(self, model: Model, cache: Cache, seats: Seats, copies: int) -> None:
        rows = seats.rows.slice(0, seats.decoding)
        pipe = Pipeline(model.device, rows=seats.decoding, label="decode", shows_status=False, own_slots=True)
        logits = model.forward(pipe, rows, cache)
        assert logits is not None
        self.plan = pipe.plan(seats.sampler.add(pipe, logits, rows, finite=True))
        self._model = model
        self._copies = copies

    @functools.cached_property
    def chain(self) -> Chain:
        return Chain(self.plan, self._model.device, self._copies)

    @functools.cached_property
    def results(self) -> Results:
        return Results(self.chain, self._model.end_tokens, self._copies)

    def prepare(self) -> None:
        """Builds the chain, where that has not happened."""
        _ = self.results

    def copy(self, step: int) -> int:
        """The copy of the outputs that step number `step` has."""
        return step % self._copies

    def commit(self, rows: int, step: int) -> Pending:
        """Commits step number `step` of the first `rows` rows."""
        return self.chain.commit(rows, self.copy(step))

    def trace(self, rows: int, command_buffer: int) -> list[TraceEvent]:
        """Runs a step with each dispatch in a command buffer of its own, and waits. Needs `copies` of 1."""
        times = self.chain.core.trace(rows)
        return [
            TraceEvent(dispatch.kernel, dispatch.step, start, end, command_buffer)
            for dispatch, (start, end) in zip(self.plan.dispatches, times)
        ]

    @property
    def nbytes_on_device(self) -> int:
        """Bytes that the chain takes there, outputs included."""
        return self.plan.layout.nbytes + self._copies * sum(tensor.nbytes for tensor in self.plan.outputs)
