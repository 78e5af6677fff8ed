"""Steps that are committed ahead: the device has the next one while the host reads the results of the last one."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable

from ..errors import RunError
from .decode import Decode, Pending
from .requests import Event, Stats, TraceEvent
from .sequence import Sequence

# More would be wasted where a text ends.
IN_FLIGHT = 2


class Flight:
    """The decode steps in flight. `trace` takes the times of their dispatches; each step has then completed when it is
    committed. mask: called before a step with rows that have grammars. Such a step is not committed ahead: which tokens
    are allowed follows from the last one."""

    def __init__(self, decode: Decode, trace: list[TraceEvent] | None, mask: Callable[[list[Sequence]], None]) -> None:
        self._mask = mask
        self._decode = decode
        self._trace = trace
        self._most = IN_FLIGHT if trace is None else 1
        self._pending: deque[tuple[Pending, int]] = deque()
        self._steps = 0
        self._clock = 0.0

    def __len__(self) -> int:
        return len(self._pending)

    def step(self, active: list[Sequence], stats: Stats, ready: Callable[[int], bool]) -> list[Event]:
        """The events of the next step of all `active` rows; none if rows are to change before one. ready: called with
        the number of steps in flight, says whether one more may be committed.

        A step is committed before the results of the one before it are read, unless that one is known to be a row's
        last. Where a row ends all the same, its part of the step ahead is wasted, within its own slot; the other rows
        use theirs.
        """
        if not self._pending:
            self._fill(active, stats, ready)
        if not self._pending:
            return []
        pending, step = self._pending[0]
        pending.wait()
        self._pending.popleft()
        now = time.perf_counter()
        stats.decode_seconds += now - self._clock
        self._clock = now
        events = self._decode.results.take(self._decode.copy(step), active, stats)
        self._fill(active, stats, ready)
        return events

    def _fill(self, active: list[Sequence], stats: Stats, ready: Callable[[int], bool]) -> None:
        """Commits steps, none beyond an end that is known."""
        masked = any(sequence.request.grammar is not None for sequence in active)
        steps = min(1 if masked else self._most, min(sequence.room for sequence in active))
        while len(self._pending) < steps and ready(len(self._pending)):
            if not self._pending:
                self._clock = time.perf_counter()
            if masked:
                self._mask(active)
            self._pending.append((self._commit(len(active), stats), self._steps))
            self._steps += 1

    def _commit(self, rows: int, stats: Stats) -> Pending:
        if self._trace is None:
            return self._decode.commit(rows, self._steps)
        self._trace += self._decode.trace(rows, stats.decode_steps)
        return _Done()

    def drain(self) -> None:
        """Waits for all steps, whose results nobody wants: no one is to change rows under a step that runs."""
        while self._pending:
            with contextlib.suppress(RunError):  # the first error counts
                self._pending.popleft()[0].wait()


class _Done:
    def wait(self) -> None:
        """Returns at once: a traced step has completed."""
