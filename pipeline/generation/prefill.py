"""Prefill: prompts but for their last tokens go through a chain without the head, many tokens at a time."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterator

from ..graph.builder import Pipeline
from ..graph.chain import Chain
from ..graph.plan import Plan
from ..graph.transfers import Writes
from ..models.cache import Cache
from ..models.decoder import Model
from ..models.row_state import Rows
from .requests import Prefilled, Stats
from .sequence import Sequence

# The rows of the chain are halved until its scratch, most of it the experts' products, takes no more bytes.
PREFILL_SCRATCH = 64 << 20


class Prefill:
    """The chain that prompts go through, of up to `rows` rows. It is built at the first prompt of two tokens."""

    def __init__(self, model: Model, cache: Cache, rows: int) -> None:
        self._model = model
        self._cache = cache
        self._most_rows = rows

    def run(self, sequences: list[Sequence], stats: Stats) -> Iterator[Prefilled]:
        """Prompts of all `sequences` but their last tokens, as many tokens at a time as the chain takes."""
        pending = [(sequence, position) for sequence in sequences for position in range(sequence.before_last)]
        if not pending:
            return
        chain, rows = self.chain, self._planned[1]
        while pending:
            chunk, pending = pending[: chain.plan.rows], pending[chain.plan.rows :]
            start = time.perf_counter()
            with Writes(self._model.device) as writes:
                writes.add(rows.tokens, [sequence.request.tokens[position] for sequence, position in chunk])
                writes.add(rows.positions, [position for _, position in chunk])
                writes.add(rows.slots, [sequence.slot for sequence, _ in chunk])
            chain.commit(len(chunk)).wait()
            stats.prefill_seconds += time.perf_counter() - start
            stats.prompt_tokens += len(chunk)
            for sequence, group in itertools.groupby(chunk, key=lambda item: item[0]):
                count = len(list(group))
                sequence.done += count
                yield Prefilled(sequence.request.index, count, sequence.done, len(sequence.request.tokens))

    @functools.cached_property
    def chain(self) -> Chain:
        return Chain(self.plan, self._model.device)

    @property
    def plan(self) -> Plan:
        """The chain's dispatches and its scratch memory, of which nothing is allocated yet."""
        return self._planned[0]

    @functools.cached_property
    def _planned(self) -> tuple[Plan, Rows]:
        count = self._most_rows
        while True:
            rows = Rows.zeros(count)
            pipe = Pipeline(self._model.device, rows=count, label="prefill", shows_status=False)
            self._model.forward(pipe, rows, self._cache, head=False)
            plan = pipe.plan(())
            if plan.layout.nbytes <= PREFILL_SCRATCH or count == 1:
                return plan, rows
            count //= 2
