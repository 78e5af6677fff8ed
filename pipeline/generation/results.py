"""What the host reads of a step: 8 bytes per row, and where asked for the largest log-probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Listed

import numpy as np

from ..device.core import _core
from ..graph.chain import Chain
from .requests import Event, Failed, Stats, Token, Top
from .sequence import Sequence


class Results:
    """The outputs of a chain that samples, as events; of each of its `copies`."""

    def __init__(self, chain: Chain, end_tokens: Listed[int], copies: int = 1) -> None:
        self._chain = chain
        self._end_tokens = end_tokens
        self._views = [[chain.view(output, copy) for output in chain.plan.outputs] for copy in range(copies)]

    def nbytes(self, rows: int) -> int:
        """Bytes that the host reads of a step."""
        return sum(view[:rows].nbytes for view in self._views[0])

    def take(self, copy: int, active: list[Sequence], stats: Stats) -> list[Event]:
        """The events of a step that has completed; what ends a sequence is noted in its handle. One that ended earlier
        gives none: its part of the step was wasted."""
        live = sum(not sequence.ended for sequence in active)
        if not live:
            return []
        stats.decode_steps += 1
        stats.decode_tokens += live
        stats.readback_bytes += self.nbytes(len(active))
        events = self._events(copy, active)
        stats.generated_tokens += sum(isinstance(event, Token) for event in events)
        return events

    def _events(self, copy: int, active: list[Sequence]) -> list[Event]:
        result, *more = (view[: len(active)] for view in self._views[copy])
        events: list[Event] = []
        tops = self._largest(active, more[0]) if more else itertools.repeat(())
        rows = zip(active, result[:, 0].tolist(), result[:, 1].view("float32").tolist(), tops)
        for row, (sequence, token, logprob, top) in enumerate(rows):
            handle = sequence.handle
            if handle.end is not None:
                continue
            if token == _core.NONE:
                handle.end = Failed(handle.request.index, self._chain.failure(int(result[row, 1])))
            elif token in self._end_tokens:
                sequence.finish("stop")
            else:
                events.append(Token(handle.request.index, token, logprob, top))
                sequence.take(token, logprob, top)
            if handle.end is not None:
                events.append(handle.end)
        return events

    @staticmethod
    def _largest(active: list[Sequence], top: np.ndarray) -> list[Top]:
        """The largest log-probabilities that each row asks for, of [rows, n, 2] u32."""
        counts = [sequence.request.sampling.logprobs for sequence in active]
        rows = zip(counts, top[..., 0].tolist(), top[..., 1].view("float32").tolist())
        return [
            tuple(pair for pair in zip(ids[:count], logprobs) if pair[0] != _core.NONE) for count, ids, logprobs in rows
        ]
