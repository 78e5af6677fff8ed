"""What a generator of a size is made of, and the size for which a device's memory has room."""

from __future__ import annotations

import functools

from ..models.cache import PREFILL_ROWS, Cache
from ..models.decoder import Model
from ..models.fitting import Size, fit
from ..models.row_state import Rows
from .decode import Decode
from .prefill import Prefill
from .sampler import Features


class Parts:
    """The cache, the rows and both chains, which are planned on paper: nothing is allocated before it is used. So what
    they need is known before a byte of the weights goes to the device."""

    def __init__(self, model: Model, size: Size, cache: Cache, features: Features, copies: int) -> None:
        self.size = size
        self.cache = cache
        self.rows = Rows.zeros(size.batch_size)
        self.prefill = Prefill(model, cache, PREFILL_ROWS)
        self.decode = Decode(model, cache, self.rows, size.context, features, copies)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch memory, which both chains have at the same time, and of the rows' state."""
        return self.prefill.plan.layout.nbytes + self.decode.nbytes_on_device


def fitting_parts(
    model: Model, wanted: Size, least: Size, dtype: str, features: Features, copies: int
) -> tuple[Parts, str]:
    """The parts of the size that `fit` finds, and its line. Each size is planned once."""

    def cache(size: Size) -> Cache:
        return model.cache(size.batch_size, size.context, dtype, PREFILL_ROWS)

    @functools.cache
    def parts(size: Size) -> Parts:
        return Parts(model, size, cache(size), features, copies)

    size, line = fit(model, wanted, least, dtype, lambda s: cache(s).nbytes, lambda s: parts(s).scratch_bytes)
    return parts(size), line
