"""Generation: prompts in, tokens out, every decoded token of a batch one command buffer.

requests ─▶ scheduler ─▶ steps (prompts beside rows that decode; 8 bytes a row come back) ─▶ events
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Listed

import numpy as np

from ..errors import PromptError, UsageError
from ..graph.formats import CACHE_DTYPES
from ..models.cache import PREFILL_ROWS
from ..models.decoder import Model
from .requests import Event, Failed, Request
from .scheduler import Scheduler

__all__ = ["Generator", "cache_bytes"]


def cache_bytes(model: Model, batch_size: int, context: int, kv_cache: str = CACHE_DTYPES[0]) -> int:
    """The bytes that the KV cache of such a Generator takes. Nothing is allocated."""
    return model.cache(batch_size, context, kv_cache, PREFILL_ROWS).nbytes


class Generator(Scheduler):
    """A `Scheduler` that is given all requests of a run, as it has room for them. It takes the same settings.

    Threads: a generator has one cache and one set of rows, so it serves one run at a time; `run` raises
    UsageError where an earlier run has neither ended nor been closed. A run may be continued in another thread as long
    as only one thread at a time asks it for events. Generators of their own may run in threads of their own, also on
    one model; their `stats.expert_counts` then count the choices of all of them.
    """

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Yields Prefilled, Token, Finished and Failed as they happen; rows end in any order.

        A request is taken from `requests` when there is room for it. None says that there is none now: rows that run go
        on, and it is asked again after the next step; where nothing runs, it should wait before it says so. The
        requests of a list make the chains for the settings of all of them; else a request that needs more makes them
        anew."""
        if not self._running.acquire(blocking=False):
            raise UsageError("this Generator runs already; end or close that run first, or make another Generator")
        try:
            yield from self._run(requests)
        finally:
            self.abandon()
            self._running.release()

    def _run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        counts, device = self.model.counts, self.model.device
        counts.write(device, np.zeros(counts.shape, np.uint32))
        if isinstance(requests, Listed):
            self.expect(request for request in requests if request is not None)
        waiting, more = iter(requests), True
        while more or not self.idle:
            for _ in range(self.room if more else 0):
                try:
                    request = next(waiting)
                except StopIteration:
                    more = False
                    break
                if request is None:
                    break
                try:
                    self.submit(request)
                except PromptError as error:
                    yield Failed(request.index, str(error))
            if not self.idle:
                yield from self.step()
        self.stats.expert_counts = counts.read(device)
