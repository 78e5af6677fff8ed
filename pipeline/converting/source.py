"""The tensors that a conversion reads: in logical shapes, whatever their format, and their rows some at a time.

Numbers that are stored as such are given as they are stored. Weights in any of the formats that kernels read are
decoded by the kernel that looks up embeddings: what it gives, in float32, is what a model would compute with.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import Quantization
from ..checkpoints.packed.scheme import weight_name
from ..checkpoints.tensor_info import TensorInfo
from ..device.device import Device, open_device
from ..errors import DeviceError, UnsupportedError
from ..graph.builder import Pipeline
from ..graph.formats import BLOCKS, FLOAT_MODES
from ..graph.tensors import Tensor
from ..graph.weights import Weight, as_stored, as_weight
from ..models.loading import Loader
from ..models.numbers import as_f32, rounded
from ..printing import brief
from .affine import NUMPY
from .pieces import Piece

__all__ = ["Rows", "Source", "converted"]

MXFP4 = "mxfp4"
ROWS_OF = 1 << 20  # weights that are decoded at a time


@dataclass(frozen=True)
class Rows:
    """`count` rows of `width` numbers; take(first, end) gives those of them [end - first, …] in `dtype`."""

    count: int
    width: int
    dtype: str
    take: Callable[[int, int], np.ndarray]


class Source:
    """What a conversion reads of a checkpoint.

    tensors   name -> TensorInfo in the logical shape. The dtype of coded weights is what they are decoded to, F32;
              their offset and bytes are those of their codes
    coded     the names of tensors that are decoded
    plain     the dtype for numbers that come from codes, and for those beside them; None where there are none
    """

    def __init__(self, checkpoint: Checkpoint, *, whole: bool = False) -> None:
        """whole: blocks of MXFP4 and their scales, as transformers has them, are one tensor, too."""
        self.checkpoint = checkpoint
        self._whole = whole
        self.tensors: dict[str, TensorInfo] = {}
        self.coded: dict[str, Quantization | None] = {}
        self._device: Device | None = None
        self._decoder: _Decoder | None = None
        self._lock = threading.Lock()
        tensors = checkpoint.tensors
        packed = {weight_name(weight.module, tensors): weight for weight in checkpoint.packed_weights()}
        parts = {part for weight in packed.values() for part in weight.parts}
        for name, weight in packed.items():  # of other libraries' formats
            info = checkpoint.tensors[weight.parts[0]]
            nbytes = sum(checkpoint.tensors[part].nbytes for part in weight.parts)
            self.coded[name] = None
            self.tensors[name] = replace(info, name=name, dtype="F32", shape=weight.shape, nbytes=nbytes)
        for name, info in checkpoint.tensors.items():
            if name not in parts and name not in self.tensors:
                self._add(name, info)
        self.plain = self._plain()

    def _add(self, name: str, info: TensorInfo) -> None:
        module, _, part = name.rpartition(".")
        has = self.checkpoint.tensors.__contains__
        if part in ("scales", "biases") and has(f"{module}.scales") and has(f"{module}.weight"):
            return
        if self._whole and name.endswith(("_blocks", "_scales")) and has(f"{name[:-7]}_blocks"):
            if name.endswith("_blocks") and has(f"{name[:-7]}_scales") and len(info.shape) > 2:
                bits, size = FLOAT_MODES[MXFP4]
                name, shape = name[:-7], (*info.shape[:-2], info.shape[-2] * size)
                self.coded[name] = Quantization(bits, size, MXFP4)
                self.tensors[name] = replace(info, name=name, dtype="F32", shape=shape)
            return
        if part == "weight" and has(f"{module}.scales"):
            scheme = self.checkpoint.quantization(module)
            if scheme is not None:
                self.coded[name] = scheme
                columns = info.shape[-1] * 32 // scheme.bits if info.shape else 0
                info = replace(info, dtype="F32", shape=(*info.shape[:-1], columns))
        elif info.dtype in BLOCKS:
            self.coded[name] = None
            info = replace(info, dtype="F32")
        self.tensors[name] = info

    def is_mxfp4(self, name: str) -> bool:
        """Whether a tensor's weights are small floats with powers of two, in whatever form."""
        scheme, info = self.coded.get(name), self.checkpoint.tensors.get(name)
        return scheme.mode == MXFP4 if scheme is not None else info is not None and info.dtype == "MXFP4"

    def _plain(self) -> str | None:
        stored = self.checkpoint.tensors
        scales = (stored.get(f"{name.removesuffix('.weight')}.scales") for name, scheme in self.coded.items() if scheme)
        found = next((info.dtype for info in scales if info is not None and info.dtype in NUMPY), None)
        return found or ("BF16" if self.coded or self.checkpoint.path.is_file() else None)

    def rows(self, piece: Piece) -> Rows:
        """The piece's rows; of a vector, one row."""
        name = piece.tensor.name
        if name not in self.coded:
            return _rows(piece.of(self.checkpoint.view(name)), piece.tensor.dtype)
        shape = piece.tensor.shape
        numbers = np.arange(math.prod(shape[:-1])).reshape(shape[:-1])
        if piece.plain:
            index = numbers[piece.index].reshape(-1)
            index = index if piece.order is None else index[piece.order]
            columns = slice(None) if piece.columns is None else piece.columns
            return Rows(
                len(index), shape[-1], "F32", lambda first, end: self._decoded(name, index[first:end])[:, columns]
            )
        index = numbers[piece.index[:1]].reshape(-1)  # of the whole matrix, because it is turned or changed
        whole = np.empty((len(index), shape[-1]), np.float32)
        step = max(ROWS_OF // shape[-1], 1)
        for first in range(0, len(index), step):
            whole[first : first + step] = self._decoded(name, index[first : first + step])
        left = shape[1:] if piece.index and isinstance(piece.index[0], int) else shape
        rest = replace(piece, tensor=replace(piece.tensor, shape=left), index=piece.index[len(shape) - len(left) :])
        return _rows(rest.of(whole.reshape(left)), "F32")

    def _decoded(self, name: str, rows: np.ndarray) -> np.ndarray:
        """float32 [rows, columns] of a coded matrix, or of a stack as one matrix."""
        with self._lock:
            if self._decoder is None or self._decoder.name != name:
                self._decoder = None  # gives back the last one's memory first
                self._decoder = _Decoder(self._opened(), self.checkpoint, name, self.tensors[name].shape)
            return self._decoder.rows(rows)

    def _opened(self) -> Device:
        if self._device is None:
            try:
                self._device = open_device("cpu")
            except DeviceError:  # where there is no such device, as on some Macs
                self._device = open_device("auto")
        return self._device

    def close(self) -> None:
        """Gives back what decoding needs."""
        self._decoder = self._device = None


class _Decoder:
    """The rows of one matrix, by the kernel that looks up embeddings."""

    def __init__(self, device: Device, checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
        self.name = name
        module = name.removesuffix(".weight")
        load = Loader(checkpoint, device)
        blocks = name not in checkpoint.tensors and not name.endswith(".weight")
        weight = as_weight(load.blocks(name, shape) if blocks else load.matrix(module, shape), module)
        count = math.prod(shape[:-1])
        if weight.row_step != 1 or weight.expert_rows not in (0, shape[-2]):
            raise UnsupportedError(f"{checkpoint.path}: tensor {brief(name)} cannot be decoded")
        parts = tuple(_flat(part, count) for part in weight.parts)
        order = None if weight.order is None else as_stored(weight.order).read(device).reshape(-1)
        self._columns = None if order is None else np.argsort(order)  # where each input's column lies
        table = Weight(module, (count, shape[-1]), weight.format, parts, weight.group_size)
        self._most = min(count, max(ROWS_OF // shape[-1], 1))
        pipe = Pipeline(device, rows=self._most, label="decode")
        tokens = pipe.input("tokens", (self._most,), "u32")
        self._chain = pipe.build(pipe.embed(tokens, table))

    def rows(self, rows: np.ndarray) -> np.ndarray:
        found = []
        for first in range(0, len(rows), self._most):
            part = rows[first : first + self._most]
            tokens = np.zeros(self._most, np.uint32)
            tokens[: len(part)] = part
            outputs = self._chain.run(rows=len(part), tokens=tokens)
            assert isinstance(outputs, np.ndarray)
            found.append(outputs[: len(part)].copy())
        whole = found[0] if len(found) == 1 else np.concatenate(found)
        return whole if self._columns is None else whole[:, self._columns]


def _flat(part: Tensor, rows: int) -> Tensor:
    storage = as_stored(part).rows(0, rows)
    return Tensor(part.name, storage.shape, storage.dtype, storage, "weight")


def _rows(array: np.ndarray, dtype: str) -> Rows:
    if array.ndim < 2:
        array = array.reshape(1, -1)
    count, width = len(array), math.prod(array.shape[1:])
    return Rows(
        count, width, dtype, lambda first, end: np.ascontiguousarray(array[first:end]).reshape(end - first, width)
    )


def converted(array: np.ndarray, dtype: str, to: str) -> np.ndarray:
    """Stored numbers in another dtype; FloatingPointError where that has no such number."""
    if dtype == to or dtype not in NUMPY or to not in NUMPY:
        return array
    numbers = as_f32(array, dtype)
    if to == "F16" and numbers.size and np.abs(numbers).max() > np.finfo(np.float16).max:
        raise FloatingPointError("a number is larger than those of F16")
    return rounded(numbers, to.lower())
