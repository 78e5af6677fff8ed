"""Steps in which tokens of prompts go through beside rows that decode, in one command buffer."""

from __future__ import annotations

import functools

from ..graph.builder import Pipeline
from ..graph.chain import Chain
from ..graph.plan import Plan
from ..models.cache import Cache
from ..models.decoder import Model
from .prefill import fitting
from .results import Results
from .seats import Seats


class Mixed:
    """The chain in which the rows that decode lead, and up to `most` tokens of prompts follow. The experts of the last
    layer and the head see the leading rows alone. It takes memory of the device from its first use on."""

    def __init__(self, model: Model, cache: Cache, seats: Seats, most: int) -> None:
        self._model = model
        self._cache = cache
        self._seats = seats
        self._most = most

    def run(self, leading: int, prompts: int) -> None:
        """One step of the first `leading` rows, which decode, and of `prompts` rows behind them. Waits for it."""
        self.chain.commit(leading + prompts, leading=leading).wait()

    @property
    def rows(self) -> int:
        """The most tokens of prompts in a step."""
        return self._planned[1]

    @property
    def plan(self) -> Plan:
        return self._planned[0]

    @functools.cached_property
    def chain(self) -> Chain:
        return Chain(self.plan, self._model.device)

    @functools.cached_property
    def results(self) -> Results:
        return Results(self.chain, self._model.end_tokens)

    @functools.cached_property
    def _planned(self) -> tuple[Plan, int]:
        return fitting(self._plan, self._most)

    def _plan(self, rows: int) -> Plan:
        leading = self._seats.decoding
        pipe = Pipeline(self._model.device, rows=leading + rows, label="mixed", shows_status=False)
        state = self._seats.rows.slice(0, leading + rows)
        logits = self._model.forward(pipe, state, self._cache, leading=leading)
        assert logits is not None
        return pipe.plan(self._seats.sampler.add(pipe, logits, state, finite=True))
