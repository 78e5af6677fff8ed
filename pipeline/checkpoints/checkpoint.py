"""A checkpoint, whatever files it is made of: its configuration, its tensors, its tokenizer; mapped, never copied.

`open_checkpoint` reads headers only and checks them against the files' sizes. `Checkpoint.mapped` maps a file once,
read-only. `folder.py` opens Hugging Face's and MLX's folders, `gguf/` opens llama.cpp's files.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError, ClosedError, UnsupportedError
from .chat import Chat
from .config import Quantization, module_quantization, quantization_table
from .files import open_file
from .maps import FileMap, map_file
from .packed.methods import packings
from .packed.scheme import PackedWeight, Packing
from .tensor_info import TensorInfo
from .text_part import earlier_names
from .tokenizer import Tokenizer

__all__ = ["NUMPY_DTYPES", "WEIGHTS", "Checkpoint", "Layout"]

WEIGHTS = "model.safetensors"

# NumPy's name for each stored type; types that NumPy lacks are shown as raw bits.
NUMPY_DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "F8_E4M3": "|u1",
    "F8_E5M2": "|u1",
    "F8_E8M0": "|u1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "BF16": "<u2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
}


@dataclass(frozen=True)
class Layout:
    """How a file format's weights differ from transformers' checkpoints. A family obeys it.

    rope_pairs      rows of q and k lie so that rotary embedding turns neighbours, elements 2i and 2i + 1 of a head,
                    where transformers turns i and i + head_dim / 2
    norms_plus_one  the 1 that a family's norms add to their weight is part of the stored weight
    slopes          recurrent layers have -exp(A_log) in place of A_log
    tiled           value heads of recurrent layers take turns: head h goes with key head h % key_heads
    """

    rope_pairs: bool = False
    norms_plus_one: bool = False
    slopes: bool = False
    tiled: bool = False


class Checkpoint:
    """An open checkpoint, a context manager. Made by `open_checkpoint`.

    path         the folder or file that was opened
    source       for messages: the file that the configuration comes from
    config       the configuration with the keys of transformers' config.json
    layout       how the weights differ from transformers'
    class_defaults   whether keys that the configuration leaves out have the values of transformers' configuration class
    instead      what the file could be where it says something unknown; empty where a family may know it
    tensors      name -> TensorInfo, over all files; names as transformers or MLX give them
    end_tokens   the ids that end a text
    bos_token    the id that a prompt starts with, None where it needs none
    note         what is odd about the files, though they can be used; None where nothing is
    """

    layout = Layout()
    class_defaults = True
    instead: tuple[str, ...] = ()
    note: str | None = None

    def __init__(
        self, path: Path, source: Path, config: dict[str, Any], sizes: dict[Path, int], tensors: dict[str, TensorInfo]
    ) -> None:
        self.path = path
        self.source = str(source)
        self.config = config
        self.tensors = tensors
        self._quantization = quantization_table(config, self.source)
        self._packings = packings(config, self.source, earlier_names())
        self._sizes = sizes  # bytes of each file when its header was checked
        self._maps: dict[Path, FileMap] = {}
        self._borders: dict[Path, tuple[int, ...]] = {}
        self._asked: set[str] = set()
        self._closed = False

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def end_tokens(self) -> tuple[int, ...]:
        return ()

    @property
    def bos_token(self) -> int | None:
        return None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer; CheckpointError where it is missing or damaged."""
        raise NotImplementedError

    def chat(self) -> Chat:
        """The chat templates; without one, using them raises CheckpointError."""
        raise NotImplementedError

    @property
    def files(self) -> tuple[Path, ...]:
        """The weight files."""
        return tuple(self._sizes)

    @property
    def nbytes(self) -> int:
        """Bytes of all weight files."""
        return sum(self._sizes.values())

    @property
    def unused(self) -> tuple[str, ...]:
        """Tensors that nobody asked for: after a model was loaded, those that its family has no place for. A tensor
        without numbers, as of no shared experts, is none of them."""
        return tuple(name for name, info in self.tensors.items() if name not in self._asked and info.nbytes)

    def pass_over(self, prefix: str) -> None:
        """Tells that a family knows the tensors whose names begin so, and that what it computes needs none of them."""
        self._asked |= {name for name in self.tensors if name.startswith(prefix)}

    def mapped(self, file: Path) -> mmap.mmap:
        """`file` as one read-only map, made on the first call and shared by the later ones."""
        if self._closed:
            raise ClosedError(f"{self.path}: the checkpoint is closed")
        if file not in self._sizes:
            raise CheckpointError(f"{file}: not a weight file of {self.path}")
        if file not in self._maps:
            self._maps[file] = self._map(file)
        self._maps[file].watch(file)
        return self._maps[file]

    def borders(self, file: Path) -> tuple[int, ...]:
        """Where the tensors of `file` begin, in order; bytes from the file's beginning."""
        if file not in self._borders:
            begins = {info.offset for info in self.tensors.values() if info.file == file}
            self._borders[file] = tuple(sorted(begins))
        return self._borders[file]

    def _map(self, file: Path) -> FileMap:
        try:
            with open_file(file) as stream:
                return map_file(file, stream, self._sizes[file])  # against which its header was checked
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be mapped: {error}") from error

    def tensor(self, name: str) -> TensorInfo:
        """`tensors[name]`; CheckpointError where there is none of that name."""
        try:
            info = self.tensors[name]
        except KeyError:
            raise CheckpointError(f"{self.path}: has no tensor {name!r}; download or convert it again") from None
        self._asked.add(name)
        return info

    def view(self, name: str) -> np.ndarray:
        """The tensor as a read-only array over the map; bf16 as uint16. It may be unaligned (`flags.aligned`)."""
        info = self.tensor(name)
        if info.dtype not in NUMPY_DTYPES:
            raise UnsupportedError(f"{info.file}: tensor {name!r} has dtype {info.dtype}, which is not supported")
        return self._array(info, info.shape, NUMPY_DTYPES[info.dtype])

    def raw(self, name: str) -> np.ndarray:
        """The tensor's bytes as they are stored, a read-only array of uint8 over the map, for blocks of any format."""
        info = self.tensor(name)
        return self._array(info, (info.nbytes,), "|u1")

    def _array(self, info: TensorInfo, shape: Sequence[int], dtype: str) -> np.ndarray:
        return np.ndarray(shape, np.dtype(dtype), buffer=self.mapped(info.file), offset=info.offset)

    def quantization(self, module: str) -> Quantization | None:
        """How MLX stored the weight of `module` ("model.layers.0.mlp.gate"); None where its dtype says all."""
        scaled = f"{module}.scales" in self.tensors and f"{module}.qweight" not in self.tensors
        if self._quantization is None:
            if scaled:
                raise CheckpointError(
                    f"{self.source}: says nothing of quantisation, but {module} has scales; add 'quantization'"
                )
            return None
        return module_quantization(self._quantization, module, scaled, self.source)

    def packing(self, module: str) -> Packing | None:
        """How another library than MLX quantised the weight of `module`; None where none did."""
        found = self._packings.of(module, self.tensors)
        if found is not None:
            self._asked.update(f"{module}.{part}" for part in self._packings.passed)
        return found

    def packed_weights(self) -> list[PackedWeight]:
        """The weights that another library than MLX quantised, in the order of their tensors."""
        ends, beside = (".qweight", ".weight_packed", ".weight"), ("_scale", "_scale_inv", "_zero_point")
        modules = (
            name.removesuffix(next((end for end in ends if name.endswith(end)), ""))
            for name in self.tensors
            if not name.endswith(beside)
        )
        found = ((module, self._packings.of(module, self.tensors)) for module in dict.fromkeys(modules))
        return [PackedWeight.of(module, packing, self.tensors) for module, packing in found if packing is not None]

    @property
    def unapplied(self) -> str:
        """What the configuration asks of activations and of the KV cache, which is not done; empty where nothing is."""
        return self._packings.unapplied

    def close(self) -> None:
        """Ends the use of the checkpoint. A map goes when the last array or buffer that shows it goes.

        No map is closed by hand: an array made over it holds a reference, not an export that would prevent that. A copy
        of the checkpoint keeps its maps: weights that a device gets later may be read from there.
        """
        self._closed = True
        self._maps = {}
