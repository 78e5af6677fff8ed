"""GGUF's NVFP4 with a scale per tensor, or per expert, beside it (`….scale`), as converted files of ModelOpt have it:
repacked at load into fp4, whose scales are in float32."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..checkpoints.packed.scheme import Packing
from ..checkpoints.tensor_info import TensorInfo
from ..errors import UnsupportedError
from ..graph.formats import BLOCKS, PLAIN_MODES
from ..graph.tensors import Shape
from ..graph.weights import Quantized
from .numbers import E4M3
from .taking import Taker

__all__ = ["scaled_blocks"]

PACKING = Packing("fp4", 4, 16, made_by="GGUF's NVFP4 with scales of tensors")
PART = 1 << 14  # blocks at a time: a million weights

# A block's scales have no sign, and 127 stands for 0.
_SCALES = np.where(np.arange(256) == 127, 0, np.where(np.arange(256) == 255, 480, np.abs(E4M3))).astype(np.float32)


def scaled_blocks(
    load: Taker, modules: Sequence[str], infos: Sequence[TensorInfo], shape: Shape, full: Shape
) -> Quantized | None:
    """The weights of `modules`, blocks each [..., outputs, inputs], as one weight `full`, times their scales; None
    where these have none."""
    names = [f"{module}.scale" for module in modules]
    if not any(map(load.has, names)):
        return None
    if infos[0].dtype != "NVFP4":
        raise UnsupportedError(
            f"{infos[0].file}: tensor {infos[0].name!r} ({infos[0].dtype}) has a scale of its own, {names[0]!r}, which "
            "is supported for NVFP4 alone; convert the model to a type without one"
        )
    factors = [load.info(name, shape[:-2] or (1,), ("F32",)) for name in names]
    for module in modules:
        load.checkpoint.pass_over(f"{module}.input_scale")  # it is for activations that are rounded
    columns, nbytes = BLOCKS["NVFP4"]
    bits, (group,) = PLAIN_MODES["fp4"]
    matrix = math.prod(shape[-2:]) // columns  # blocks of one

    def parts() -> Iterator[tuple[np.ndarray, np.float32]]:
        """Some blocks of one matrix [n, bytes], and its scale."""
        for info, factor in zip(infos, factors):
            blocks = load.checkpoint.raw(info.name).reshape(-1, matrix, nbytes)
            for one, scale in zip(blocks, load.checkpoint.view(factor.name).reshape(-1), strict=True):
                for first in range(0, matrix, PART):
                    yield one[first : first + PART], scale

    def words() -> Iterator[np.ndarray]:
        for blocks, _ in parts():
            q = blocks[:, columns // group :].reshape(-1, columns // group, group // 2)
            codes = np.concatenate([q & 15, q >> 4], axis=-1)
            yield (codes[..., ::2] | codes[..., 1::2] << 4).view("<u4")

    def scales() -> Iterator[np.ndarray]:
        for blocks, scale in parts():
            yield _SCALES[blocks[:, : columns // group]] * scale

    load.repacked[PACKING] += len(modules)
    packed = load.made((*full[:-1], full[-1] * bits // 32), "u32", words, infos)
    return Quantized(packed, load.made((*full[:-1], full[-1] // group), "f32", scales), bits=bits, group_size=group)
