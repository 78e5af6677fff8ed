"""Weights as other libraries store them, repacked at load into formats that kernels read, with the same values.

Integers become MLX's affine format: w = q · scale + bias with bias = -zero · scale, and small floats fp8 or fp4, whose
scales are in f32. Words that suit a kernel stay in the file. What is made comes part by part and goes straight to its
place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeAlias

import numpy as np

from ..checkpoints.packed.scheme import Packing, weight_name
from ..errors import CheckpointError, UnsupportedError
from ..graph.formats import FLOAT_MODES, GROUP_SIZES, PLAIN_MODES
from ..graph.tensors import Shape, Storage
from ..graph.weights import Quantized
from .grids import find_scales
from .integers import SOURCES, Integers
from .numbers import FLOATS, as_f32, rounded
from .survey import Survey
from .taking import Taker

__all__ = ["Repacked", "demand_scales", "notes", "repacked", "with_global_scale"]

Repacked: TypeAlias = Quantized | Storage
DTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
# Whose steps take columns in another order.
PROJECTIONS = "q_proj k_proj v_proj o_proj qkv_proj gate_proj up_proj down_proj gate_up_proj w1 w2 w3".split()
ROWS = 1024  # of scales that are decoded at a time
LARGEST_NVFP4 = np.float32(448 * 6)  # a scale times a code, for which MLX's global scale stands


def repacked(load: Taker, modules: Sequence[str], shape: Shape, full: Shape, packing: Packing) -> Repacked:
    """The weights of `modules`, each [..., outputs, inputs], as one weight `full`. CheckpointError for tensors that are
    missing or misshapen, UnsupportedError for sizes that no kernel reads."""
    if packing.layout in SOURCES:
        return _integers([SOURCES[packing.layout](load, module, shape, packing) for module in modules], full)
    make = {"fp8": _fp8, "fp4": _fp4, "mxfp4": _mxfp4, "mxfp8": _mxfp8}[packing.layout]
    return make(load, modules, shape, full, packing)


def demand_scales(load: Taker, module: str) -> None:
    """Raises CheckpointError for packed integers or codes that stand without scales, or without words that say what
    they are."""
    name, tensors = weight_name(module, load.checkpoint.tensors), load.checkpoint.tensors
    info = tensors.get(name)
    if info is not None and info.dtype == "U32":
        raise CheckpointError(
            f"{info.file}: tensor {name!r} is quantised, and there is no '{module}.scales'; download it again"
        )
    for part in ("qweight", "weight_packed"):
        if info is None and f"{module}.{part}" in tensors:
            raise CheckpointError(
                f"{load.checkpoint.source}: says nothing of {module}.{part}; it needs the 'quantization_config' of the "
                "tool that made it"
            )


def notes(load: Taker) -> tuple[str, ...]:
    """Lines about what was repacked, and about what the configuration asks besides."""
    lines = []
    if load.repacked:
        parts = "; ".join(f"{count:,} of {packing}" for packing, count in load.repacked.most_common())
        made = load.seconds > 0  # a device that has memory of its own gets them later
        lines.append(f"weights repacked{f' in {load.seconds:.1f} s' if made else ''}: {parts}")
    if load.checkpoint.unapplied:
        lines.append(f"quantization_config asks for {load.checkpoint.unapplied}, which is not applied")
    return tuple(lines)


# Integers


def _integers(sources: Sequence[Integers], full: Shape) -> Repacked:
    first = sources[0]
    dtypes = {source.scale_info.dtype for source in sources}
    if len(dtypes) > 1:
        raise CheckpointError(f"{first.module} and its siblings have scales of {' and '.join(sorted(dtypes))}")
    stored = DTYPES[dtypes.pop()]
    ordered = len(sources) == 1 and first.module.rpartition(".")[2] in PROJECTIONS and first.put_in_order()
    if any(source.groups_of is not None for source in sources):
        return _decoded(sources, full, stored)
    load, rows, columns, bits = first.load, first.rows, first.columns, first.bits
    group = first.grid.group(columns, GROUP_SIZES, f"{load.checkpoint.source}: {first.module}")
    infos, width = [info for source in sources for info in source.infos], columns * bits // 32
    if first.in_place:
        words = load.storage(infos, (*full[:-1], width))
    else:
        parts = lambda: chain.from_iterable(source.words() for source in sources)  # noqa: E731
        words = load.made((*full[:-1], width), "u32", parts, infos)
    dtype = stored if first.packing.symmetric and _biases_fit(sources, stored) else "f32"
    groups = (*full[:-1], columns // group)

    def scales() -> Iterator[np.ndarray]:
        for source in sources:
            yield source.grid.spread(rounded(source.scales(), dtype), rows, columns, group)

    def biases() -> Iterator[np.ndarray]:
        for source in sources:
            yield source.grid.spread(rounded(_biases(source), dtype), rows, columns, group)

    scale_infos = [source.scale_info for source in sources]
    if first.in_place and dtype == stored and (first.grid.tall, first.grid.wide) == (1, group):
        scale = load.storage(scale_infos, groups)
    else:
        scale = load.made(groups, dtype, scales)
    order = _shared_order(load, first.order) if ordered and first.order is not None else None
    return Quantized(words, scale, load.made(groups, dtype, biases), bits=bits, group_size=group, order=order)


def _shared_order(load: Taker, order: np.ndarray) -> Storage:
    """The order of columns as a kernel takes it; one for all weights that have the same."""
    values = order.astype(np.uint32)
    key = values.tobytes()
    if key not in load.orders:
        load.orders[key] = load.made(values.shape, "u32", lambda: [values])
    return load.orders[key]


def _biases(source: Integers) -> np.ndarray:
    return -(source.zeros() * source.scales()).astype(np.float32)


def _biases_fit(sources: Sequence[Integers], dtype: str) -> bool:
    """Whether the biases are numbers of the scales' dtype, as they are where zero points are a power of two."""
    if dtype == "f32" or isinstance(sources[0].load.device, Survey):
        return True
    stored = {code: name for name, code in DTYPES.items()}[dtype]
    for source in sources:
        biases = _biases(source)
        if not np.array_equal(as_f32(rounded(biases, dtype), stored), biases, equal_nan=True):
            return False
    return True


