"""Generation: prompts in, tokens out, every decoded token of a batch one command buffer.

requests ─▶ scheduler ─▶ steps (prompts beside rows that decode; 8 bytes a row come back) ─▶ events
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Listed

import numpy as np

from ..errors import PromptError, UsageError
from ..graph.formats import CACHE_DTYPES
from ..models.cache import PREFILL_ROWS
from ..models.decoder import Model, Progress
from .requests import Event, Failed, Request, Stats, TraceEvent
from .scheduler import Scheduler
from .settings import PROMPT_ROWS, Sampling

__all__ = ["Generator", "cache_bytes"]


def cache_bytes(model: Model, batch_size: int, context: int, kv_cache: str = CACHE_DTYPES[0]) -> int:
    """The bytes that the KV cache of such a Generator takes. Nothing is allocated."""
    return model.cache(batch_size, context, kv_cache, PREFILL_ROWS).nbytes


class Generator:
    """Runs requests through a model, `batch_size` sequences at a time: a face of :class:`Scheduler`, which is given the
    requests of a run as it has room.

    context: positions a sequence may reach (default the model's). kv_cache: the dtype in which keys and
    values are kept, "f16", "f32" or "q8"; UsageError where that takes more memory than the machine has. A device that
    has memory of its own must also hold the weights and scratch memory. There `least` is the (batch size, context) to
    which these may be lowered where memory is too small (default: the context that was not given, to 256); `notice`
    then gets one line, and `batch_size` and `context` say what they are. prompt_rows: the most tokens of prompts that
    go through in a step beside rows that decode; with 0 they go through alone. `progress` gets (bytes so far, all)
    while weights go to such a device.
    trace: time every decode dispatch, each then in a command buffer of its own. The chains have the sampling steps
    that some request of a run may use, and no others; before the first run, those of `sampling`.

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
        prompt_rows: int = PROMPT_ROWS,
        trace: bool = False,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
        least: tuple[int, int] | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.model = model
        self._running = threading.Lock()
        self.scheduler = Scheduler(
            model,
            batch_size=batch_size,
            context=context,
            kv_cache=kv_cache,
            prompt_rows=prompt_rows,
            trace=trace,
            sampling=sampling,
            progress=progress,
            least=least,
            notice=notice,
        )

    @property
    def batch_size(self) -> int:
        return self.scheduler.batch_size

    @property
    def context(self) -> int:
        return self.scheduler.context

    @property
    def stats(self) -> Stats:
        """The cost of all runs so far."""
        return self.scheduler.stats

    @stats.setter
    def stats(self, stats: Stats) -> None:
        self.scheduler.stats = stats

    def explain(self) -> str:
        """The decode chain as a table."""
        return self.scheduler.explain()

    def trace(self) -> list[TraceEvent]:
        """The times of all decode dispatches so far; empty without `trace`."""
        return self.scheduler.trace()

    def run(self, requests: Iterable[Request]) -> Iterator[Event]:
        """Yields Prefilled, Token, Finished and Failed as they happen; rows end in any order.

        A request is taken from `requests` when there is room for it. Those of a list make the chains for the settings
        of all of them; else a request that needs more makes them anew."""
        if not self._running.acquire(blocking=False):
            raise UsageError("this Generator runs already; end or close that run first, or make another Generator")
        try:
            yield from self._run(requests)
        finally:
            self.scheduler.abandon()
            self._running.release()

    def _run(self, requests: Iterable[Request]) -> Iterator[Event]:
        counts, device, scheduler = self.model.counts, self.model.device, self.scheduler
        counts.write(device, np.zeros(counts.shape, np.uint32))
        if isinstance(requests, Listed):
            scheduler.expect(request.sampling for request in requests)
        waiting, more = iter(requests), True
        while more or not scheduler.idle:
            while more and scheduler.room > 0:
                request = next(waiting, None)
                more = request is not None
                if request is not None:
                    try:
                        scheduler.submit(request)
                    except PromptError as error:
                        yield Failed(request.index, str(error))
            yield from scheduler.step()
        self.stats.expert_counts = counts.read(device)
