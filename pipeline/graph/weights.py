"""Weights in the formats in which checkpoints store them, as the kernels read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..device.core import _core
from ..errors import BuildError, DTypeError, ShapeError, UsageError
from .formats import AFFINE_BITS, BLOCKS, FLOAT_MODES, FLOATS, GROUP_SIZES, PLAIN_MODES, either
from .kernel_names import affine_format, block_format
from .tensors import Shape, Storage, Tensor, as_storage


@dataclass(frozen=True, eq=False)
class Weight:
    """A matrix, or a stack of them, in a stored format that the kernels read as it is.

    parts holds the array of elements or of GGUF's blocks ("gguf_…"), or MLX's packed words, scales and biases
    ("q4_…"; "mxfp4" and others, whose scales stand for the biases that they have not). shape is logical: [..., outputs,
    inputs].

    A stack may be a view of a larger one, such as of gate and up together: then its parts begin at its
    own first row, expert_rows stored rows lie from one matrix to the next (0: as many as it has outputs),
    and row_step from one output to the next.

    order u32 [inputs], if there is one: column i of the parts belongs to input order[i].
    """

    name: str
    shape: Shape
    format: str
    parts: tuple[Tensor, ...]
    group_size: int = 0
    expert_rows: int = 0
    row_step: int = 1
    order: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in dict.fromkeys(self.parts))

    @property
    def quantized(self) -> bool:
        return self.format not in FLOATS


@dataclass(frozen=True)
class Quantized:
    """A matrix that MLX quantised (mlx.core.quantize), as arrays or Storages.

    weight: packed words u32 [..., outputs, inputs · bits / 32]; scales, biases [..., outputs, inputs / group_size].
    affine: w = q · scale + bias for each group, scales and biases in f32, f16 or bf16. Where biases are None, weights
    are small floats with scales u8. mxfp4: 4 bits (E2M1), groups of 32, scales the exponents of powers of two (E8M0).
    mxfp8: the same of 8 bits (E4M3). nvfp4: 4 bits (E2M1), groups of 16, scales E4M3. With scales in f32, which are not
    MLX's, fp8: 8 bits (E4M3), groups of 16, 32, 64 or 128; fp4: 4 bits (E2M1), groups of 16.
    """

    weight: Storage | ArrayLike
    scales: Storage | ArrayLike
    biases: Storage | ArrayLike | None = None
    bits: int = 4
    group_size: int = 64
    order: Storage | None = None  # see Weight


@dataclass(frozen=True)
class Blocks:
    """A matrix in blocks of one of GGUF's types ("Q4_K"): bytes u8 [..., outputs, bytes of a row], array or Storage."""

    data: Storage | ArrayLike
    type: str


WeightLike: TypeAlias = Weight | Quantized | Blocks | Storage | ArrayLike  # a matrix as a step takes it


@dataclass(frozen=True, eq=False)
class MixedStack:
    """A stack of experts [experts, outputs, inputs] that differ in format: parts of one format each, and which experts
    each of them has, in order."""

    members: tuple[tuple[int, ...], ...]
    parts: tuple[Any, ...]  # each a WeightLike

    @property
    def count(self) -> int:
        return sum(map(len, self.members))

    def numbers(self, part: int) -> np.ndarray:
        """Of each expert its number in a part, or OB_NONE."""
        found = np.full(self.count, _core.NONE, np.uint32)
        found[list(self.members[part])] = np.arange(len(self.members[part]))
        return found


StackLike: TypeAlias = WeightLike | MixedStack  # experts as a step takes them


