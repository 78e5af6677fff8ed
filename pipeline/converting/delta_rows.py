"""The rows of the gated delta rule's matrices: key head by key head as transformers and mlx-lm have them, or as
llama.cpp does. That has queries, keys and values in one matrix, gates in another, and in some families value heads that
take turns among the key heads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .pieces import Piece
from .tensors import Output

__all__ = ["DeltaRows"]

PART = re.compile(r"(.*\.linear_attn)\.(in_proj_\w+|out_proj|conv1d|A_log|dt_bias)(\.\w+)?$")


class DeltaRows:
    """Of one configuration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._keys, self._values = config["linear_num_key_heads"], config["linear_num_value_heads"]
        self._key_dim, self._value_dim = config["linear_key_head_dim"], config["linear_value_head_dim"]

    def changed(self, outputs: list[Output], *, tiled: bool) -> list[Output]:
        """From mlx-lm's rows to llama.cpp's."""
        found = []
        for output in outputs:
            part = PART.fullmatch(output.name)
            if part and part[2] == "in_proj_qkvz":
                rows = self._parts()
                joint = np.concatenate([rows[0], rows[1], rows[2]])
                for name, order in (("in_proj_qkv", joint), ("in_proj_z", rows[3])):
                    found.append(self._taken(output, f"{part[1]}.{name}.weight", order))
            elif part and tiled:
                found.append(self._tiled(output, part[2], back=False))
            else:
                found.append(output)
        return found

    def undone(self, outputs: list[Output], *, tiled: bool) -> list[Output]:
        """From llama.cpp's rows to mlx-lm's."""
        named = {output.name: output for output in outputs}
        found = []
        for output in outputs:
            part = PART.fullmatch(output.name)
            if part and tiled:
                found.append(self._tiled(output, part[2], back=True))
            elif part and part[2] == "in_proj_qkv":
                found.append(self._joined(output, named[f"{part[1]}.in_proj_z.weight"], part[1]))
            elif not (part and part[2] == "in_proj_z"):
                found.append(output)
        return found

    def _parts(self) -> list[np.ndarray]:
        """The rows of queries, keys, values and gates in a matrix that has them key head by key head."""
        own = self._values // self._keys * self._value_dim
        ends = np.cumsum([0, self._key_dim, self._key_dim, own, own])
        rows = np.arange(self._keys * ends[-1]).reshape(self._keys, -1)
        return [rows[:, a:b].reshape(-1) for a, b in zip(ends, ends[1:])]

    def _joined(self, joint: Output, gates: Output, module: str) -> Output:
        """Key head by key head, of two matrices."""
        own = self._values // self._keys * self._value_dim
        keys = self._keys * self._key_dim
        pieces: list[Piece] = []
        for head in range(self._keys):
            starts = [(head * self._key_dim, self._key_dim), (keys + head * self._key_dim, self._key_dim)]
            starts.append((2 * keys + head * own, own))
            pieces += [Piece(joint.pieces[0].tensor, (slice(at, at + size),)) for at, size in starts]
            pieces.append(Piece(gates.pieces[0].tensor, (slice(head * own, (head + 1) * own),)))
        rows = joint.shape[0] + gates.shape[0]
        return Output(f"{module}.in_proj_qkvz.weight", joint.dtype, (rows, joint.shape[1]), tuple(pieces))

    @staticmethod
    def _taken(output: Output, name: str, order: np.ndarray) -> Output:
        (piece,) = output.pieces
        return replace(output, name=name, shape=(len(order), *output.shape[1:]), pieces=(replace(piece, order=order),))

    def _turns(self, dim: int) -> np.ndarray:
        """Where the numbers of value heads lie that take turns among the key heads."""
        heads = np.arange(self._values * dim).reshape(self._keys, -1, dim)
        return heads.swapaxes(0, 1).reshape(-1)

    def _tiled(self, output: Output, part: str, *, back: bool) -> Output:
        first = 2 * self._keys * self._key_dim
        channels = np.concatenate([np.arange(first), first + self._turns(self._value_dim)])
        orders = {"in_proj_qkv": channels, "conv1d": channels, "in_proj_z": self._turns(self._value_dim)}
        orders |= dict.fromkeys(("in_proj_a", "in_proj_b", "A_log", "dt_bias"), self._turns(1))
        (piece,) = output.pieces
        if part == "out_proj":
            columns = self._turns(self._value_dim)
            return replace(output, pieces=(replace(piece, columns=np.argsort(columns) if back else columns),))
        if part not in orders:
            return output
        order = np.argsort(orders[part]) if back else orders[part]
        return replace(output, pieces=(replace(piece, order=order),))
