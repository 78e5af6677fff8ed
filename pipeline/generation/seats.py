"""The rows of a generator's chains on the device: those that decode come first, behind them those of prompts."""

from __future__ import annotations

from collections.abc import Iterable

from ..device.device import Device
from ..graph.placing import move_rows
from ..graph.transfers import Writes
from ..models.row_state import Rows
from .sampler import Features, Sampler
from .sequence import Sequence


class Seats:
    """The state of up to `decoding` rows that decode, with what `features` need, and of up to `prompts` more.

    A row is seated, decodes step by step, and ends. Rows move, and new ones are seated, when no step is in flight.
    """

    def __init__(self, device: Device, decoding: int, prompts: int, context: int, features: Features) -> None:
        self.decoding, self.prompts = decoding, prompts
        self.features = features
        self.rows = Rows.zeros(decoding + prompts)
        self.sampler = Sampler(features, decoding, decoding, context)
        self._device = device

    def seat(self, writes: Writes, row: int, sequence: Sequence) -> None:
        """Puts a sequence into a row; its last token is the input of the next step."""
        request, rows, tokens = sequence.request, self.rows, sequence.text
        writes.add(rows.tokens, tokens[-1], row)
        writes.add(rows.positions, len(tokens) - 1, row)
        writes.add(rows.slots, sequence.slot, row)
        writes.add(rows.temperatures, request.temperature, row)
        writes.add(rows.seeds, (request.seed & 0xFFFFFFFF, request.seed >> 32 & 0xFFFFFFFF), row)
        self.sampler.seat(writes, row, request.sampling, tokens, len(request.tokens), sequence.slot)

    def show(self, writes: Writes, row: int, parts: Iterable[tuple[Sequence, int]]) -> int:
        """Puts tokens of prompts into rows from `row` on, of each sequence the next so many; gives how many rows."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        for sequence, count in parts:
            tokens += sequence.request.tokens[sequence.done : sequence.done + count]
            positions += range(sequence.done, sequence.done + count)
            slots += [sequence.slot] * count
        writes.add(self.rows.tokens, tokens, row)
        writes.add(self.rows.positions, positions, row)
        writes.add(self.rows.slots, slots, row)
        return len(tokens)

    @property
    def nbytes(self) -> int:
        """Bytes of the state of all rows."""
        return sum(storage.nbytes for storage in (*self.rows.all, *self.sampler.state))

    def move_up(self, kept: list[int]) -> None:
        """Closes the gaps: the rows `kept` become the first ones, with their state."""
        if kept != list(range(len(kept))):
            move_rows(self._device, (*self.rows.slice(0, self.decoding).all, *self.sampler.state), kept)
