"""RMS norms fused with the residual stream.

norm(v) = v / sqrt(mean(v²) + eps) · (weight_offset + weight), row by row. residual and input are
[rows, dim], float32 or bfloat16 both; weight [dim] (None: none) and scalar are float32, float16 or
bfloat16. `weight_offset=1` is Gemma's (1 + weight). Computed in float32, rounded where it is stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..device.buffers import host_array
from ..device.device import Device
from ..errors import BuildError, ShapeError
from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import call


def fused_norm_add(
    residual: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike | None = None,
    eps: float = 1e-6,
    *,
    weight_offset: float = 0.0,
    device: str | Device = "auto",
    bits: str | None = None,
) -> np.ndarray:
    """residual + norm(input): [rows, dim] in the dtype of residual."""
    return _norm_add("fused_norm_add", residual, input, weight, None, eps, weight_offset, device, bits)


def fused_norm_add_scalar(
    residual: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike | None,
    scalar: ArrayLike,
    eps: float = 1e-6,
    *,
    weight_offset: float = 0.0,
    device: str | Device = "auto",
    bits: str | None = None,
) -> np.ndarray:
    """(residual + norm(input)) · scalar: [rows, dim]. scalar: a number, [1], [dim] or [rows, dim]."""
    return _norm_add("fused_norm_add_scalar", residual, input, weight, scalar, eps, weight_offset, device, bits)


def fused_residual_norm(
    residual: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike | None = None,
    eps: float = 1e-6,
    *,
    weight_offset: float = 0.0,
    out_sum: bool | np.ndarray = True,
    device: str | Device = "auto",
    bits: str | None = None,
) -> tuple[np.ndarray | None, np.ndarray]:
    """(sum, normed) = (residual + input, norm(residual + input)), both [rows, dim].

    The norm is of the sum before it is rounded. `out_sum`: False leaves the sum out (None comes
    back); an array takes it and comes back, and may be `residual` itself: then in place, also on the
    device.
    """
    return _residual_norm(
        "fused_residual_norm", residual, input, weight, None, eps, weight_offset, out_sum, device, bits
    )


def fused_residual_norm_scalar(
    residual: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike | None,
    scalar: ArrayLike,
    eps: float = 1e-6,
    *,
    weight_offset: float = 0.0,
    out_sum: bool | np.ndarray = True,
    device: str | Device = "auto",
    bits: str | None = None,
) -> tuple[np.ndarray | None, np.ndarray]:
    """fused_residual_norm with normed · scalar. scalar: a number, [1], [dim] or [rows, dim]."""
    return _residual_norm(
        "fused_residual_norm_scalar", residual, input, weight, scalar, eps, weight_offset, out_sum, device, bits
    )


def _norm_add(
    op: str,
    residual: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike | None,
    scalar: ArrayLike | None,
    eps: float,
    weight_offset: float,
    device: str | Device,
    bits: str | None,
) -> np.ndarray:
    arrays = _arrays(op, residual, input, weight, scalar, bits)
    settings = _settings(op, eps, weight_offset)

    def build(pipe: Pipeline, tensors: call.Tensors) -> Tensor:
        built: Tensor = getattr(pipe, op)(*_tensors(op, tensors), **settings)
        return built

    (result,) = call.run(op, arrays, build, tuple(settings.values()), device=device, bits=bits)
    return result.view(host_array(residual).dtype)


def _residual_norm(
    op: str,
    residual: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike | None,
    scalar: ArrayLike | None,
    eps: float,
    weight_offset: float,
    out_sum: bool | np.ndarray,
    device: str | Device,
    bits: str | None,
) -> tuple[np.ndarray | None, np.ndarray]:
    arrays = _arrays(op, residual, input, weight, scalar, bits)
    settings = _settings(op, eps, weight_offset)
    wanted, in_place = out_sum is not False, out_sum is residual
    into = None if isinstance(out_sum, bool) else _target(op, out_sum, arrays["residual"])

    def build(pipe: Pipeline, tensors: call.Tensors) -> tuple[Tensor, ...]:
        where = tensors["residual"] if in_place else wanted
        total, normed = getattr(pipe, op)(*_tensors(op, tensors), **settings, out_sum=where)
        return (total, normed) if wanted else (normed,)

    *sums, normed = call.run(op, arrays, build, (*settings.values(), wanted, in_place), device=device, bits=bits)
    dtype = arrays["residual"].dtype
    total = sums[0].view(dtype) if sums else None
    if into is not None and total is not None:
        np.copyto(into, total)
        total = into
    return total, normed.view(dtype)


def _settings(op: str, eps: float, weight_offset: float) -> dict[str, Any]:
    """The keyword arguments of the step."""
    return {"eps": _number(op, "eps", eps), "weight_offset": _number(op, "weight_offset", weight_offset), "name": op}


def _arrays(
    op: str, residual: ArrayLike, input: ArrayLike, weight: ArrayLike | None, scalar: ArrayLike | None, bits: str | None
) -> dict[str, np.ndarray]:
    """The arguments by name. Where weight and scalar differ in dtype, both are widened to float32."""
    arrays = {
        "residual": call.as_array(op, "residual", residual, bits),
        "input": call.as_array(op, "input", input, bits),
    }
    if weight is not None:
        arrays["weight"] = call.as_array(op, "weight", weight, bits)
    if op.endswith("_scalar"):
        arrays["scalar"] = _scalar(op, scalar, bits)
        if weight is not None and arrays["weight"].dtype != arrays["scalar"].dtype:
            call.element(arrays["weight"], bits)
            arrays.update({name: call.widened(arrays[name]) for name in ("weight", "scalar")})
    return arrays


def _scalar(op: str, scalar: ArrayLike | None, bits: str | None) -> np.ndarray:
    if scalar is None:
        raise BuildError(f"{op}: scalar is None; give a number, [1], [dim] or [rows, dim]")
    if isinstance(scalar, (int, float)):
        scalar = np.float32(scalar)
    array = call.as_array(op, "scalar", scalar, bits)
    return array.reshape(1) if array.ndim == 0 else array


def _tensors(op: str, tensors: call.Tensors) -> list[Tensor | None]:
    """The arguments as the step takes them: residual, input, weight, and the scalar where there is one."""
    names = ("residual", "input", "weight", "scalar") if op.endswith("_scalar") else ("residual", "input", "weight")
    return [tensors.get(name) for name in names]


def _target(op: str, out_sum: np.ndarray, residual: np.ndarray) -> np.ndarray:
    if not isinstance(out_sum, np.ndarray):
        raise BuildError(f"{op}: out_sum = {out_sum!r}; give True, False or an array")
    if out_sum.shape != residual.shape or out_sum.dtype != residual.dtype:
        raise ShapeError(
            f"{op}: out_sum is {out_sum.dtype} {out_sum.shape}, expected {residual.dtype} {residual.shape}"
        )
    if not out_sum.flags.writeable:
        raise BuildError(f"{op}: out_sum is read-only; give an array that can be written")
    return out_sum


def _number(op: str, name: str, value: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BuildError(f"{op}: {name} = {value!r} must be a number") from None
