"""The host reads 8 bytes per row of a step, and the largest log-probabilities where they are asked for. Here they
become events."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Listed

import numpy as np

from ..device.core import _core
from ..graph.chain import Chain
from .requests import Event, Failed, Stats, Token, Top
from .seats import Piece
from .sequence import Sequence


class Results:
    """The outputs of a chain that samples, as events; of each of its `copies`."""

    def __init__(self, chain: Chain, end_tokens: Listed[int], copies: int = 1) -> None:
        self._chain = chain
        self._end_tokens = end_tokens
        self._views = [[chain.view(output, copy) for output in chain.plan.outputs] for copy in range(copies)]
        self._row_bytes = sum(view[:1].nbytes for view in self._views[0])

    def take(self, copy: int, active: list[Sequence], stats: Stats) -> list[Event]:
        """The events of a step that has completed; what ends a sequence is noted in its handle. One that ended earlier
        gives none: its part of the step was wasted."""
        result, *more = (view[: len(active)] for view in self._views[copy])
        events: list[Event] = []
        live = ends = 0
        tops = self._largest(active, more[0]) if more else itertools.repeat(())
        rows = zip(active, result[:, 0].tolist(), result[:, 1].view("float32").tolist(), tops)
        for row, (sequence, token, logprob, top) in enumerate(rows):
            handle = sequence.handle
            if handle.end is not None:
                continue
            live += 1
            if token == _core.NONE:
                stuck = sequence.matcher.error if sequence.matcher is not None else None
                why = stuck or self._chain.failure(int(result[row, 1]))
                handle.end = Failed(handle.request.index, why, asked=stuck is not None)
                ends += 1
            elif token in self._end_tokens:
                sequence.finish("stop")
                ends += 1
            else:
                events.append(Token(handle.request.index, token, logprob, top))
                sequence.take(token, logprob, top)
            if handle.end is not None:
                events.append(handle.end)
        if live:
            stats.decode_steps += 1
            stats.decode_tokens += live
            stats.generated_tokens += live - ends
            stats.readback_bytes += self._row_bytes * len(active)
        return events

    def score(self, row: int, pieces: Listed[Piece]) -> list[Event]:
        """Takes the log-probabilities of the tokens that rows from `row` on were given. The events of sequences that
        fail by that."""
        events: list[Event] = []
        for sequence, places in pieces:
            result, *more = (view[row : row + len(places)] for view in self._views[0])
            row += len(places)
            failed = result[result[:, 0] == _core.NONE]
            if len(failed):
                sequence.handle.end = Failed(sequence.request.index, self._chain.failure(int(failed[0, 1])))
                events.append(sequence.handle.end)
            sequence.scores += result[:, 1].view("float32").tolist()
            count = sequence.request.sampling.prompt_logprobs
            if count:
                sequence.prompt_top += self._first([count] * len(places), more[0])
        return events

    def _largest(self, active: list[Sequence], top: np.ndarray) -> list[Top]:
        """The largest log-probabilities that each row asks for."""
        return self._first([sequence.request.sampling.logprobs for sequence in active], top)

    @staticmethod
    def _first(counts: list[int], top: np.ndarray) -> list[Top]:
        """The first so many of each row of [rows, n, 2] u32."""
        rows = zip(counts, top[..., 0].tolist(), top[..., 1].view("float32").tolist())
        return [
            tuple(pair for pair in zip(ids[:count], logprobs) if pair[0] != _core.NONE) for count, ids, logprobs in rows
        ]
