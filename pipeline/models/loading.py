"""Takes weights from a checkpoint: mapped where a kernel can read them, else repacked once and counted."""

from __future__ import annotations

import mmap

from ..errors import CheckpointError, UnsupportedError
from ..tensors import ITEM_SIZES, Quantized, Storage
from .survey import Survey

_DTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "U32": "u32"}


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

    def array(self, name: str, shape: tuple[int, ...], dtypes=("F32", "F16", "BF16")) -> Storage:
        """A tensor as it is stored. CheckpointError when it is missing, misshapen or of another dtype."""
        return self._place([self._info(name, shape, dtypes)], shape)

    def matrix(self, module: str, shape: tuple[int, ...]) -> Storage | Quantized:
        """The weight of `module`, of the logical `shape` [..., outputs, inputs]."""
        scheme = self.checkpoint.quantization(module)
        if scheme is None:
            return self.array(f"{module}.weight", shape)
        return self._quantized([module], shape, shape, scheme)

    def stack(self, modules: list[str], shape: tuple[int, int]) -> Storage | Quantized:
        """The weights of `modules`, each [outputs, inputs], as one stack [len(modules), …]."""
        schemes = {self.checkpoint.quantization(module) for module in modules}
        if len(schemes) > 1:
            raise UnsupportedError(f"{self.checkpoint.path}: {modules[0]} and its siblings are quantised differently; "
                                   "experts of one layer must share a format")
        scheme = schemes.pop()
        full = (len(modules), *shape)
        if scheme is not None:
            return self._quantized(modules, shape, full, scheme)
        infos = [self._info(f"{module}.weight", shape, ("F32", "F16", "BF16")) for module in modules]
        return self._place(infos, full)

    def has(self, name: str) -> bool:
        return name in self.checkpoint.tensors

    def _quantized(self, modules, shape, full, scheme) -> Quantized:
        inputs = shape[-1]
        if scheme.bits not in (4, 8) or scheme.group_size not in (32, 64, 128):
            raise UnsupportedError(f"{modules[0]}: {scheme.bits} bits in groups of {scheme.group_size} are not supported; "
                                   "use 4 or 8 bits in groups of 32, 64 or 128")
        if inputs % scheme.group_size:
            raise CheckpointError(f"{modules[0]}: {inputs} inputs are not whole groups of {scheme.group_size}")
        widths = {"weight": inputs * scheme.bits // 32, "scales": inputs // scheme.group_size,
                  "biases": inputs // scheme.group_size}
        parts = []
        for part, width in widths.items():
            dtypes = ("U32",) if part == "weight" else ("F32", "F16", "BF16")
            infos = [self._info(f"{module}.{part}", (*shape[:-1], width), dtypes) for module in modules]
            parts.append(self._place(infos, (*full[:-1], width)))
        return Quantized(*parts, scheme.bits, scheme.group_size)

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
            raise CheckpointError(f"{info.file}: tensor {name!r} has shape {list(info.shape)}, "
                                  f"the config says {list(shape)}")
        if info.dtype not in dtypes:
            raise UnsupportedError(f"{info.file}: tensor {name!r} is {info.dtype}, which is not supported there; "
                                   f"supported: {', '.join(dtypes)}")
        return info

    def _place(self, infos, shape) -> Storage:
        if len({info.dtype for info in infos}) > 1:
            raise CheckpointError(f"{infos[0].file}: {infos[0].name!r} and its siblings differ in dtype")
        dtype = _DTYPES[infos[0].dtype]
        if len(infos) == 1 and infos[0].offset % ITEM_SIZES[dtype] == 0:
            self.mapped_bytes += infos[0].nbytes
            if self.survey is not None:
                return Storage.empty(shape, dtype)
            memory = self.checkpoint.mapped(infos[0].file)
            return Storage(shape, dtype, mapped=(infos[0].file, memory, infos[0].offset))
        storage = Storage.empty(shape, dtype)
        if self.survey is not None:
            self.repacked_bytes += sum(info.nbytes for info in infos)
            return storage
        target = storage.numpy(self.device).reshape(len(infos), -1)
        for row, info in zip(target, infos):
            row[:] = self.checkpoint.view(info.name).reshape(-1)
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
