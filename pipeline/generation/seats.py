"""The rows of a generator's chains on the device: those that decode come first, behind them those of prompts."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from collections.abc import Sequence as Listed
from typing import TypeAlias

import numpy as np

from ..device.device import Device
from ..graph.placing import move_rows
from ..graph.transfers import Writes
from ..models.row_state import Rows
from .sampler import Features, Sampler
from .sequence import Sequence

Piece: TypeAlias = tuple[Sequence, range]
"""Tokens of a sequence that go through before it decodes, by their positions."""


class Seats:
    """The state of up to `decoding` rows that decode, with what `features` need, and of up to `prompts` more.

    A row is seated, decodes step by step, and ends. Rows move, and new ones are seated, when no step is in flight.
    """

    def __init__(
        self, device: Device, decoding: int, prompts: int, context: int, features: Features, vocab: int = 0
    ) -> None:
        self.decoding, self.prompts = decoding, prompts
        self.features = features
        self.rows = Rows.zeros(decoding + prompts)
        self.sampler = Sampler(features, decoding + (prompts if features.scores else 0), decoding, context, vocab)
        self._device = device

    def seat(self, writes: Writes, row: int, sequences: Listed[Sequence]) -> None:
        """Puts sequences into the rows from `row` on; their last tokens are the input of the next step."""
        rows, requests = self.rows, [sequence.request for sequence in sequences]
        writes.add(rows.tokens, [sequence.last for sequence in sequences], row)
        writes.add(rows.positions, [sequence.positions - 1 for sequence in sequences], row)
        writes.add(rows.slots, [sequence.slot for sequence in sequences], row)
        writes.add(rows.temperatures, [request.temperature for request in requests], row)
        seeds = [(request.seed & 0xFFFFFFFF, request.seed >> 32 & 0xFFFFFFFF) for request in requests]
        writes.add(rows.seeds, seeds, row)
        if not self.sampler.state:
            return
        for at, sequence in enumerate(sequences, row):
            request = sequence.request
            masked = request.grammar is not None
            self.sampler.seat(writes, at, request.sampling, sequence.text, len(request.tokens), sequence.slot, masked)

    def mask(self, sequences: Listed[Sequence]) -> None:
        """Writes the masks of the next tokens of the rows that decode, while nothing is in flight."""
        masks = self._masks
        for row, sequence in enumerate(sequences):
            if sequence.matcher is not None:
                sequence.matcher.fill(masks[row])

    @functools.cached_property
    def _masks(self) -> list[np.ndarray]:
        """That of each row; a view is not made again for every step, in which the device waits."""
        return [] if self.sampler.masks is None else list(self.sampler.masks.numpy(self._device))

    def show(self, writes: Writes, row: int, pieces: Iterable[Piece]) -> int:
        """Puts tokens of prompts into rows from `row` on; gives how many rows."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        for sequence, places in pieces:
            tokens += sequence.before[places.start : places.stop]
            positions += places
            slots += [sequence.slot] * len(places)
        writes.add(self.rows.tokens, tokens, row)
        writes.add(self.rows.positions, positions, row)
        writes.add(self.rows.slots, slots, row)
        return len(tokens)

    def score(self, writes: Writes, row: int, pieces: Listed[Piece]) -> int:
        """Puts tokens of prompts into rows from `row` on that are to be scored; gives how many rows. Those before `row`
        decode."""
        targets: list[int] = []
        for sequence, places in pieces:
            targets += sequence.before[places.start + 1 : places.stop + 1]
        self.sampler.give(writes, row, targets)
        writes.add(self.rows.temperatures, [0.0] * len(targets), row)
        return self.show(writes, row, pieces)

    @property
    def nbytes(self) -> int:
        """Bytes of the state of all rows."""
        return sum(storage.nbytes for storage in (*self.rows.all, *self.sampler.state))

    def move_up(self, kept: list[int]) -> None:
        """Closes the gaps: the rows `kept` become the first ones, with their state."""
        if kept != list(range(len(kept))):
            move_rows(self._device, (*self.rows.slice(0, self.decoding).all, *self.sampler.state), kept)
