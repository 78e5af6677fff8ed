"""What a pipeline computes on: tensors, and the memory of those that outlive a run."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass

from .errors import BuildError, DTypeError, ShapeError

ITEM_SIZES = {"f32": 4, "f16": 2, "bf16": 2, "u32": 4, "u8": 1}
CACHE_DTYPES = ("f16", "f32", "q8")   # what a KV cache may be stored in, the default first; q8: see shaders/cache.h
_NUMPY_NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "uint32": "u32", "uint8": "u8"}
_VIEWS = {"f32": "float32", "f16": "float16", "bf16": "uint16", "u32": "uint32", "u8": "uint8", "q8": "uint8"}

# Weights that kernels read: MLX's bits and group sizes, and GGUF's types with a block's columns and bytes.
AFFINE_BITS = (3, 4, 6, 8)
GROUP_SIZES = (32, 64, 128)
BLOCKS = {
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34), "MXFP4": (32, 17),
    "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210),
}  # fmt: skip


def dtype_of(array) -> str:
    """The dtype of a NumPy array: "f32", "f16", "u32", "u8", or "bf16" for ml_dtypes.bfloat16."""
    name = array.dtype.name
    if name not in _NUMPY_NAMES:
        raise DTypeError(f"an array of {name} is not supported; use {', '.join(_NUMPY_NAMES)}")
    if not array.dtype.isnative:
        raise DTypeError(f"an array of {array.dtype.str} has the other byte order; convert it with .astype({name!r})")
    return _NUMPY_NAMES[name]


def view_dtype(dtype: str) -> str:
    """The NumPy dtype that shows a tensor's memory; bf16 shows as uint16, q8 as bytes."""
    return _VIEWS[dtype]


def view_shape(shape, dtype: str) -> tuple[int, ...]:
    """The shape of the array that shows a tensor's memory: rows of q8 are bytes, scales and integers."""
    if dtype != "q8":
        return tuple(shape)
    from .native import _core

    groups = -(-shape[-1] // _core.CACHE_GROUP)
    return (*shape[:-1], -(-(2 * groups + shape[-1]) // 4) * 4)


def nbytes_of(shape, dtype: str) -> int:
    """What a tensor takes in memory."""
    return math.prod(view_shape(shape, dtype)) * (1 if dtype == "q8" else ITEM_SIZES[dtype])


class Storage:
    """Memory that outlives a run and may be shared by chains: a weight, a cache, a row's state.

    Built from an array (copied to the device once), from a range of a memory map (never copied), or
    from a shape alone. Devices are reached lazily, at the first chain that uses it.
    """

    def __init__(self, shape, dtype: str, *, array=None, mapped=None, zeroed=False):
        self.shape = tuple(int(n) for n in shape)
        self.dtype = dtype
        self._array = array
        self._zeroed = zeroed
        self._mapped = mapped          # (key, memory map, byte offset)
        self._buffers = weakref.WeakKeyDictionary()

    @classmethod
    def zeros(cls, shape, dtype: str = "f32") -> Storage:
        return cls(shape, dtype, zeroed=True)

    @classmethod
    def empty(cls, shape, dtype: str = "f32") -> Storage:
        """To be written before it is read; its pages are taken up as that happens."""
        return cls(shape, dtype)

    @classmethod
    def of(cls, array, dtype: str | None = None) -> Storage:
        """From a NumPy array; `dtype` "bf16" takes an array of uint16 as the bits of bfloat16."""
        import numpy as np

        array = np.ascontiguousarray(array)
        if dtype is None:
            dtype = dtype_of(array)
        elif array.dtype.itemsize != ITEM_SIZES[dtype]:
            raise DTypeError(f"{dtype} takes {ITEM_SIZES[dtype]} bytes an element, the array has {array.dtype}")
        return cls(array.shape, dtype, array=array)

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.shape, self.dtype)

    def on(self, device):
        """(Buffer, byte offset) of this memory on a :class:`pipeline.device.Device`."""
        if device not in self._buffers:
            self._buffers[device] = self._place(device)
        return self._buffers[device]

    def _place(self, device):
        if self._mapped is not None:
            key, memory, offset = self._mapped
            return device.wrapped(key, memory), offset
        buffer = device.core.buffer(max(self.nbytes, 16))
        if self._array is not None:
            memoryview(buffer)[: self.nbytes] = self._array.reshape(-1).view("uint8").data
        elif self._zeroed:
            memoryview(buffer)[:] = bytes(len(memoryview(buffer)))
        return buffer, 0

    def extent(self) -> tuple[object, int, int]:
        """(memory, begin, end) in bytes: two storages share memory where these meet."""
        if self._mapped is None:
            return self, 0, self.nbytes
        key, _, offset = self._mapped
        return key, offset, offset + self.nbytes

    def part(self, index: int) -> Storage:
        """The memory of self[index], without a copy."""
        shape = self.shape[1:]
        return _Part(self, shape, index * math.prod(shape) * ITEM_SIZES[self.dtype])

    def rows(self, first: int, end: int) -> Storage:
        """The memory of rows `first` to `end` of all rows, those of [-1, columns], without a copy."""
        return _Part(self, (end - first, self.shape[-1]), first * self.shape[-1] * ITEM_SIZES[self.dtype])

    def numpy(self, device):
        """A view of the memory on `device`, without a copy."""
        import numpy as np

        buffer, offset = self.on(device)
        shape = view_shape(self.shape, self.dtype)
        return np.frombuffer(buffer, view_dtype(self.dtype), math.prod(shape), offset).reshape(shape)


class _Part(Storage):
    def __init__(self, whole: Storage, shape, offset: int):
        super().__init__(shape, whole.dtype)
        self._whole = whole
        self._offset = offset

    def _place(self, device):
        buffer, offset = self._whole.on(device)
        return buffer, offset + self._offset

    def extent(self) -> tuple[object, int, int]:
        memory, begin, _ = self._whole.extent()
        return memory, begin + self._offset, begin + self._offset + self.nbytes


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value in a pipeline: what a step reads or makes. Shape is in elements, rows first."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: Storage | None = None   # None: scratch, placed by the memory plan
    role: str = "scratch"            # "input", "weight", "state" or "scratch"

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.shape, self.dtype)

    def __repr__(self):
        return f"{self.name}[{' × '.join(map(str, self.shape))}] {self.dtype}"


def overlap(a: Tensor, b: Tensor) -> str:
    """Whether two tensors share memory: "same" for all of it, "part" for some, "" for none."""
    if a.storage is None or b.storage is None:
        return "same" if a is b else ""
    (memory, begin, end), (other, other_begin, other_end) = a.storage.extent(), b.storage.extent()
    if memory != other or end <= other_begin or other_end <= begin:
        return ""
    return "same" if (begin, end) == (other_begin, other_end) else "part"


@dataclass(frozen=True, eq=False)
class Weight:
    """A matrix, or a stack of them, in a stored format that the kernels read as it is.

    parts holds the array of elements or of GGUF's blocks ("gguf_…"), or MLX's packed words, scales and biases
    ("q4_…", "mxfp4", whose scales stand for the biases that it has not). shape is logical: [..., outputs, inputs].

    A stack may be a view of a larger one, such as of gate and up together: then its parts begin at its
    own first row, expert_rows stored rows lie from one matrix to the next (0: as many as it has outputs),
    and row_step from one output to the next.
    """

    name: str
    shape: tuple[int, ...]
    format: str
    parts: tuple[Tensor, ...]
    group_size: int = 0
    expert_rows: int = 0
    row_step: int = 1

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in dict.fromkeys(self.parts))

    @property
    def quantized(self) -> bool:
        return self.format not in ("f32", "f16", "bf16")


