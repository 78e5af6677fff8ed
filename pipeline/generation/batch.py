"""The sequences that have a slot of the cache: how they join, go through, decode and leave, step by step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Listed

from ..graph.transfers import Writes
from ..models.decoder import Model
from .flight import Flight
from .paging import Paging
from .parts import Parts
from .requests import Event, Failed, Handle, Prefilled, Stats, TraceEvent
from .sampler import Features
from .seats import Piece
from .sequence import Sequence
from .share import share


class Batch:
    """Sequences in the hands of the thread that steps. Each step is one command buffer.

    returning: sequences that gave up their slots and blocks when the cache was full. They join before anything else.
    """

    def __init__(self, model: Model, parts: Parts, trace: list[TraceEvent] | None, shares: bool) -> None:
        self._model = model
        self._trace = trace
        self._shares = shares
        self._free = list(range(parts.size.batch_size))[::-1]
        self._prompts: list[Sequence] = []  # that have a slot and no row, in order of arrival
        self._active: list[Sequence] = []  # by row
        self.returning: list[Sequence] = []
        self._counted = 0  # command buffers
        self._use(parts)
        self.paging = Paging(parts.cache, model.device, shares)

    def _use(self, parts: Parts) -> None:
        self.parts = parts
        parts.decode.prepare()
        self._flight = Flight(parts.decode, self._trace, parts.seats.mask)

    def make_chains(self, features: Features) -> None:
        """Makes the chains anew where they are for other features, and seats all rows again. The cache stays."""
        if features == self.parts.seats.features:
            return
        self._use(self.parts.remade(features))
        with Writes(self._model.device) as writes:
            self.parts.seats.seat(writes, 0, self._active)

    @property
    def sequences(self) -> list[Sequence]:
        """All that have a slot."""
        return [*self._active, *self._prompts]

    @property
    def room(self) -> int:
        """Slots that are free, or of sequences that have ended, and that none is to come back to."""
        return len(self._free) + sum(each.ended for each in self._active) - len(self.returning)

    @property
    def has_sequences(self) -> bool:
        return bool(self._active or self._prompts or self.returning)

    @property
    def in_flight(self) -> bool:
        return len(self._flight) > 0

    # Between steps

    def admits(self, handle: Handle) -> bool:
        """Whether there are a slot and blocks for one more sequence."""
        if not self._free or self.returning:
            return False
        return self.paging.fits(self._of(handle), self.paging.promised(self._prompts, self._active))

    def join(self, waiting: deque[Handle]) -> None:
        """Gives slots to those that wait, the first ones first, as long as there are slots and blocks."""
        if not self._free or self.returning:
            return
        promised = self.paging.promised(self._prompts, self._active)
        while waiting and self._free and self._enter(self._of(waiting[0]), promised):
            waiting.popleft()

    def _of(self, handle: Handle) -> Sequence:
        request = handle.request
        length = min(request.max_tokens, self.parts.size.context - len(request.tokens))
        return Sequence(handle, 0, length, list(request.tokens))

    def _enter(self, sequence: Sequence, promised: list[int]) -> bool:
        """Gives a sequence a slot, if there are blocks for it beside those that are `promised`, to which its own then
        belong."""
        if not self.paging.fits(sequence, promised):
            return False
        sequence.slot, sequence.done, sequence.before = self._free.pop(), 0, sequence.text
        self.paging.begin(sequence)
        self._prompts.append(sequence)
        promised[:] = [a + b for a, b in zip(promised, self.paging.promised([sequence], ()))]
        return True

    def close_gaps(self) -> list[Event]:
        """Those that ended or were cancelled leave, and those that gave up their slots come back where there is room.
        Gives the ends of those that were cancelled."""
        events: list[Event] = []
        for sequence in (*self.sequences, *self.returning):
            if sequence.handle.cancelled and not sequence.ended:
                events.append(sequence.finish("cancelled"))
        self._remove([each for each in self.sequences if each.ended])
        self.returning = [sequence for sequence in self.returning if not sequence.ended]
        if self.returning:
            promised = self.paging.promised(self._prompts, self._active)
            while self.returning and self._free and self._enter(self.returning[0], promised):
                self.returning.pop(0)
        return events

    def _remove(self, sequences: Listed[Sequence]) -> None:
        """Takes slots and blocks of sequences; what is good of their blocks stays in the tree. Rows move up once."""
        if not sequences:
            return
        leaving = set(sequences)
        decoded = leaving.intersection(self._active)
        if decoded:
            kept = [row for row, each in enumerate(self._active) if each not in leaving]
            self.parts.seats.move_up(kept)
            self._active = [self._active[row] for row in kept]
        self._prompts = [each for each in self._prompts if each not in leaving]
        for sequence in sequences:
            if sequence in decoded and not isinstance(sequence.handle.end, Failed):
                self.paging.went_through(sequence, sequence.text, sequence.positions - 1)
            self.paging.end(sequence)
            self._free.append(sequence.slot)

    def leave(self, why: str, stats: Stats, spoiled: bool = False) -> None:
        """All sequences fail. spoiled: nobody knows what is in the cache."""
        if self.in_flight:
            self._flight.drain()
            stats.command_buffers += self._count()
        for sequence in (*self.sequences, *self.returning):
            if not sequence.ended:
                sequence.handle.end = Failed(sequence.request.index, why)
        self._prompts, self._active, self.returning = [], [], []
        self._free = list(range(self.parts.size.batch_size))[::-1]
        if spoiled:
            self.paging = Paging(self.parts.cache, self._model.device, self._shares)
        else:
            self.paging.clear()

    # Steps

    def decode(self, stats: Stats, joins: Callable[[], bool]) -> list[Event]:
        """A step in which all rows decode, and others are committed ahead, unless `joins` says that a request waits."""

        def ready(ahead: int) -> bool:
            for sequence in self._active:
                if sequence.ended or sequence.handle.cancelled:
                    return False
                if not self.paging.extend(sequence, sequence.positions + ahead):
                    return False
            return not joins()

        if not self.in_flight:
            self._count()
        events = self._flight.step(self._active, stats, ready)
        if not self.in_flight:
            stats.command_buffers += self._count()
        return events

    def step(self, stats: Stats, joins: Callable[[], bool]) -> list[Event]:
        """A step when nothing is in flight."""
        features = self.parts.seats.features
        for sequence in self._prompts:
            request = sequence.request
            features = features.also(Features.of([request.sampling], request.grammar is not None))
            found = sequence.passed(self.paging.advance(sequence))
            stats.prefix_tokens += found
            stats.prompt_tokens += found
        self.make_chains(features)
        ends: list[Event] = []
        single = [each for each in self._prompts if not (each.left or each.length)]
        ends += [sequence.finish("length") for sequence in single]  # of one token, which nothing scores
        self._remove(single)
        with Writes(self._model.device) as writes:
            self._seat(writes, [sequence for sequence in self._prompts if not sequence.left], stats)
        if self._prompts:
            events = self._step_with_prompts(stats)
            if events is not None:
                return ends + events
        self._provide([], stats)
        return ends + (self.decode(stats, joins) if self._active else [])

    def _count(self) -> int:
        """The command buffers that were committed since the last call. It asks the device, which waits for a lock that
        the device holds while it computes: not once per token."""
        before, self._counted = self._counted, self._model.device.computing_command_buffers
        return self._counted - before

    def _seat(self, writes: Writes, ready: list[Sequence], stats: Stats) -> None:
        """Gives rows to sequences, whose last prompt token goes through with the next step."""
        if not ready:
            return
        self.parts.seats.seat(writes, len(self._active), ready)
        self._active += ready
        seated = set(ready)
        self._prompts = [each for each in self._prompts if each not in seated]
        stats.prompt_tokens += sum(sequence.passed(1) for sequence in ready)

    def _step_with_prompts(self, stats: Stats) -> list[Event] | None:
        """Tokens of prompts go through, beside the rows that decode and those whose prompt ends here. None where there
        is no room for any of them."""
        mixed, scores = self.parts.mixed, any(sequence.to_score for sequence in self._prompts)
        alone = mixed is None or (self.parts.alone and not scores)
        parts = self._provided(self.parts.prefill.rows if mixed is None or alone else mixed.rows, stats)
        if not (alone or scores or self._active or any(count == sequence.left for sequence, count in parts)):
            alone, parts = True, self._provided(self.parts.prefill.rows, stats)
        if not parts:
            return None
        if mixed is None or alone:
            return self._step_of_prompts(parts, stats)
        ready = [sequence for sequence, count in parts if count == sequence.left and sequence.length]
        rows, start = len(self._active) + len(ready), time.perf_counter()
        scored, others = _pieces(parts)
        with Writes(self._model.device) as writes:
            leading = rows
            if self.parts.seats.features.scores:
                leading += self.parts.seats.score(writes, rows, scored)
            prompts = leading - rows + self.parts.seats.show(writes, leading, others)
            self._seat(writes, ready, stats)
        self._count()
        self.parts.seats.mask(self._active)
        mixed.run(leading, rows + prompts)
        stats.command_buffers += self._count()
        seconds = (time.perf_counter() - start) / (rows + prompts)
        stats.decode_seconds += rows * seconds
        stats.prefill_seconds += prompts * seconds
        failed = mixed.results.score(rows, scored)
        return failed + self._went_through(parts, stats) + mixed.results.take(0, self._active, stats)

    def _step_of_prompts(self, parts: list[tuple[Sequence, int]], stats: Stats) -> list[Event]:
        """Tokens of prompts go through alone."""
        start = time.perf_counter()
        with Writes(self._model.device) as writes:
            prompts = self.parts.seats.show(writes, self.parts.size.batch_size, _pieces(parts)[1])
        self.parts.prefill.run(prompts)
        stats.prefill_seconds += time.perf_counter() - start
        return self._went_through(parts, stats)

    def _went_through(self, parts: list[tuple[Sequence, int]], stats: Stats) -> list[Event]:
        events: list[Event] = []
        for sequence, count in parts:
            stops = self._stops(sequence)
            new = sequence.passed(count)
            stats.prompt_tokens += new
            if sequence.ended:  # its keys and values are not to be trusted
                continue
            self.paging.went_through(sequence, sequence.before, min(sequence.done, len(sequence.before) - 1))
            self.paging.keep(sequence, stops)
            if new:
                total = len(sequence.request.tokens)
                events.append(Prefilled(sequence.request.index, new, min(sequence.done, total - 1), total))
            if not (sequence.left or sequence.length):
                events.append(sequence.finish("length"))
        return events

    # Blocks

    def _provided(self, rows: int, stats: Stats) -> list[tuple[Sequence, int]]:
        """The prompts that go through in a step of up to `rows` of their tokens, each with how many; there are blocks
        for them and for the rows that decode."""
        while True:
            counts = share(self._left(), rows)
            parts = [(sequence, count) for sequence, count in zip(self._prompts, counts) if count]
            if self._provide(parts, stats):
                return parts

    def _left(self) -> list[int]:
        """How many tokens of each prompt are to go through; 0 for one whose next block another prompt computes now: it
        will be there in the next step."""
        left, computed = [], set()
        for at, sequence in enumerate(self._prompts):
            block, stops = self.paging.next_block(sequence), self._stops(sequence)
            snapshots = self.paging.snapshots
            if snapshots is None:
                waits = block in computed and not sequence.to_score
            else:
                waits = snapshots.awaited(sequence, self._prompts[:at])
            left.append(0 if waits else min([sequence.left, *(stop - sequence.done for stop in stops[:1])]))
            if block is not None:
                computed.add(block)
        return left

    def _stops(self, sequence: Sequence) -> list[int]:
        """The positions behind which a prompt's states are kept for others."""
        snapshots = self.paging.snapshots
        return [] if snapshots is None else snapshots.stops(sequence, self._prompts)

    def _provide(self, parts: list[tuple[Sequence, int]], stats: Stats) -> bool:
        """Gives the rows that decode, and prompts for so many tokens, the blocks of the next step. Where there are too
        few, the youngest sequence gives up its own and is computed again later. Whether none had to."""
        before = stats.preemptions
        wanted = [(sequence, sequence.positions) for sequence in self._active]
        wanted += [(sequence, sequence.done + count + (count == sequence.left)) for sequence, count in parts]
        for sequence, positions in wanted:
            while sequence in self.paging and not self.paging.extend(sequence, positions):
                youngest = max(self.sequences, key=lambda each: each.handle.number)
                self._remove([youngest])
                self.returning.insert(0, youngest)
                stats.preemptions += 1
        return stats.preemptions == before


def _pieces(parts: list[tuple[Sequence, int]]) -> tuple[list[Piece], list[Piece]]:
    """The tokens of a step that are scored, and those that are not."""
    scored, others = [], []
    for sequence, count in parts:
        first, end = sequence.done, sequence.done + count
        places = sequence.to_score
        begin, stop = max(first, places.start), min(end, places.stop)
        if begin >= stop:
            others.append((sequence, range(first, end)))
            continue
        scored.append((sequence, range(begin, stop)))
        others += [(sequence, rest) for rest in (range(first, begin), range(stop, end)) if rest]
    return scored, others
