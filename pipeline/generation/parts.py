"""The parts of which a scheduler is made, and how large they may be on a device with memory of its own."""

from __future__ import annotations

import functools

from ..models.cache import PREFILL_ROWS, Cache
from ..models.decoder import Model
from ..models.fitting import Size, fit
from .decode import Decode
from .mixed import Mixed
from .prefill import Prefill
from .sampler import Features
from .seats import Seats
from .settings import PROMPT_ROWS


class Parts:
    """The rows and the chains, which are planned on paper: nothing is allocated before it is used. So what they need is
    known before a byte of the weights goes to the device.

    prompt_rows: the most tokens of prompts beside rows that decode; copies: of what a decode step puts out.
    """

    def __init__(
        self, model: Model, cache: Cache, size: Size, features: Features, prompt_rows: int, copies: int
    ) -> None:
        self._model, self._prompt_rows, self._copies = model, prompt_rows, copies
        self.size = size
        self.cache = cache
        self.seats = Seats(model.device, size.batch_size, PREFILL_ROWS, size.context, features, model.vocab_size)
        self.decode = Decode(model, cache, self.seats, copies)
        # A sequence's last token may lead, and all of its rows are to fit a window's ring.
        most = min(prompt_rows or PROMPT_ROWS, PREFILL_ROWS - 1)
        self.mixed = Mixed(model, cache, self.seats, most) if prompt_rows or features.scores else None
        self.alone = not prompt_rows  # whether prompts that are not scored go through alone
        self.prefill = Prefill(model, cache, self.seats, PREFILL_ROWS)

    def remade(self, features: Features) -> Parts:
        """The same for other features, with the same cache."""
        return Parts(self._model, self.cache, self.size, features, self._prompt_rows, self._copies)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch memory, which all chains have at the same time, and of the rows' state."""
        prompts = [chain.plan.layout.nbytes for chain in (self.mixed, self.prefill) if chain is not None]
        return self.decode.nbytes_on_device + sum(prompts) + self.seats.nbytes


def fitting_parts(
    model: Model, wanted: Size, least: Size, dtype: str, features: Features, prompt_rows: int, copies: int
) -> tuple[Parts, str]:
    """The parts of the size that `fit` finds, and its line. Each size is planned once."""

    def cache(size: Size) -> Cache:
        return model.paged_cache(size.batch_size, size.context, dtype, PREFILL_ROWS)

    @functools.cache
    def parts(size: Size) -> Parts:
        return Parts(model, cache(size), size, features, prompt_rows, copies)

    size, line = fit(model, wanted, least, dtype, lambda s: cache(s).nbytes, lambda s: parts(s).scratch_bytes)
    return parts(size), line
