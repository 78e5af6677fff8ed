"""The divisors of rope's frequencies, which GGUF files have as tensors."""

from __future__ import annotations

import struct

from ...errors import CheckpointError
from ..files import open_file
from .metadata import Metadata
from .values import FIX

__all__ = ["rope_factors"]

MOST_BYTES = 1 << 16


def rope_factors(values: Metadata, stem: str = "rope_freqs") -> list[float]:
    """The divisor of each frequency, where the file says (llama3's scaling, Gemma 4's in part, Phi's for short and for
    long texts); none where it does not."""
    info = values.header.tensors.get(f"{stem}.weight")
    if info is None:
        return []
    if info.dtype != "F32" or len(info.shape) != 1 or info.nbytes > MOST_BYTES:
        raise CheckpointError(
            f'{info.file}: tensor "{stem}.weight" is {info.dtype} {list(info.shape)}, '
            f"expected F32 with a value for each frequency; {FIX}"
        )
    try:
        with open_file(info.file) as stream:
            stream.seek(info.offset)
            raw = stream.read(info.nbytes)
    except OSError as error:
        raise CheckpointError(f"{info.file}: cannot be read: {error.strerror or error}") from error
    factors = [value for (value,) in struct.iter_unpack("<f", raw[: len(raw) // 4 * 4])]
    if len(factors) != info.shape[0] or not all(factor > 0 for factor in factors):
        raise CheckpointError(f'{info.file}: tensor "{stem}.weight" holds factors that are not above 0; {FIX}')
    return factors
