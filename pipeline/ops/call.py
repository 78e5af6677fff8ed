"""What the functions share: arrays in, the cached chain of their shapes, arrays out."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict

import numpy as np

from ..device.device import open_device
from ..errors import BuildError, DTypeError, ShapeError
from ..graph.builder import Pipeline
from ..graph.formats import ITEM_SIZES, dtype_of

_KEPT_CHAINS = 64
_KEPT_BYTES = 256 << 20


def run(op: str, arrays: dict, build, options: tuple = (), *, rows=None, device="auto", bits=None):
    """Runs the chain of `build(pipe, tensors) → outputs` on the arrays; one output, or a tuple.

    arrays: the arguments by name, the first of them with rows first; None is left out. `rows`: how many,
    where the first array has one that is every row's. `options` is whatever else decides what `build`
    does. Scratch memory and buffers are kept for the next call.
    """
    given = {name: as_array(op, name, value, bits) for name, value in arrays.items() if value is not None}
    dtypes = {name: element(value, bits) for name, value in given.items()}
    first = next(iter(given))
    if given[first].ndim != 2 or 0 in given[first].shape:
        raise ShapeError(
            f"{op}: {first} has shape {given[first].shape}, expected two dimensions, rows first, of 1 or more each"
        )
    shapes = tuple((name, value.shape, dtypes[name]) for name, value in given.items())
    rows = len(given[first]) if rows is None else rows
    key = (op, device, rows, shapes, options)

    def make():
        pipe = Pipeline(_device(device), rows=rows, label=op)
        tensors = {name: pipe.input(name, shape, dtype) for name, shape, dtype in shapes}
        return pipe.build(build(pipe, tensors))

    chain, lock = _chains().get(key, make)
    with lock:
        return chain.run(**given)


def as_array(op: str, name: str, value, bits) -> np.ndarray:
    """The argument as an array of a dtype that kernels know. DTypeError names it."""
    if bits not in (None, "bf16"):
        raise BuildError(f'{op}: bits = {bits!r}; choose "bf16", or None for no arrays of bits')
    array = np.asarray(value)
    if array.dtype == np.uint16 and bits is None:
        raise DTypeError(f'{op}: {name} is uint16; say bits="bf16" if it holds the bits of bfloat16')
    try:
        element(array, bits)
    except DTypeError as error:
        raise DTypeError(f"{op}: {name}: {error}") from None
    return array


def element(array: np.ndarray, bits) -> str:
    """The dtype as kernels call it: "f32", "bf16" …"""
    return "bf16" if array.dtype == np.uint16 and bits == "bf16" else dtype_of(array)


def widened(array: np.ndarray) -> np.ndarray:
    """float32 of the same values; uint16 holds the bits of bfloat16."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


@functools.cache
def _opened(name: str):
    """One device for each name, and the default's own name is the default."""
    if name != "auto" and _opened("auto").name == name:
        return _opened("auto")
    return open_device(name)


def _device(device):
    return _opened(device) if isinstance(device, str) else device


@functools.cache
def _chains():
    return Chains()


class Chains:
    """The chains used last, each with the lock that its buffers need."""

    def __init__(self, count: int = _KEPT_CHAINS, nbytes: int = _KEPT_BYTES):
        self._count, self._nbytes = count, nbytes
        self._kept = OrderedDict()  # key → (chain, lock, bytes)
        self._lock = threading.Lock()

    def __len__(self):
        return len(self._kept)

    def get(self, key, make):
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


def _nbytes(plan) -> int:
    given = sum(int(np.prod(tensor.shape)) * ITEM_SIZES[tensor.dtype] for tensor in plan.inputs.values())
    return plan.layout.nbytes + given