def _decoded(sources: Sequence[Integers], full: Shape, dtype: str) -> Storage:
    """Weights whose groups are no neighbours, as numbers of the scales' dtype, to which the tool rounds them, too."""

    def parts() -> Iterator[np.ndarray]:
        for source in sources:
            groups = source.groups_of
            if groups is None:
                groups = np.arange(source.columns) // source.grid.wide
            scales, zeros, first = source.scales(), source.zeros().astype(np.float32), 0
            for codes in source.codes():
                rows = slice(first, first + len(codes))
                zero = np.take(zeros[rows], groups, axis=1) if np.ndim(zeros) else zeros
                scale = np.take(scales[rows], groups, axis=1)
                yield rounded((codes.astype(np.float32) - zero) * scale, dtype)
                first += len(codes)

    infos = [info for source in sources for info in source.infos]
    return sources[0].load.made(full, dtype, parts, infos)


# Small floats


def _fp8(load: Taker, modules: Sequence[str], shape: Shape, full: Shape, p: Packing) -> Quantized:
    rows, columns = shape[-2:]
    names = [weight_name(module, load.checkpoint.tensors) for module in modules]
    infos = [load.info(name, shape, ("F8_E4M3",)) for name in names]
    found = [
        find_scales(load, [f"{name}_scale_inv", f"{name}_scale"], shape, (*FLOATS, "F8_E8M0"), p) for name in names
    ]
    bits, sizes = PLAIN_MODES["fp8"]
    group = min(
        grid.group(columns, sizes, f"{info.file}: tensor {info.name!r}") for info, (_, grid) in zip(infos, found)
    )
    words = load.storage([replace(info, dtype="U32") for info in infos], (*full[:-1], columns // 4))

    def scales() -> Iterator[np.ndarray]:
        for info, grid in found:
            values = as_f32(load.checkpoint.view(info.name), info.dtype).reshape(*shape[:-2], *grid.shape)
            yield grid.spread(values, rows, columns, group)

    return Quantized(words, load.made((*full[:-1], columns // group), "f32", scales), bits=bits, group_size=group)


def _fp4(load: Taker, modules: Sequence[str], shape: Shape, full: Shape, p: Packing) -> Quantized:
    bits, (group,) = PLAIN_MODES["fp4"]
    columns = _whole(load, modules[0], shape, group)
    names = [_packed_name(load, module) for module in modules]
    infos = [load.info(name, (*shape[:-1], columns // 2), ("U8",)) for name in names]
    blocks = [load.info(f"{m}.weight_scale", (*shape[:-1], columns // group), ("F8_E4M3",)) for m in modules]
    whole = []
    for module, name in zip(modules, names):
        # compressed-tensors, whose codes are weight_packed, divides by its factor; ModelOpt multiplies by its own.
        divides = load.has(f"{module}.weight_global_scale") or name.endswith("weight_packed")
        factor = "weight_global_scale" if divides else "weight_scale_2"
        own = load.checkpoint.tensors.get(f"{module}.{factor}")
        of = own.shape if own is not None and own.shape in ((), (1,), (*shape[:-2], 1), shape[:-2]) else (1,)
        whole.append(load.info(f"{module}.{factor}", of, ("F32",)))
    words = load.storage([replace(info, dtype="U32") for info in infos], (*full[:-1], columns // 8))

    def scales() -> Iterator[np.ndarray]:
        for info, one in zip(blocks, whole):
            factor = load.checkpoint.view(one.name).reshape(-1)
            for values, own in _shares(load.checkpoint.view(info.name), factor):
                with np.errstate(all="ignore"):
                    yield values / own if one.name.endswith("weight_global_scale") else values * own

    return Quantized(words, load.made((*full[:-1], columns // group), "f32", scales), bits=bits, group_size=group)


def _mxfp4(load: Taker, modules: Sequence[str], shape: Shape, full: Shape, p: Packing) -> Quantized:
    return _powers(load, [_packed_name(load, module) for module in modules], modules, "U8", "mxfp4", shape, full)


def _mxfp8(load: Taker, modules: Sequence[str], shape: Shape, full: Shape, p: Packing) -> Quantized:
    names = [weight_name(module, load.checkpoint.tensors) for module in modules]
    return _powers(load, names, modules, "F8_E4M3", "mxfp8", shape, full)


def _powers(
    load: Taker, names: Sequence[str], modules: Sequence[str], dtype: str, mode: str, shape: Shape, full: Shape
) -> Quantized:
    """Weights with powers of two for scales, which lie as MLX's do."""
    bits, group = FLOAT_MODES[mode]
    columns = _whole(load, modules[0], shape, group)
    infos = [load.info(name, (*shape[:-1], columns * bits // 8), (dtype,)) for name in names]
    found = [
        load.info(f"{module}.weight_scale", (*shape[:-1], columns // group), ("U8", "F8_E8M0")) for module in modules
    ]
    words = load.storage([replace(info, dtype="U32") for info in infos], (*full[:-1], columns * bits // 32))
    scales = load.storage([replace(info, dtype="U8") for info in found], (*full[:-1], columns // group))
    return Quantized(words, scales, bits=bits, group_size=group)


def with_global_scale(load: Taker, modules: Sequence[str], full: Shape, weight: Quantized) -> Quantized:
    """A weight of MLX's mode nvfp4 whose scales are shares of another, `global_scale`, per expert or for all: then they
    are multiplied here. The weight as it is where there is none."""
    names = [f"{module}.global_scale" for module in modules]
    if not any(load.has(name) for name in names):
        return weight
    own = load.checkpoint.tensors.get(names[0])
    of = own.shape if own is not None and own.shape in ((), (1,), full[:-2]) else full[:-2]
    infos = [load.info(name, of, ("F32",)) for name in names]
    groups = (*full[:-1], full[-1] // weight.group_size)

    def scales() -> Iterator[np.ndarray]:
        for module, info in zip(modules, infos):
            factors = (load.checkpoint.view(info.name) / LARGEST_NVFP4).reshape(-1)
            for values, own in _shares(load.checkpoint.view(f"{module}.scales"), factors):
                yield values * own

    return replace(weight, scales=load.made(groups, "f32", scales))


def _shares(scales: np.ndarray, factors: np.ndarray) -> Iterator[tuple[np.ndarray, np.float32]]:
    """Some rows at a time of E4M3 scales [..., rows, groups], float32, and the factor of their matrix, or of all."""
    matrices = scales.reshape(-1, *scales.shape[-2:])
    for matrix, factor in zip(matrices, np.broadcast_to(factors, len(matrices))):
        for first in range(0, len(matrix), ROWS):
            yield as_f32(matrix[first : first + ROWS], "F8_E4M3"), factor


def _packed_name(load: Taker, module: str) -> str:
    """Of two codes per byte."""
    return f"{module}.weight_packed" if load.has(f"{module}.weight_packed") else f"{module}.weight"


def _whole(load: Taker, module: str, shape: Shape, group: int) -> int:
    """The inputs, which must be whole groups."""
    if shape[-1] % group:
        raise UnsupportedError(
            f"{load.checkpoint.source}: {module} has rows of {shape[-1]:,}, which are not whole groups of {group}; "
            "use the model in bf16"
        )
    return shape[-1]
