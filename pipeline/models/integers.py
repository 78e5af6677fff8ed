"""Integers with a scale and a zero point per group, as GPTQ, AWQ and compressed-tensors store them, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..checkpoints.packed.scheme import Packing
from ..checkpoints.tensor_info import TensorInfo
from ..errors import CheckpointError, UnsupportedError
from ..graph.tensors import Shape
from .grids import Grid, find_scales
from .numbers import FLOATS, as_f32, pack
from .taking import Taker

__all__ = ["SOURCES", "Integers"]

AT_A_TIME = 1 << 18  # numbers that are unpacked at a time
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # which nibble of a word an output has


class Integers:
    """The weight of one module [..., rows, columns]: (integer - zero) · scale.

    infos        the tensors that integers are in
    scale_info   the scales, on `grid`
    in_place     whether the words lie as a kernel reads them
    groups_of    the group of each column, where groups are no neighbours (GPTQ's act-order); else None
    order        the columns in the order in which they are given; None for that in which they are stored
    """

    in_place = False
    infos: list[TensorInfo]
    scale_info: TensorInfo
    grid: Grid

    def __init__(self, load: Taker, module: str, shape: Shape, packing: Packing) -> None:
        self.load, self.module, self.shape, self.packing = load, module, shape, packing
        self.rows, self.columns, self.bits = shape[-2], shape[-1], packing.bits
        self.groups_of: np.ndarray | None = None
        self.order: np.ndarray | None = None
        if self.columns % 32:
            raise UnsupportedError(
                f"{load.checkpoint.source}: {module} has rows of {self.columns:,} integers, which do not fill whole "
                "words; use the model in bf16"
            )
        self.find()

    def find(self) -> None:
        """Looks for the tensors."""
        raise NotImplementedError

    def words(self) -> Iterator[np.ndarray]:
        """Rows of the integers, packed lowest bits first: u32 [n, columns · bits / 32]."""
        if self.order is None:
            return self.stored_words()
        return (packed(codes[:, self.order], self.bits) for codes in self.codes())

    def stored_words(self) -> Iterator[np.ndarray]:
        """The same, columns as they are stored."""
        raise NotImplementedError

    def zeros(self) -> np.ndarray:
        """Zero points on the grid, or one for all."""
        return np.asarray(1 << (self.bits - 1), np.int32)

    def scales(self) -> np.ndarray:
        """Scales on the grid, in float32."""
        values = self.load.checkpoint.view(self.scale_info.name)
        return as_f32(values, self.scale_info.dtype).reshape(*self.shape[:-2], *self.grid.shape)

    def codes(self) -> Iterator[np.ndarray]:
        """Rows of the integers, u8 [n, columns] as they are stored."""
        return (unpacked(words, self.bits) for words in self.stored_words())

    def put_in_order(self) -> bool:
        """Whether the columns can be given so that groups are neighbours; from now on they are."""
        if self.groups_of is None:
            return False
        order = np.argsort(self.groups_of, kind="stable")
        if not np.array_equal(self.groups_of[order], np.arange(self.columns) // self.grid.wide):
            return False  # groups are not of one size
        self.order, self.groups_of, self.in_place = order, None, False
        return True

    def at_a_time(self) -> int:
        """Rows of a part."""
        return max(AT_A_TIME // self.columns // 64 * 64, 64)

    def turned_scales(self) -> None:
        """Finds scales that are stored as [groups, outputs]."""
        if len(self.shape) > 2:
            raise UnsupportedError(
                f"{self.load.checkpoint.source}: {self.module} is a stack of matrices in the format of "
                f"{self.packing.made_by}, which is not supported; experts must be stored one by one"
            )
        size = self.packing.group_size or self.columns
        groups = -(-self.columns // size)
        self.scale_info = self.load.info(f"{self.module}.scales", (groups, self.rows), FLOATS)
        self.grid = Grid(1, size, (self.rows, groups))


class _Columns(Integers):
    """Words that hold integers of one output, in the order of the inputs."""

    def find(self) -> None:
        self.turned_scales()
        groups = self.grid.shape[1]
        words = -(-self.rows * self.bits // 32)
        self.infos = [
            self.load.info(f"{self.module}.qweight", (self.columns * self.bits // 32, self.rows), ("I32", "U32"))
        ]
        self._zeros = self.load.info(f"{self.module}.qzeros", (groups, words), ("I32", "U32"))
        if groups > 1 and self.load.has(f"{self.module}.g_idx"):
            info = self.load.info(f"{self.module}.g_idx", (self.columns,), ("I32", "I64"))
            self.groups_of = _order(self.load, info, self.grid)

    def stored_words(self) -> Iterator[np.ndarray]:
        stored = self.load.checkpoint.view(self.infos[0].name).view("<u4")
        for first in range(0, self.rows, self.at_a_time()):
            yield np.ascontiguousarray(stored[:, first : first + self.at_a_time()].T)

    def zeros(self) -> np.ndarray:
        stored = np.ascontiguousarray(self.load.checkpoint.view(self._zeros.name)).view("<u4")
        offset = self.packing.offset
        if offset and 32 % self.bits == 0:  # as the tool does: fields that run over carry into the next
            stored = stored + np.uint32(offset * (2**32 - 1) // (2**self.bits - 1))
        values = unpacked(stored, self.bits)[:, : self.rows].astype(np.int32)
        if offset and 32 % self.bits:
            values = values + offset & (1 << self.bits) - 1
        return values.T

    def scales(self) -> np.ndarray:
        return as_f32(self.load.checkpoint.view(self.scale_info.name), self.scale_info.dtype).T


class _Nibbles(Integers):
    """AWQ: words that hold integers of eight outputs, in an order of their own."""

    def find(self) -> None:
        self.turned_scales()
        if self.rows % 8:
            raise CheckpointError(
                f"{self.load.checkpoint.source}: {self.module} has {self.rows:,} outputs, which do not fill whole "
                "words; download it again"
            )
        self.infos = [self.load.info(f"{self.module}.qweight", (self.columns, self.rows // 8), ("I32", "U32"))]
        self._zeros = None
        if self.load.has(f"{self.module}.qzeros") or not self.packing.symmetric:
            self._zeros = self.load.info(f"{self.module}.qzeros", (self.grid.shape[1], self.rows // 8), ("I32", "U32"))

    def stored_words(self) -> Iterator[np.ndarray]:
        stored, step = self.load.checkpoint.view(self.infos[0].name).view("<u4"), self.at_a_time() // 8
        for first in range(0, self.rows // 8, step):
            yield _turned(np.ascontiguousarray(stored[:, first : first + step]))

    def zeros(self) -> np.ndarray:
        if self._zeros is None:
            return super().zeros()
        return _outputs(np.ascontiguousarray(self.load.checkpoint.view(self._zeros.name).view("<u4").T))

    def scales(self) -> np.ndarray:
        return as_f32(self.load.checkpoint.view(self.scale_info.name), self.scale_info.dtype).T


class _Rows(Integers):
    """Words of rows, as a kernel reads them."""

    in_place = True

    def find(self) -> None:
        width = self.columns * self.bits // 32
        info = self.load.info(f"{self.module}.weight_packed", (*self.shape[:-1], width), ("I32",))
        self.infos = [replace(info, dtype="U32")]
        self._check_shape()
        self.scale_info, self.grid = find_scales(
            self.load, [f"{self.module}.weight_scale"], self.shape, FLOATS, self.packing
        )
        self._zeros, name = None, f"{self.module}.weight_zero_point"
        if self.load.has(name) or not self.packing.symmetric:
            a, b = self.grid.shape
            packed = (*self.shape[:-2], -(-a * self.bits // 32), b)
            own = self.load.checkpoint.tensors.get(name)
            plain = own is not None and own.dtype == "I8"  # as older versions wrote them
            self._zeros = self.load.info(
                name, (*self.shape[:-2], a, b) if plain else packed, ("I8",) if plain else ("I32",)
            )
        if self.grid.shape[1] > 1 and self.load.has(f"{self.module}.weight_g_idx"):
            order = self.load.info(f"{self.module}.weight_g_idx", (self.columns,), ("I32", "I64"))
            self.groups_of = _order(self.load, order, self.grid)

    def _check_shape(self) -> None:
        """Compares the shape that is stored beside the words with the weight's."""
        name = f"{self.module}.weight_shape"
        if len(self.shape) > 2 or not self.load.has(name):
            return
        info = self.load.info(name, (2,), ("I64", "I32"))
        said = self.load.checkpoint.view(name).tolist() if info.nbytes else list(self.shape)
        if said != list(self.shape):
            raise CheckpointError(
                f"{info.file}: tensor {name!r} says {said[0]:,} × {said[1]:,}, but the weight is {self.rows:,} × "
                f"{self.columns:,}; download it again"
            )

    def stored_words(self) -> Iterator[np.ndarray]:
        stored = self.load.checkpoint.view(self.infos[0].name).view("<u4").reshape(-1, self.infos[0].shape[-1])
        for first in range(0, len(stored), self.at_a_time()):
            yield np.ascontiguousarray(stored[first : first + self.at_a_time()])

    def zeros(self) -> np.ndarray:
        if self._zeros is None:
            return super().zeros()
        stored = self.load.checkpoint.view(self._zeros.name)
        if self._zeros.dtype == "I8":
            return stored.astype(np.int32) + (1 << (self.bits - 1))
        words = np.ascontiguousarray(stored.view("<u4").swapaxes(-1, -2))
        codes = unpacked(words.reshape(-1, words.shape[-1]), self.bits)
        return codes.reshape(*words.shape[:-1], -1)[..., : self.grid.shape[0]].swapaxes(-1, -2)


class _Bytes(Integers):
    """Signed bytes; those that kernels read count from 0 on."""

    def find(self) -> None:
        name = f"{self.module}.weight"
        self.bits = 8
        self.infos = [self.load.info(name, self.shape, ("I8",))]
        self.scale_info, self.grid = find_scales(self.load, [f"{name}_scale"], self.shape, FLOATS, self.packing)
        self._zeros = None
        if self.load.has(f"{name}_zero_point") or not self.packing.symmetric:
            self._zeros = self.load.info(f"{name}_zero_point", self.scale_info.shape, ("I8",))

    def stored_words(self) -> Iterator[np.ndarray]:
        stored = self.load.checkpoint.view(self.infos[0].name).view("u1").reshape(-1, self.columns)
        for first in range(0, len(stored), self.at_a_time()):
            yield (stored[first : first + self.at_a_time()] ^ 0x80).view("<u4")

    def zeros(self) -> np.ndarray:
        if self._zeros is None:
            return super().zeros()
        stored = self.load.checkpoint.view(self._zeros.name).astype(np.int32) + 128
        return stored.reshape(*self.shape[:-2], *self.grid.shape)


def unpacked(words: np.ndarray, bits: int) -> np.ndarray:
    """The integers of words [n, m], lowest bits first, as u8 [n, 32 · m / bits]."""
    raw = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return raw
    if bits == 4:
        return np.stack([raw & 15, raw >> 4], axis=-1).reshape(len(raw), -1)
    count = raw.shape[-1] * 8 // bits
    flags = np.unpackbits(raw, axis=-1, bitorder="little")[:, : count * bits].reshape(len(raw), count, bits)
    return np.packbits(flags, axis=-1, bitorder="little")[..., 0]


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """The words of integers u8 [n, columns], whose rows fill whole words."""
    return pack(codes, bits).reshape(len(codes), -1)


def _outputs(words: np.ndarray) -> np.ndarray:
    """The integers of AWQ's words [outputs / 8, n] as u8 [outputs, n]."""
    codes = np.stack([(words >> np.uint32(4 * nibble) & 15).astype(np.uint8) for nibble in AWQ_ORDER], axis=1)
    return codes.reshape(-1, words.shape[-1])


def _turned(words: np.ndarray) -> np.ndarray:
    """AWQ's words [inputs, outputs / 8] as words of rows, u32 [outputs, inputs / 8]: two inputs to a byte."""
    raw = words.view(np.uint8).reshape(len(words), -1, 4)
    even, odd = raw[0::2], raw[1::2]
    halves = (even & 15 | odd << 4, even >> 4 | odd & 0xF0)
    made = np.empty((words.shape[1], 8, len(words) // 2), np.uint8)
    for output, nibble in enumerate(AWQ_ORDER):
        made[:, output] = halves[nibble % 2][..., nibble // 2].T
    return made.reshape(-1, made.shape[-1]).view("<u4")


def _order(load: Taker, info: TensorInfo, grid: Grid) -> np.ndarray | None:
    """The group of each column; None where groups are neighbours, or where nobody wrote an order (-1)."""
    if not info.nbytes:  # of a tensor that is not there
        return None
    values, groups = load.checkpoint.view(info.name).astype(np.int64), grid.shape[1]
    if (values == -1).all() or np.array_equal(values, np.arange(len(values)) // grid.wide):
        return None
    values = np.where(values < 0, values + groups, values)
    if values.min() < 0 or values.max() >= groups:
        raise CheckpointError(
            f"{info.file}: tensor {info.name!r} names groups that are not among {groups:,}; download it again"
        )
    return values


SOURCES: dict[str, type[Integers]] = {"gptq": _Columns, "awq": _Nibbles, "packed": _Rows, "integers": _Bytes}
