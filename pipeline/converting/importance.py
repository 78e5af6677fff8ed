"""How much each column of a weight matters: llama.cpp's imatrix files, in their GGUF form and the older one (.dat).

A file has, for each matrix, the sums of squares of the inputs that it met, column by column, and how many those were;
of a stack, for each expert. The mean of the squares is the importance.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ..checkpoints.files import open_file, read_file
from ..checkpoints.gguf.header import read_header
from ..errors import CheckpointError
from ..printing import brief
from .encoding import Block
from .tensors import Output

__all__ = ["importances", "read_importance"]

SUMS, COUNTS = ".in_sum2", ".counts"
MOST_BYTES = 1 << 31


def importances(file: Path, outputs: list[Output]) -> dict[str, np.ndarray]:
    """The importance of the outputs that are stored as blocks, [1 or the matrices of a stack, columns]. CheckpointError
    where the file is damaged, or of another model. An output that it says nothing of is quantised without."""
    found = read_importance(file)
    used: dict[str, np.ndarray] = {}
    for output in outputs:
        values = found.get(output.name)
        if values is None or not isinstance(output.scheme, Block):
            continue
        matrices, columns = len(output.pieces), output.shape[-1]
        if values.size not in (columns, matrices * columns):
            raise CheckpointError(
                f"{file}: has {values.size:,} values for {brief(output.name)}, which has {columns:,} columns"
                f"{f' in each of {matrices} matrices' if matrices > 1 else ''}; make it with this model"
            )
        with np.errstate(all="ignore"):
            values = values.reshape(-1, columns).astype(np.float32)
        if not np.isfinite(values).all() or (values < 0).any():
            raise CheckpointError(f"{file}: the values for {brief(output.name)} are no sums of squares; make it again")
        met = values.max(1) > 0
        used[output.name] = np.where(met[:, None], values, np.float32(1))  # or an expert that nothing chose
    if not used:
        raise CheckpointError(f"{file}: has values for none of the model's matrices; make it with this model")
    return used


def read_importance(file: Path) -> dict[str, np.ndarray]:
    """Mean squares by GGUF's name of the matrix."""
    try:
        with open_file(file) as stream:
            return _gguf(file) if stream.read(4) == b"GGUF" else _legacy(file)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error


def _gguf(file: Path) -> dict[str, np.ndarray]:
    tensors = read_header(file).tensors
    found = {}
    with open_file(file) as stream:

        def values(name: str) -> np.ndarray:
            info = tensors[name]
            if info.dtype != "F32":
                raise CheckpointError(f"{file}: tensor {brief(name)} is {info.dtype}, not F32; make it again")
            stream.seek(info.offset)
            return np.frombuffer(stream.read(info.nbytes), "<f4")

        for name in tensors:
            if name.endswith(SUMS) and f"{name.removesuffix(SUMS)}{COUNTS}" in tensors:
                stem = name.removesuffix(SUMS)
                counts = values(stem + COUNTS).reshape(-1, 1)
                sums = values(name)
                if not counts.size or not sums.size or sums.size % len(counts):
                    raise CheckpointError(
                        f"{file}: {brief(stem)} has {sums.size:,} sums and {len(counts):,} counts; make it again"
                    )
                if not (counts >= 0).all():  # nor one that is no number
                    raise CheckpointError(f"{file}: {brief(stem)} has a count below 0; make it again")
                sums = sums.reshape(len(counts), -1)
                with np.errstate(all="ignore"):  # what is no number is refused where it is used
                    found[stem] = np.where(counts > 0, sums / np.where(counts > 0, counts, 1), 1)
    if not found:
        raise CheckpointError(f"{file}: is a GGUF file without sums (NAME{SUMS}); give one of llama-imatrix")
    return found


def _legacy(file: Path) -> dict[str, np.ndarray]:
    """A count of entries; each the length of a name, the name, the calls, the count of values, the values."""
    data, at = read_file(file, MOST_BYTES), 0

    def number() -> int:
        nonlocal at
        value: int = struct.unpack_from("<i", data, at)[0]
        at += 4
        return value

    found = {}
    try:
        entries = number()
        if not 0 < entries < 1 << 20:
            raise ValueError
        for _ in range(entries):
            length = number()
            name, at = data[at : at + length].decode(), at + length
            calls, count = number(), number()
            if length < 1 or count < 1 or calls < 0 or at + 4 * count > len(data):
                raise ValueError
            values, at = np.frombuffer(data, "<f4", count, at), at + 4 * count
            found[name] = values / max(calls, 1)
    except (struct.error, ValueError):  # UnicodeDecodeError too
        raise CheckpointError(f"{file}: is no imatrix file, or is cut short; make it again") from None
    return found
