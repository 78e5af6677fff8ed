"""Takes weights from a checkpoint: mapped where a kernel can read them, else repacked once and counted."""

from __future__ import annotations

import copy
import math
import mmap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import Quantization
from ..checkpoints.packed.scheme import Packing, weight_name
from ..checkpoints.tensor_info import TensorInfo
from ..device.device import Device
from ..errors import CheckpointError, UnsupportedError
from ..graph.formats import BLOCKS, FLOAT_MODES, ITEM_SIZES
from ..graph.tensors import Mapped, Shape, Storage, nbytes_of
from ..graph.weights import Blocks, MixedStack, Quantized, Weight, as_weight, split_rows
from . import repacking
from .block_scales import scaled_blocks
from .mlx_weights import quantised
from .numbers import FLOATS, as_f32
from .survey import Survey

_DTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "U32": "u32", "U8": "u8"}

Stored: TypeAlias = Storage | Quantized | Blocks  # a matrix in the format in which the checkpoint has it


class Loader:
    """Weights of one checkpoint for one device.

    mapped_bytes counts what is read where it lies in the file; repacked_bytes what was copied because
    its address does not suit a kernel, or because experts that lie apart must lie together; `reasons` has these bytes
    by what they are. A device that has memory of its own gets copies of all of it, from the maps and later: `storages`
    are the weights. With a Survey for a device nothing is mapped or copied, only counted. `repacked` counts the weights
    of other libraries' formats, by what they are, and `seconds` the time that this took.
    """

    def __init__(self, checkpoint: Checkpoint, device: Device | Survey) -> None:
        # A device with memory of its own gets its weights later, when the checkpoint may be closed.
        at_once = isinstance(device, Survey) or device.unified
        self.checkpoint = checkpoint if at_once else copy.copy(checkpoint)
        self.device = device
        self.mapped_bytes = 0
        self.repacked_bytes = 0
        self.reasons: Counter[str] = Counter()
        self.storages: list[Storage] = []
        self.repacked: Counter[Packing] = Counter()
        self.seconds = 0.0
        self.orders: dict[bytes, Storage] = {}

    def array(
        self,
        name: str,
        shape: tuple[int, ...],
        dtypes: Sequence[str] = FLOATS,
        *,
        stored: tuple[int, ...] | None = None,
    ) -> Storage:
        """A tensor as it is stored: in `shape` or, if given, in the shape `stored` of as many numbers. CheckpointError
        when it is missing, misshapen or of another dtype."""
        return self.storage([self.info(name, stored or shape, dtypes)], shape)

    def alike(self, wanted: Sequence[tuple[str, tuple[int, ...]]]) -> list[Storage]:
        """Tensors (name, shape) that a kernel takes in one dtype: where they are stored in several, copies in f32."""
        infos = [self.info(name, shape, FLOATS) for name, shape in wanted]
        if len({info.dtype for info in infos}) == 1:
            return [self.storage([info], info.shape) for info in infos]
        self._count(sum(4 * info.nbytes // ITEM_SIZES[_DTYPES[info.dtype]] for info in infos), "of several dtypes")
        if isinstance(self.device, Survey):
            return [Storage.empty(info.shape, "f32") for info in infos]
        return [self._kept(Storage.of(as_f32(self.checkpoint.view(info.name), info.dtype))) for info in infos]

    def matrix(self, module: str, shape: tuple[int, ...]) -> Stored:
        """The weight of `module`, of the logical `shape` [..., outputs, inputs]."""
        return self._weight([module], shape, shape, self.checkpoint.quantization(module))

    def stacks(
        self, modules: Sequence[Sequence[str]], shapes: Sequence[tuple[int, int]]
    ) -> tuple[Stored | MixedStack, ...]:
        """Stacks of experts that lie one by one, each of `modules` [experts] with matrices of its shape [outputs,
        inputs]. Where experts differ in format, the stacks have the same parts."""
        parts: dict[tuple[object, ...], list[int]] = {}
        for expert, names in enumerate(zip(*modules, strict=True)):
            parts.setdefault(tuple(map(self._format, names)), []).append(expert)
        members = tuple(map(tuple, parts.values()))

        def weight(names: list[str], shape: tuple[int, int]) -> Stored:
            return self._weight(names, shape, (len(names), *shape), self.checkpoint.quantization(names[0]))

        if len(members) == 1:
            return tuple(weight(list(names), shape) for names, shape in zip(modules, shapes))
        return tuple(
            MixedStack(members, tuple(weight([names[expert] for expert in part], shape) for part in members))
            for names, shape in zip(modules, shapes)
        )

    def _format(self, module: str) -> tuple[object, ...]:
        """What all of the matrices of a stack share."""
        tensors, parts = self.checkpoint.tensors, ("scales", "biases", "weight_scale")
        names = [weight_name(module, tensors), *(f"{module}.{part}" for part in parts)]
        dtypes = [tensors[name].dtype if name in tensors else None for name in names]
        return self.checkpoint.quantization(module), self.checkpoint.packing(module), *dtypes

    def split(
        self,
        module: str,
        shape: tuple[int, ...],
        sizes: tuple[int, ...],
        *,
        interleaved: bool = False,
        transposed: bool = False,
    ) -> tuple[Weight, ...]:
        """The weight of `module`, of `shape` [..., outputs, inputs], as weights of `sizes` outputs: gate and up of
        one matrix. They lie one behind another or, interleaved, take turns. Views of what is mapped; `transposed`, a
        matrix stored as [..., inputs, outputs] is copied."""
        whole = self.transposed(module, shape) if transposed else self.matrix(module, shape)
        return split_rows(as_weight(whole, module), sizes, interleaved=interleaved)

    def transposed(self, module: str, shape: tuple[int, ...]) -> Storage:
        """A copy of the weight of `module`, of `shape` [..., outputs, inputs], stored as [..., inputs, outputs]."""
        if self.checkpoint.quantization(module) is not None or self.checkpoint.packing(module) is not None:
            raise UnsupportedError(
                f"{self.checkpoint.source}: {module} is quantised as [..., inputs, outputs], which is not "
                "supported; its groups must lie along the inputs"
            )
        info = self.info(weight_name(module, self.checkpoint.tensors), (*shape[:-2], shape[-1], shape[-2]), FLOATS)
        self._count(info.nbytes, "turned")
        if isinstance(self.device, Survey):
            return Storage.empty(shape, _DTYPES[info.dtype])
        stored = self.checkpoint.view(info.name).reshape(-1, shape[-1], shape[-2])
        storage = self._kept(Storage(shape, _DTYPES[info.dtype], parts=lambda: (matrix.T for matrix in stored)))
        if self.device.unified:
            storage.on(self.device)
            self._forget(info)
        return storage

    def split_array(
        self, name: str, shape: tuple[int, ...], sizes: tuple[int, ...], *, interleaved: bool = False
    ) -> tuple[Storage, ...]:
        """A small array, such as biases [experts, outputs], as arrays of `sizes` along its last axis: copies, because
        arrays must lie without gaps. See `split`."""
        info = self.info(name, shape, FLOATS)
        if sum(sizes) != shape[-1] or (interleaved and len(set(sizes)) > 1):
            raise CheckpointError(f"{info.file}: tensor {name!r} of {shape[-1]} cannot be split into {sizes}")
        self._count(info.nbytes, "split")
        ends = np.cumsum(sizes)
        picks = [
            slice(i, None, len(sizes)) if interleaved else slice(end - n, end)
            for i, (n, end) in enumerate(zip(sizes, ends))
        ]
        if isinstance(self.device, Survey):
            return tuple(Storage.empty((*shape[:-1], n), _DTYPES[info.dtype]) for n in sizes)
        values = self.checkpoint.view(name)
        return tuple(
            self._kept(Storage.of(np.ascontiguousarray(values[..., pick]), _DTYPES[info.dtype])) for pick in picks
        )

    def copied(
        self,
        name: str,
        shape: tuple[int, ...],
        change: Callable[[np.ndarray], np.ndarray] = np.asarray,
        to: tuple[int, ...] | None = None,
    ) -> Storage:
        """A small tensor of `shape` as a kernel takes it: a copy in f32, which `change` makes one of shape `to`."""
        info = self.info(name, shape, FLOATS)
        to = shape if to is None else to
        self._count(4 * math.prod(to), "small tensors in f32")
        if isinstance(self.device, Survey):
            return Storage.empty(to, "f32")
        values = change(as_f32(self.checkpoint.view(info.name), info.dtype))
        return self._kept(Storage.of(np.ascontiguousarray(values.reshape(to), np.float32)))

    def blocks(self, name: str, shape: tuple[int, ...]) -> Quantized:
        """The matrix `name` as transformers stores MXFP4: NAME_blocks of 16 bytes per 32 inputs, which are MLX's words,
        and NAME_scales."""
        bits, group_size = FLOAT_MODES["mxfp4"]
        groups = shape[-1] // group_size
        blocks = self.info(f"{name}_blocks", (*shape[:-1], groups, 16), ("U8",))
        scales = self.info(f"{name}_scales", (*shape[:-1], groups), ("U8",))
        words = self.storage([replace(blocks, dtype="U32")], (*shape[:-1], 4 * groups))
        return Quantized(words, self.storage([scales], scales.shape), bits=bits, group_size=group_size)

    def has(self, name: str) -> bool:
        return name in self.checkpoint.tensors

    def _weight(self, modules: list[str], shape: Shape, full: Shape, scheme: Quantization | None) -> Stored:
        """One matrix, or several of `shape` that become `full`."""
        if scheme is not None:
            return quantised(self, modules, shape, full, scheme)
        packing = self.checkpoint.packing(modules[0])
        if packing is not None:
            self.repacked[packing] += len(modules)
            return repacking.repacked(self, modules, shape, full, packing)
        for module in modules:
            repacking.demand_scales(self, module)
        infos = [
            self.info(weight_name(module, self.checkpoint.tensors), shape, (*FLOATS, *BLOCKS)) for module in modules
        ]
        if infos[0].dtype not in BLOCKS:
            return self.storage(infos, full)
        columns, nbytes = BLOCKS[infos[0].dtype]
        if shape[-1] % columns:
            raise CheckpointError(
                f"{infos[0].file}: tensor {infos[0].name!r} has rows of {shape[-1]:,}, which are not "
                f"whole blocks of {columns} ({infos[0].dtype}); convert the model again"
            )
        scaled = scaled_blocks(self, modules, infos, shape, full)
        if scaled is not None:
            return scaled
        return Blocks(self.storage(infos, (*full[:-1], shape[-1] // columns * nbytes)), infos[0].dtype)

    def info(self, name: str, shape: Shape, dtypes: Sequence[str]) -> TensorInfo:
        try:
            return self._checked(name, shape, dtypes)
        except CheckpointError as error:
            if isinstance(self.device, Survey):
                return self.device.instead(error, name, shape, dtypes)
            raise

    def _checked(self, name: str, shape: Shape, dtypes: Sequence[str]) -> TensorInfo:
        info = self.checkpoint.tensor(name)
        if tuple(info.shape) != tuple(shape):
            raise CheckpointError(
                f"{info.file}: tensor {name!r} has shape {list(info.shape)}, the config says {list(shape)}"
            )
        if info.dtype not in dtypes:
            raise UnsupportedError(
                f"{info.file}: tensor {name!r} is {info.dtype}, which is not supported there; "
                f"supported: {', '.join(dtypes)}"
            )
        return info

    def storage(self, infos: Sequence[TensorInfo], shape: Shape) -> Storage:
        if len({info.dtype for info in infos}) > 1:
            raise CheckpointError(f"{infos[0].file}: {infos[0].name!r} and its siblings differ in dtype")
        dtype = _DTYPES.get(infos[0].dtype, "u8")
        alignment = 2 if infos[0].dtype in BLOCKS else ITEM_SIZES[dtype]
        if len(infos) == 1 and infos[0].offset % alignment == 0:
            self.mapped_bytes += infos[0].nbytes
            if isinstance(self.device, Survey):
                return Storage.empty(shape, dtype)
            return self._kept(Storage(shape, dtype, mapped=self._mapped(infos[0])))
        why = "experts stored one by one" if len(infos) > 1 else "at an address that no kernel reads"
        self._count(sum(info.nbytes for info in infos), why)
        if isinstance(self.device, Survey):
            return Storage.empty(shape, dtype)
        if not self.device.unified:
            return self._kept(Storage(shape, dtype, mapped=[self._mapped(info) for info in infos]))
        storage = Storage.empty(shape, dtype)
        target = storage.numpy(self.device).reshape(-1).view("uint8").reshape(len(infos), -1)
        for row, info in zip(target, infos):
            row[:] = self.checkpoint.raw(info.name)
            self._forget(info)
        return self._kept(storage)

    def _count(self, nbytes: int, why: str) -> None:
        self.repacked_bytes += nbytes
        self.reasons[why] += nbytes

    def made(
        self, shape: Shape, dtype: str, parts: Callable[[], Iterable[np.ndarray]], sources: Sequence[TensorInfo] = ()
    ) -> Storage:
        """Memory of our own that `parts` fill, arrays one behind another; `sources` are what they are made from."""
        self._count(nbytes_of(shape, dtype), "of other formats")
        if isinstance(self.device, Survey):
            return Storage.empty(shape, dtype)
        storage = self._kept(Storage(shape, dtype, parts=lambda: self._timed(parts())))
        if self.device.unified:
            storage.on(self.device)
            for info in sources:
                self._forget(info)
        return storage

    def _timed(self, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        started = time.perf_counter()
        for part in parts:
            yield part
            self.seconds += time.perf_counter() - started
            started = time.perf_counter()

    def _mapped(self, info: TensorInfo) -> Mapped:
        return Mapped(info.file, self.checkpoint.mapped(info.file), info.offset, self.checkpoint.borders(info.file))

    def _kept(self, storage: Storage) -> Storage:
        self.storages.append(storage)
        return storage

    def _forget(self, info: TensorInfo) -> None:
        """Gives back the pages of the map that only the copied tensor needed."""
        memory = self.checkpoint.mapped(info.file)
        begin = -(-info.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (info.offset + info.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > begin and hasattr(memory, "madvise"):
            memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)
