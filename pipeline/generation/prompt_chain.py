"""The base of chains that tokens of prompts go through, many at a time."""

from __future__ import annotations

import functools

from ..graph.chain import Chain
from ..graph.plan import Plan
from ..models.cache import Cache
from ..models.decoder import Model
from .seats import Seats

# The rows of prompts in a chain are halved until its scratch, most of it the experts' products, takes no more bytes.
PROMPT_SCRATCH = 64 << 20


class PromptChain:
    """A chain for up to `most` rows of prompts. It is planned when somebody asks, and takes memory of the device from
    its first use on."""

    def __init__(self, model: Model, cache: Cache, seats: Seats, most: int) -> None:
        self.model = model
        self.cache = cache
        self.seats = seats
        self._most = most

    def plan_of(self, rows: int) -> Plan:
        """The plan for so many rows of prompts."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """The most rows of prompts in a step."""
        return self._planned[1]

    @property
    def plan(self) -> Plan:
        return self._planned[0]

    @functools.cached_property
    def chain(self) -> Chain:
        return Chain(self.plan, self.model.device)

    @functools.cached_property
    def _planned(self) -> tuple[Plan, int]:
        rows = self._most
        while True:
            made = self.plan_of(rows)
            if made.layout.nbytes <= PROMPT_SCRATCH or rows == 1:
                return made, rows
            rows //= 2