@dataclass(frozen=True)
class Quantized:
    """A matrix that MLX quantised (mlx.core.quantize), as arrays or Storages.

    weight: packed words u32 [..., outputs, inputs · bits / 32]; scales, biases [..., outputs, inputs / group_size].
    affine: w = q · scale + bias for each group, scales and biases in f32, f16 or bf16. Where biases are None it is
    MX's 4-bit format, mxfp4: groups of 32 E2M1 numbers, scales u8 the exponents of powers of two (E8M0).
    """

    weight: object
    scales: object
    biases: object = None
    bits: int = 4
    group_size: int = 64


@dataclass(frozen=True)
class Blocks:
    """A matrix in blocks of one of GGUF's types ("Q4_K"): bytes u8 [..., outputs, bytes of a row], array or Storage."""

    data: object
    type: str


def split_rows(weight: Weight, sizes, *, interleaved: bool = False) -> tuple[Weight, ...]:
    """The outputs of a weight [..., outputs, inputs] as weights of so many, one behind another or taking turns: views."""
    stored, matrices = weight.shape[-2], math.prod(weight.shape[:-2])
    if sum(sizes) != stored or (interleaved and len(set(sizes)) > 1):
        raise ShapeError(f"{weight.name}: {stored} outputs cannot be split into {', '.join(map(str, sizes))}"
                         f"{' that take turns' if interleaved else ''}")
    step, begin, found = len(sizes) if interleaved else 1, 0, []
    for i, size in enumerate(sizes):
        first = i if interleaved else begin
        end = (matrices - 1) * stored + first + (size - 1) * step + 1
        views = {part: Tensor(f"{part.name}[{i}]", (end - first, part.shape[-1]), part.dtype,
                              part.storage.rows(first, end), "weight") for part in weight.parts}
        found.append(Weight(f"{weight.name}[{i}]", (*weight.shape[:-2], size, weight.shape[-1]), weight.format,
                            tuple(views[part] for part in weight.parts), weight.group_size,
                            stored if len(weight.shape) > 2 else 0, step))
        begin += size
    return tuple(found)