def split_rows(weight: Weight, sizes: Sequence[int], *, interleaved: bool = False) -> tuple[Weight, ...]:
    """Views of a weight [..., outputs, inputs], with `sizes` outputs each, one behind another or taking turns."""
    stored, matrices = weight.shape[-2], math.prod(weight.shape[:-2])
    if sum(sizes) != stored or (interleaved and len(set(sizes)) > 1):
        raise ShapeError(
            f"{weight.name}: {stored} outputs cannot be split into {', '.join(map(str, sizes))}"
            f"{' that take turns' if interleaved else ''}"
        )
    step, begin = len(sizes) if interleaved else 1, 0
    found: list[Weight] = []
    for i, size in enumerate(sizes):
        first = i if interleaved else begin
        end = (matrices - 1) * stored + first + (size - 1) * step + 1
        views = {part: _rows(part, first, end, f"{part.name}[{i}]") for part in weight.parts}
        found.append(
            Weight(
                f"{weight.name}[{i}]",
                (*weight.shape[:-2], size, weight.shape[-1]),
                weight.format,
                tuple(views[part] for part in weight.parts),
                weight.group_size,
                stored if len(weight.shape) > 2 else 0,
                step,
                weight.order,
            )
        )
        begin += size
    return tuple(found)


def _rows(part: Tensor, first: int, end: int, name: str) -> Tensor:
    storage = as_stored(part).rows(first, end)
    return Tensor(name, storage.shape, storage.dtype, storage, "weight")


def as_stored(part: Tensor) -> Storage:
    """The memory of a weight's part, which always has some."""
    assert part.storage is not None, f"{part.name} is scratch, not a weight"
    return part.storage


def as_weight(value: WeightLike, name: str) -> Weight:
    """A Weight from an array, a Storage, a Quantized, Blocks or a Weight. Raises DTypeError or ShapeError."""
    if isinstance(value, Weight):
        return value
    if isinstance(value, Quantized):
        return _float_weight(value, name) if value.biases is None else _quantized_weight(value, name)
    if isinstance(value, Blocks):
        return _block_weight(value, name)
    storage = as_storage(value)
    if storage.dtype not in FLOATS:
        raise DTypeError(f"{name}: weights are {', '.join(FLOATS)}, Quantized or Blocks, not {storage.dtype}")
    part = Tensor(name, storage.shape, storage.dtype, storage, "weight")
    return Weight(name, storage.shape, storage.dtype, (part,))


def _quantized_weight(value: Quantized, name: str) -> Weight:
    assert value.biases is not None
    words, scales, biases = as_storage(value.weight), as_storage(value.scales), as_storage(value.biases)
    if value.bits not in AFFINE_BITS:
        raise BuildError(f"{name}: {value.bits} bits are not supported; use {either(AFFINE_BITS)}")
    if value.group_size not in GROUP_SIZES:
        raise BuildError(f"{name}: groups of {value.group_size} are not supported; use {either(GROUP_SIZES)}")
    if scales.dtype != biases.dtype or scales.dtype not in FLOATS:
        raise DTypeError(
            f"{name}: scales and biases share one of {', '.join(FLOATS)}, not {scales.dtype} and {biases.dtype}"
        )
    shape = _packed_shape(words, scales, value, name)
    if biases.shape != scales.shape:
        raise ShapeError(f"{name}: scales are {scales.shape}, biases {biases.shape}; they must agree")
    parts = (
        Tensor(name, words.shape, "u32", words, "weight"),
        Tensor(name + ".scales", scales.shape, scales.dtype, scales, "weight"),
        Tensor(name + ".biases", biases.shape, biases.dtype, biases, "weight"),
    )
    made = Weight(name, shape, affine_format(value.bits, scales.dtype), parts, value.group_size)
    if value.order is None:
        return made
    return replace(made, order=Tensor(name + ".order", value.order.shape, "u32", value.order, "weight"))


def _float_weight(value: Quantized, name: str) -> Weight:
    words, scales = as_storage(value.weight), as_storage(value.scales)
    modes: dict[str, tuple[int, tuple[int, ...], str]]
    modes = {mode: (bits, (size,), "u8") for mode, (bits, size) in FLOAT_MODES.items()}
    modes |= {mode: (bits, sizes, "f32") for mode, (bits, sizes) in PLAIN_MODES.items()}
    fitting = [mode for mode, (bits, sizes, _) in modes.items() if bits == value.bits and value.group_size in sizes]
    if not fitting:
        known = (f"{bits} bits in groups of {either(sizes)} ({mode})" for mode, (bits, sizes, _) in modes.items())
        raise BuildError(
            f"{name}: {value.bits} bits in groups of {value.group_size} have no biases; use {either(tuple(known))}"
        )
    mode = next((mode for mode in fitting if modes[mode][2] == scales.dtype), None)
    if mode is None:
        wanted = either(tuple(f"{modes[mode][2]} ({mode})" for mode in fitting))
        raise DTypeError(f"{name}: scales are {wanted}, not {scales.dtype}")
    dtype = scales.dtype
    shape = _packed_shape(words, scales, value, name)
    part = Tensor(name + ".scales", scales.shape, dtype, scales, "weight")
    parts = (Tensor(name, words.shape, "u32", words, "weight"), part, part)
    return Weight(name, shape, mode, parts, value.group_size)


