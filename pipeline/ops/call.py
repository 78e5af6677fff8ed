"""The base of the functions: arrays in, the cached chain of their shapes, arrays out."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..device.buffers import host_array
from ..device.device import Device, open_device
from ..errors import BuildError, DTypeError, ShapeError
from ..graph.builder import Pipeline
from ..graph.chain import Chain
from ..graph.formats import ITEM_SIZES, dtype_of
from ..graph.plan import Plan
from ..graph.tensors import Tensor

Tensors: TypeAlias = dict[str, Tensor]
Build: TypeAlias = Callable[[Pipeline, Tensors], "Tensor | tuple[Tensor, ...]"]

_KEPT_CHAINS = 64
_KEPT_BYTES = 256 << 20


def run(
    op: str,
    arrays: Mapping[str, ArrayLike | None],
    build: Build,
    options: tuple[Hashable, ...] = (),
    *,
    rows: int | None = None,
    device: str | Device = "auto",
    bits: str | None = None,
) -> tuple[np.ndarray, ...]:
    """Runs the chain of `build(pipe, tensors) → outputs` on the arrays; the outputs, also one, as a tuple.

    arrays: the arguments by name, the first of them with rows first; None is left out. `rows`: how many,
    where the first array has one that is every row's. `options` has whatever else `build` depends on.
    Scratch memory and buffers are kept for the next call.
    """
    given = {name: as_array(op, name, value, bits) for name, value in arrays.items() if value is not None}
    dtypes = {name: element(value, bits) for name, value in given.items()}
    first = next(iter(given))
    if given[first].ndim != 2 or 0 in given[first].shape:
        raise ShapeError(
            f"{op}: {first} has shape {given[first].shape}, expected two dimensions, rows first, of 1 or more each"
        )
    shapes = tuple((name, value.shape, dtypes[name]) for name, value in given.items())
    count = len(given[first]) if rows is None else rows
    key = (op, device, count, shapes, options)

    def make() -> Chain:
        pipe = Pipeline(_device(device), rows=count, label=op)
        tensors = {name: pipe.input(name, shape, dtype) for name, shape, dtype in shapes}
        return pipe.build(build(pipe, tensors))

    chain, lock = _chains().get(key, make)
    with lock:
        outputs = chain.run(rows=0, **given)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def as_array(op: str, name: str, value: ArrayLike, bits: str | None) -> np.ndarray:
    """The argument as an array of a dtype that kernels know. Raises DTypeError naming it."""
    if bits not in (None, "bf16"):
        raise BuildError(f'{op}: bits = {bits!r}; choose "bf16", or None for no arrays of bits')
    array = host_array(value)
    if array.dtype == np.uint16 and bits is None:
        raise DTypeError(f'{op}: {name} is uint16; say bits="bf16" if it holds the bits of bfloat16')
    try:
        element(array, bits)
    except DTypeError as error:
        raise DTypeError(f"{op}: {name}: {error}") from None
    return array


def element(array: np.ndarray, bits: str | None) -> str:
    """The dtype as kernels call it: "f32", "bf16" …"""
    return "bf16" if array.dtype == np.uint16 and bits == "bf16" else dtype_of(array)


def widened(array: np.ndarray) -> np.ndarray:
    """float32 of the same values; uint16 holds the bits of bfloat16."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


@functools.cache
def _opened(name: str) -> Device:
    """One device per name; the default's own name gives the default."""
    if name != "auto" and _opened("auto").name == name:
        return _opened("auto")
    return open_device(name)


def _device(device: str | Device) -> Device:
    return _opened(device) if isinstance(device, str) else device


@functools.cache
def _chains() -> Chains:
    return Chains()


class Chains:
    """The chains used last, each with the lock that its buffers need."""

    def __init__(self, count: int = _KEPT_CHAINS, nbytes: int = _KEPT_BYTES) -> None:
        self._count, self._nbytes = count, nbytes
        self._kept: OrderedDict[Hashable, tuple[Chain, threading.Lock, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Chain]) -> tuple[Chain, threading.Lock]:
        """(chain, lock) for the key, made by `make()` where it is not kept."""
        with self._lock:
            if key not in self._kept:
                chain = make()
                self._kept[key] = chain, threading.Lock(), _nbytes(chain.plan)
            self._kept.move_to_end(key)
            chain, lock, _ = self._kept[key]
            while len(self._kept) > self._count or sum(size for *_, size in self._kept.values()) > self._nbytes:
                self._kept.popitem(last=False)
            return chain, lock


def _nbytes(plan: Plan) -> int:
    given = sum(int(np.prod(tensor.shape)) * ITEM_SIZES[tensor.dtype] for tensor in plan.inputs.values())
    return plan.layout.nbytes + given
