"""What readers of weights need of the loader that they work for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.packed.scheme import Packing
from ..checkpoints.tensor_info import TensorInfo
from ..device.device import Device
from ..graph.tensors import Shape, Storage
from .survey import Survey

__all__ = ["Taker"]


class Taker(Protocol):
    """A Loader, as far as it matters to them."""

    checkpoint: Checkpoint
    device: Device | Survey
    repacked: Counter[Packing]
    seconds: float
    orders: dict[bytes, Storage]  # of columns, by their bytes: weights that read the same numbers share one

    def has(self, name: str) -> bool: ...

    def info(self, name: str, shape: Shape, dtypes: Sequence[str]) -> TensorInfo:
        """A tensor of this shape and one of these dtypes; CheckpointError where it is not that."""

    def storage(self, infos: Sequence[TensorInfo], shape: Shape) -> Storage:
        """Tensors as they are stored, one behind another: mapped where that is possible."""

    def made(
        self, shape: Shape, dtype: str, parts: Callable[[], Iterable[np.ndarray]], sources: Sequence[TensorInfo] = ()
    ) -> Storage:
        """Memory of our own that `parts` fill, arrays one behind another; `sources` are what they are made from."""