def _packed_shape(words: Storage, scales: Storage, value: Quantized, name: str) -> Shape:
    """The logical shape, once words and scales agree on it."""
    if words.dtype != "u32":
        raise DTypeError(f"{name}: packed words are u32, not {words.dtype}")
    inputs, rest = divmod(words.shape[-1] * 32, value.bits)
    groups = (*words.shape[:-1], inputs // value.group_size)
    if rest or inputs % value.group_size or scales.shape != groups:
        raise ShapeError(
            f"{name}: words {words.shape} of {value.bits} bits in groups of {value.group_size} need scales "
            f"and biases of {groups}, got {scales.shape}"
        )
    return (*words.shape[:-1], inputs)


def _block_weight(value: Blocks, name: str) -> Weight:
    data = as_storage(value.data)
    if value.type not in BLOCKS:
        raise DTypeError(f"{name}: blocks of {value.type} are not supported; use {', '.join(BLOCKS)}")
    columns, nbytes = BLOCKS[value.type]
    if data.dtype != "u8":
        raise DTypeError(f"{name}: blocks are u8, not {data.dtype}")
    if not data.shape[-1] or data.shape[-1] % nbytes:
        raise ShapeError(f"{name}: rows of {data.shape[-1]} bytes are not whole blocks of {nbytes} ({value.type})")
    part = Tensor(name, data.shape, "u8", data, "weight")
    return Weight(name, (*data.shape[:-1], data.shape[-1] // nbytes * columns), block_format(value.type), (part,))


def quantize(array: ArrayLike, bits: int = 4, group_size: int = 64) -> Quantized:
    """Quantises float weights [..., inputs] to the affine format of mlx.core.quantize.

    Each group's scale spans its range; words, scales and biases come back as arrays (scales f32). UsageError for bits
    or groups that no kernel reads, ShapeError for inputs that are no whole groups, DTypeError for what is no number or
    is not finite in f32.
    """
    for what, value, known in (("bits", bits, AFFINE_BITS), ("group_size", group_size, GROUP_SIZES)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value not in known:
            raise UsageError(f"quantize: {what} = {value!r} is not possible; use {either(known)}")
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(array, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"quantize: the weights are no array of numbers: {error}") from error
    if not values.ndim or not values.size or values.shape[-1] % group_size:
        raise ShapeError(f"quantize: weights of shape {values.shape} are not whole groups of {group_size} inputs")
    if not np.isfinite(values).all():
        raise DTypeError("quantize: a weight is NaN, infinite or beyond f32, which cannot be quantised")
    groups = values.reshape(*values.shape[:-1], -1, group_size)
    low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
    with np.errstate(over="ignore"):
        if not np.isfinite(high - low).all():
            raise DTypeError("quantize: the weights of a group span more than f32 holds")
    top = 2**bits - 1
    scale = np.maximum((high - low) / top, 1e-8).astype(np.float32)
    q = np.clip(np.rint((groups - low) / scale), 0, top).astype(np.uint8).reshape(*values.shape[:-1], -1, 32)
    return Quantized(_packed(q, bits), scale[..., 0], low[..., 0].astype(np.float32), bits, group_size)


def _packed(q: np.ndarray, bits: int) -> np.ndarray:
    """Integers [..., n, 32] as words [..., n · bits], lowest bits first."""
    flags = (q[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    raw = np.packbits(flags.reshape(*q.shape[:-1], -1), axis=-1, bitorder="little")
    return raw.view("<u4").reshape(*q.shape[:-2], -1)
