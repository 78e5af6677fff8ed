"""Takes weights from a checkpoint: mapped where a kernel can read them, else repacked once and counted."""

from __future__ import annotations

import mmap
from dataclasses import replace

from ..errors import CheckpointError, UnsupportedError
from ..graph.formats import AFFINE_BITS, BLOCKS, GROUP_SIZES, ITEM_SIZES
from ..graph.tensors import Storage
from ..graph.weights import Blocks, Quantized, Weight, as_weight, split_rows
from .survey import Survey

_DTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "U32": "u32", "U8": "u8"}
_FLOATS = ("F32", "F16", "BF16")


class Loader:
    """Weights of one checkpoint for one device.

    mapped_bytes counts what is read where it lies in the file; repacked_bytes what was copied because
    its address does not suit a kernel, or because experts that lie apart must lie together. With a Survey
    for a device nothing is mapped or copied, only counted.
    """

    def __init__(self, checkpoint, device):
        self.checkpoint = checkpoint
        self.device = device
        self.survey = device if isinstance(device, Survey) else None
        self.mapped_bytes = 0
        self.repacked_bytes = 0

    def array(self, name: str, shape: tuple[int, ...], dtypes=_FLOATS) -> Storage:
        """A tensor as it is stored. CheckpointError when it is missing, misshapen or of another dtype."""
        return self._place([self._info(name, shape, dtypes)], shape)

    def matrix(self, module: str, shape: tuple[int, ...]) -> Storage | Quantized | Blocks:
        """The weight of `module`, of the logical `shape` [..., outputs, inputs]."""
        return self._weight([module], shape, shape, self.checkpoint.quantization(module))

    def stack(self, modules: list[str], shape: tuple[int, int]) -> Storage | Quantized | Blocks:
        """The weights of `modules`, each [outputs, inputs], as one stack [len(modules), …]."""
        schemes = {self.checkpoint.quantization(module) for module in modules}
        if len(schemes) > 1:
            raise UnsupportedError(
                f"{self.checkpoint.path}: {modules[0]} and its siblings are quantised differently; "
                "experts of one layer must share a format"
            )
        return self._weight(modules, shape, (len(modules), *shape), schemes.pop())

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
        """The weight of `module`, of `shape` [..., outputs, inputs], which is stored as [..., inputs, outputs]: copied."""
        if self.checkpoint.quantization(module) is not None:
            raise UnsupportedError(
                f"{self.checkpoint.source}: {module} is quantised as [..., inputs, outputs], which is not "
                "supported; its groups must lie along the inputs"
            )
        info = self._info(self._name(module), (*shape[:-2], shape[-1], shape[-2]), _FLOATS)
        storage = Storage.empty(shape, _DTYPES[info.dtype])
        self.repacked_bytes += info.nbytes
        if self.survey is None:
            target = storage.numpy(self.device)
            for i, matrix in enumerate(self.checkpoint.view(info.name).reshape(-1, shape[-1], shape[-2])):
                target.reshape(-1, *shape[-2:])[i] = matrix.T
            self._forget(info)
        return storage

    def split_array(self, name: str, shape: tuple[int, ...], sizes: tuple[int, ...], *, interleaved: bool = False):
        """The same for the last axis of a small array, such as biases [experts, outputs]: copies, as arrays must lie
        without gaps."""
        import numpy as np

        info = self._info(name, shape, _FLOATS)
        if sum(sizes) != shape[-1] or (interleaved and len(set(sizes)) > 1):
            raise CheckpointError(f"{info.file}: tensor {name!r} of {shape[-1]} cannot be split into {sizes}")
        self.repacked_bytes += info.nbytes
        ends = np.cumsum(sizes)
        picks = [
            slice(i, None, len(sizes)) if interleaved else slice(end - n, end)
            for i, (n, end) in enumerate(zip(sizes, ends))
        ]
        if self.survey is not None:
            return tuple(Storage.empty((*shape[:-1], n), _DTYPES[info.dtype]) for n in sizes)
        values = self.checkpoint.view(name)
        return tuple(Storage.of(np.ascontiguousarray(values[..., pick]), _DTYPES[info.dtype]) for pick in picks)

    def blocks(self, name: str, shape: tuple[int, ...]) -> Quantized:
        """The matrix `name` as transformers stores MXFP4: NAME_blocks of 16 bytes for 32 inputs, which are MLX's words, and
        NAME_scales."""
        groups = shape[-1] // 32
        blocks = self._info(f"{name}_blocks", (*shape[:-1], groups, 16), ("U8",))
        scales = self._info(f"{name}_scales", (*shape[:-1], groups), ("U8",))
        words = self._place([replace(blocks, dtype="U32")], (*shape[:-1], 4 * groups))
        return Quantized(words, self._place([scales], scales.shape), bits=4, group_size=32)

    def has(self, name: str) -> bool:
        return name in self.checkpoint.tensors

    def _weight(self, modules, shape, full, scheme) -> Storage | Quantized | Blocks:
        """One matrix, or several of `shape` that become `full`."""
        if scheme is not None:
            return self._quantized(modules, shape, full, scheme)
        infos = [self._info(self._name(module), shape, (*_FLOATS, *BLOCKS)) for module in modules]
        if infos[0].dtype not in BLOCKS:
            return self._place(infos, full)
        columns, nbytes = BLOCKS[infos[0].dtype]
        if shape[-1] % columns:
            raise CheckpointError(
                f"{infos[0].file}: tensor {infos[0].name!r} has rows of {shape[-1]:,}, which are not "
                f"whole blocks of {columns} ({infos[0].dtype}); convert the model again"
            )
        return Blocks(self._place(infos, (*full[:-1], shape[-1] // columns * nbytes)), infos[0].dtype)

    def _name(self, module: str) -> str:
        """The tensor of a module; some families' stacks of experts have no suffix."""
        return module if self.has(module) and not self.has(f"{module}.weight") else f"{module}.weight"

    def _quantized(self, modules, shape, full, scheme) -> Quantized:
        inputs = shape[-1]
        if scheme.bits not in AFFINE_BITS or scheme.group_size not in GROUP_SIZES:
            raise UnsupportedError(
                f"{modules[0]}: {scheme.bits} bits in groups of {scheme.group_size} are not supported; "
                "use 3, 4, 6 or 8 bits in groups of 32, 64 or 128"
            )
        if inputs % scheme.group_size:
            raise CheckpointError(f"{modules[0]}: {inputs} inputs are not whole groups of {scheme.group_size}")
        groups, mx = inputs // scheme.group_size, scheme.mode == "mxfp4"
        widths = {"weight": (inputs * scheme.bits // 32, ("U32",)), "scales": (groups, ("U8",) if mx else _FLOATS)}
        if not mx:
            widths["biases"] = groups, _FLOATS
        parts = {}
        for part, (width, dtypes) in widths.items():
            infos = [self._info(f"{module}.{part}", (*shape[:-1], width), dtypes) for module in modules]
            parts[part] = self._place(infos, (*full[:-1], width))
        return Quantized(**parts, bits=scheme.bits, group_size=scheme.group_size)

    def _info(self, name: str, shape, dtypes):
        try:
            return self._checked(name, shape, dtypes)
        except CheckpointError as error:
            if self.survey is None:
                raise
            return self.survey.instead(error, name, shape, dtypes)

    def _checked(self, name: str, shape, dtypes):
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

    def _place(self, infos, shape) -> Storage:
        if len({info.dtype for info in infos}) > 1:
            raise CheckpointError(f"{infos[0].file}: {infos[0].name!r} and its siblings differ in dtype")
        dtype = _DTYPES.get(infos[0].dtype, "u8")
        alignment = 2 if infos[0].dtype in BLOCKS else ITEM_SIZES[dtype]
        if len(infos) == 1 and infos[0].offset % alignment == 0:
            self.mapped_bytes += infos[0].nbytes
            if self.survey is not None:
                return Storage.empty(shape, dtype)
            memory = self.checkpoint.mapped(infos[0].file)
            return Storage(shape, dtype, mapped=(infos[0].file, memory, infos[0].offset))
        storage = Storage.empty(shape, dtype)
        if self.survey is not None:
            self.repacked_bytes += sum(info.nbytes for info in infos)
            return storage
        target = storage.numpy(self.device).reshape(-1).view("uint8").reshape(len(infos), -1)
        for row, info in zip(target, infos):
            row[:] = self.checkpoint.raw(info.name)
            self._forget(info)
            self.repacked_bytes += info.nbytes
        return storage

    def _forget(self, info) -> None:
        """Gives back the pages of the map that only the copied tensor needed."""
        memory = self.checkpoint.mapped(info.file)
        begin = -(-info.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (info.offset + info.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > begin and hasattr(memory, "madvise"):
            memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)
