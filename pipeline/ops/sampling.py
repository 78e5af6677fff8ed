"""Sampling: from logits [rows, vocab] float32 to one token per row.

`temperature` and every other setting is one value for all rows, or [rows]. A temperature of 0 or less
takes the largest logit, the lower index on a tie, with no random work. NaN is never drawn; where a
logit is +inf, only such are. Log-probabilities are those of softmax(logits), at temperature 1 and
without the filters. A row with no logit above -inf raises RunError. One row broadcast over many
(numpy.broadcast_to) is read once.
"""

from __future__ import annotations

import secrets
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..device.buffers import host_array
from ..device.core import _core
from ..device.device import Device
from ..errors import DTypeError, RunError, ShapeError, UsageError
from ..generation.settings import RANGES
from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import call


class Sampled(tuple[np.ndarray, np.ndarray]):
    """(tokens [rows] uint32, logprobs [rows] float32); `seeds` [rows] uint64 where noise was drawn."""

    seeds: np.ndarray | None

    def __new__(cls, tokens: np.ndarray, logprobs: np.ndarray, seeds: np.ndarray | None = None) -> Self:
        self = super().__new__(cls, (tokens, logprobs))
        self.seeds = seeds
        return self

    @property
    def tokens(self) -> np.ndarray:
        return self[0]

    @property
    def logprobs(self) -> np.ndarray:
        return self[1]


def softmax_sample(
    logits: ArrayLike, temperature: ArrayLike, uniform: ArrayLike, *, device: str | Device = "auto"
) -> Sampled:
    """(tokens, logprobs) by inverse CDF: the first token up to which the probabilities at `temperature`
    add up to more than `uniform`, a number in [0, 1). A token of probability 0 is never drawn."""
    op = "softmax_sample"
    row_logits, rows = _logits(op, logits)
    largest = np.nextafter(np.float32(1), np.float32(0))
    arrays = {
        "logits": row_logits,
        "temperature": _rows(op, "temperature", temperature, rows, np.float32),
        "uniform": np.minimum(_rows(op, "uniform", uniform, rows, np.float32), largest),
    }

    def build(pipe: Pipeline, tensors: call.Tensors) -> Tensor:
        return pipe.softmax_sample(tensors["logits"], tensors["temperature"], tensors["uniform"])

    return _sampled(op, call.run(op, arrays, build, rows=rows, device=device))


def gumbel_sample(
    logits: ArrayLike,
    temperature: ArrayLike,
    seed: ArrayLike | None = None,
    step: ArrayLike = 0,
    top_k: ArrayLike = 0,
    top_p: ArrayLike = 1.0,
    min_p: ArrayLike = 0.0,
    *,
    device: str | Device = "auto",
) -> Sampled:
    """(tokens, logprobs) by Gumbel-max: argmax(logits / temperature + noise), among what top_k, top_p and
    min_p leave, in that order (0, 1 and 0 are off; a top_k beyond the vocabulary keeps all of it).

    The noise depends on `seed` (up to 64 bits), `step` (up to 32) and the index in the vocabulary only:
    rows of one seed and step share it, so give each row its own seed for independent draws. Without a
    seed the system draws one for each row; the result's `seeds` says which.
    """
    op = "gumbel_sample"
    row_logits, rows = _logits(op, logits)
    seeds = _seeds(op, seed, rows)
    arrays = {
        "logits": row_logits,
        "temperature": _rows(op, "temperature", temperature, rows, np.float32),
        "seeds": seeds.astype("<u8").view(np.uint32).reshape(rows, 2),
        "steps": _rows(op, "step", step, rows, np.uint32),
    }
    filters = np.empty((rows, 3), np.uint32)
    filters[:, 0] = _rows(op, "top_k", top_k, rows, np.uint32)
    filters[:, 1] = _rows(op, "top_p", top_p, rows, np.float32).view(np.uint32)
    filters[:, 2] = _rows(op, "min_p", min_p, rows, np.float32).view(np.uint32)
    if (filters != np.array([0, 0x3F800000, 0], np.uint32)).any():
        arrays["filters"] = filters

    def build(pipe: Pipeline, tensors: call.Tensors) -> Tensor:
        return pipe.gumbel_sample(
            tensors["logits"], tensors["temperature"], tensors["seeds"], tensors["steps"], tensors.get("filters")
        )

    return _sampled(op, call.run(op, arrays, build, rows=rows, device=device), seeds)


def _logits(op: str, logits: ArrayLike) -> tuple[np.ndarray, int]:
    """The logits, one row of them where all rows are the same memory; and the number of rows."""
    array = call.as_array(op, "logits", logits, None)
    if array.dtype != np.float32:
        raise DTypeError(f"{op}: logits is {array.dtype}, expected float32")
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"{op}: logits has shape {array.shape}, expected [rows, vocab], of 1 or more each")
    shared = len(array) > 1 and array.strides[0] == 0
    return array[:1] if shared else array, len(array)


def _rows(op: str, name: str, value: ArrayLike, rows: int, dtype: DTypeLike) -> np.ndarray:
    """A setting as [rows] of the dtype. An error names it, its value and its range."""
    allowed = RANGES[name]
    array = host_array(value)
    if array.dtype.kind not in ("iu" if allowed.kind is int else "iuf"):
        if not (name == "seed" and array.dtype == object and all(isinstance(each, int) for each in array.flat)):
            raise DTypeError(f"{op}: {name} is {value!r:.60}, expected {allowed}")
    if array.shape not in ((), (rows,)):
        raise ShapeError(f"{op}: {name} has shape {array.shape}, expected one value or [rows] = ({rows},)")
    bad = ~np.asarray(allowed.holds(array), bool)
    if bad.any():
        where = f" in row {int(bad.argmax())}" if array.shape else ""
        raise UsageError(f"{op}: {name} = {array.flat[int(bad.argmax())]}{where} is impossible; give {allowed}")
    return np.ascontiguousarray(np.broadcast_to(array.astype(dtype), (rows,)))


def _seeds(op: str, seed: ArrayLike | None, rows: int) -> np.ndarray:
    if seed is None:
        return np.frombuffer(secrets.token_bytes(8 * rows), "<u8").astype(np.uint64)
    return _rows(op, "seed", seed, rows, np.uint64)


def _sampled(op: str, outputs: tuple[np.ndarray, ...], seeds: np.ndarray | None = None) -> Sampled:
    (result,) = outputs
    tokens, logprobs = result[:, 0].copy(), result[:, 1].copy().view(np.float32)
    lost = tokens == _core.NONE
    if lost.any():
        raise RunError(f"{op}: row {int(lost.argmax())} has nothing to choose from: no logit is above -inf")
    return Sampled(tokens, logprobs, seeds)