def as_storage(value) -> Storage:
    return value if isinstance(value, Storage) else Storage.of(value)


def as_weight(value, name: str) -> Weight:
    """A Weight from an array, a Storage, a Quantized, Blocks or a Weight. Raises DTypeError or ShapeError."""
    if isinstance(value, Weight):
        return value
    if isinstance(value, Quantized):
        return _mx_weight(value, name) if value.biases is None else _quantized_weight(value, name)
    if isinstance(value, Blocks):
        return _block_weight(value, name)
    storage = as_storage(value)
    if storage.dtype not in ("f32", "f16", "bf16"):
        raise DTypeError(f"{name}: weights are f32, f16, bf16, Quantized or Blocks, not {storage.dtype}")
    part = Tensor(name, storage.shape, storage.dtype, storage, "weight")
    return Weight(name, storage.shape, storage.dtype, (part,))


def _quantized_weight(value: Quantized, name: str) -> Weight:
    words, scales, biases = (as_storage(part) for part in (value.weight, value.scales, value.biases))
    if value.bits not in AFFINE_BITS:
        raise BuildError(f"{name}: {value.bits} bits are not supported; use 3, 4, 6 or 8")
    if value.group_size not in GROUP_SIZES:
        raise BuildError(f"{name}: groups of {value.group_size} are not supported; use 32, 64 or 128")
    if scales.dtype != biases.dtype or scales.dtype not in ("f32", "f16", "bf16"):
        raise DTypeError(f"{name}: scales and biases share one of f32, f16, bf16, not {scales.dtype} and {biases.dtype}")
    shape = _packed_shape(words, scales, value, name)
    if biases.shape != scales.shape:
        raise ShapeError(f"{name}: scales are {scales.shape}, biases {biases.shape}; they must agree")
    parts = (Tensor(name, words.shape, "u32", words, "weight"),
             Tensor(name + ".scales", scales.shape, scales.dtype, scales, "weight"),
             Tensor(name + ".biases", biases.shape, biases.dtype, biases, "weight"))
    return Weight(name, shape, f"q{value.bits}_{scales.dtype}", parts, value.group_size)


def _mx_weight(value: Quantized, name: str) -> Weight:
    words, scales = as_storage(value.weight), as_storage(value.scales)
    if (value.bits, value.group_size) != (4, 32):
        raise BuildError(f"{name}: {value.bits} bits in groups of {value.group_size} have no biases; "
                         "of the MX formats mxfp4 is supported, 4 bits in groups of 32")
    if scales.dtype != "u8":
        raise DTypeError(f"{name}: scales of mxfp4 are u8, not {scales.dtype}")
    shape = _packed_shape(words, scales, value, name)
    part = Tensor(name + ".scales", scales.shape, "u8", scales, "weight")
    return Weight(name, shape, "mxfp4", (Tensor(name, words.shape, "u32", words, "weight"), part, part), 32)


def _packed_shape(words: Storage, scales: Storage, value: Quantized, name: str) -> tuple[int, ...]:
    """The logical shape, once words and scales agree on it."""
    if words.dtype != "u32":
        raise DTypeError(f"{name}: packed words are u32, not {words.dtype}")
    inputs, rest = divmod(words.shape[-1] * 32, value.bits)
    groups = (*words.shape[:-1], inputs // value.group_size)
    if rest or inputs % value.group_size or scales.shape != groups:
        raise ShapeError(f"{name}: words {words.shape} of {value.bits} bits in groups of {value.group_size} need scales "
                         f"and biases of {groups}, got {scales.shape}")
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
    return Weight(name, (*data.shape[:-1], data.shape[-1] // nbytes * columns), f"gguf_{value.type.lower()}", (part,))


def quantize(array, bits: int = 4, group_size: int = 64) -> Quantized:
    """Affine quantisation of float weights [..., inputs], to the format of mlx.core.quantize.

    Each group's scale spans its range; words, scales and biases come back as arrays (scales f32).
    """
    import numpy as np

    values = np.asarray(array, dtype=np.float32)
    if values.shape[-1] % group_size:
        raise ShapeError(f"{values.shape[-1]} inputs are not whole groups of {group_size}")
    groups = values.reshape(*values.shape[:-1], -1, group_size)
    low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
    top = 2**bits - 1
    scale = np.maximum((high - low) / top, 1e-8).astype(np.float32)
    q = np.clip(np.rint((groups - low) / scale), 0, top).astype(np.uint8).reshape(*values.shape[:-1], -1, 32)
    return Quantized(_packed(q, bits), scale[..., 0], low[..., 0].astype(np.float32), bits, group_size)


def _packed(q, bits: int):
    """Integers [..., n, 32] as words [..., n · bits], lowest bits first."""
    import numpy as np

    flags = (q[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    raw = np.packbits(flags.reshape(*q.shape[:-1], -1), axis=-1, bitorder="little")
    return raw.view("<u4").reshape(*q.shape[:-2], -1)
