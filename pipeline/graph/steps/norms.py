"""RMS norms, alone and with the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from ...errors import BuildError, DTypeError, ShapeError
from ..formats import LARGEST_F32
from ..step import Step
from ..tensors import Tensor, VectorLike, overlap

_ACTIVATIONS = ("f32", "bf16")


class Norms(Step):
    """norm(v) = v / sqrt(mean(v²) + eps) · (weight_offset + weight), over the last axis of [R, dim].

    Zhang & Sennrich 2019. Activations are f32 or bf16 and share one dtype; everything is computed in
    f32 and rounded where it is stored. `weight` [dim] f32, f16 or bf16, or None for none.
    `weight_offset` 1 is Gemma's (1 + weight). `scalar` is [1], [dim] or [R, dim], of weight's dtype.
    """

    def rms_norm(
        self,
        x: Tensor,
        weight: VectorLike | None = None,
        eps: float = 1e-6,
        name: str = "rms_norm",
        *,
        weight_offset: float = 0.0,
    ) -> Tensor:
        """norm(x): [R, dim]."""
        self._activations(name, x)
        stored, kernel, constants = self._norm(x, weight, None, eps, weight_offset, name)
        y = self._like(x, name)
        self.add(name, f"rms_norm_{kernel}", (x, stored), (y,), constants)
        return y

    def rms_norm3(
        self,
        x: Tensor,
        weights: Sequence[VectorLike],
        names: Sequence[str],
        eps: float = 1e-6,
        *,
        weight_offset: float = 0.0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """norm(x) times three weights [dim], for branches that each have their own: one dispatch where the weights
        share a dtype, else three."""
        self._activations(names[0], x)
        made = [
            self._norm(x, weight, None, eps, weight_offset, name) for weight, name in zip(weights, names, strict=True)
        ]
        if any(not constants["has_weight"] for *_, constants in made):
            raise BuildError(f"{self.named(names[0])}: one of three weights is None; give three, or use rms_norm")
        if len({kernel for _, kernel, _ in made}) > 1:
            a, b, c = (
                self.rms_norm(x, weight, eps, name, weight_offset=weight_offset) for weight, name in zip(weights, names)
            )
            return a, b, c
        a, b, c = (self._like(x, name) for name in names)
        stored = [weight for weight, *_ in made]
        self.add("+".join(names), f"rms_norm3_{made[0][1]}", (x, *stored), (a, b, c), made[0][2])
        return a, b, c

    def fused_norm_add(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None = None,
        eps: float = 1e-6,
        name: str = "fused_norm_add",
        *,
        weight_offset: float = 0.0,
    ) -> Tensor:
        """residual + norm(x): [R, dim]."""
        return self._norm_add(residual, x, weight, None, eps, weight_offset, name)

    def fused_norm_add_scalar(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None,
        scalar: VectorLike,
        eps: float = 1e-6,
        name: str = "fused_norm_add_scalar",
        *,
        weight_offset: float = 0.0,
    ) -> Tensor:
        """(residual + norm(x)) · scalar: [R, dim]. The end of a layer of Gemma 4."""
        return self._norm_add(residual, x, weight, self._needed(scalar, name), eps, weight_offset, name)

    @overload
    def fused_residual_norm(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None = None,
        eps: float = 1e-6,
        name: str = "fused_residual_norm",
        *,
        weight_offset: float = 0.0,
        out_sum: Literal[False],
    ) -> tuple[None, Tensor]: ...

    @overload
    def fused_residual_norm(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None = None,
        eps: float = 1e-6,
        name: str = "fused_residual_norm",
        *,
        weight_offset: float = 0.0,
        out_sum: Literal[True] | Tensor = True,
    ) -> tuple[Tensor, Tensor]: ...

    def fused_residual_norm(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None = None,
        eps: float = 1e-6,
        name: str = "fused_residual_norm",
        *,
        weight_offset: float = 0.0,
        out_sum: bool | Tensor = True,
    ) -> tuple[Tensor | None, Tensor]:
        """(sum, normed) = (residual + x, norm(residual + x)), both [R, dim], in one dispatch.

        The norm is of the sum before it is rounded to the activations' dtype. `out_sum`: True makes a
        tensor for the sum, False leaves it out (None comes back); a tensor takes it, and that may be
        `residual` or `x` itself, but nothing that overlaps them otherwise.
        """
        return self._residual_norm(residual, x, weight, None, eps, weight_offset, out_sum, name)

    @overload
    def fused_residual_norm_scalar(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None,
        scalar: VectorLike,
        eps: float = 1e-6,
        name: str = "fused_residual_norm_scalar",
        *,
        weight_offset: float = 0.0,
        out_sum: Literal[False],
    ) -> tuple[None, Tensor]: ...

    @overload
    def fused_residual_norm_scalar(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None,
        scalar: VectorLike,
        eps: float = 1e-6,
        name: str = "fused_residual_norm_scalar",
        *,
        weight_offset: float = 0.0,
        out_sum: Literal[True] | Tensor = True,
    ) -> tuple[Tensor, Tensor]: ...

    def fused_residual_norm_scalar(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None,
        scalar: VectorLike,
        eps: float = 1e-6,
        name: str = "fused_residual_norm_scalar",
        *,
        weight_offset: float = 0.0,
        out_sum: bool | Tensor = True,
    ) -> tuple[Tensor | None, Tensor]:
        """fused_residual_norm with normed · scalar; the sum stays as it is."""
        scalar = self._needed(scalar, name)
        return self._residual_norm(residual, x, weight, scalar, eps, weight_offset, out_sum, name)

    def _norm_add(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None,
        scalar: VectorLike | None,
        eps: float,
        weight_offset: float,
        name: str,
    ) -> Tensor:
        self._activations(name, residual, x)
        stored, kernel, constants = self._norm(x, weight, scalar, eps, weight_offset, name)
        y = self._like(x, name)
        reads = [residual, x, stored]
        if scalar is not None:
            reads.append(self.vector(scalar, self.named(name + ".scalar")))
        family = "fused_norm_add" if scalar is None else "fused_norm_add_scalar"
        self.add(name, f"{family}_{kernel}", reads, (y,), constants)
        return y

    def _residual_norm(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike | None,
        scalar: VectorLike | None,
        eps: float,
        weight_offset: float,
        out_sum: bool | Tensor,
        name: str,
    ) -> tuple[Tensor | None, Tensor]:
        self._activations(name, residual, x)
        stored, kernel, constants = self._norm(x, weight, scalar, eps, weight_offset, name)
        y = self._like(x, name)
        reads = [residual, x, stored]
        if scalar is not None:
            reads.append(self.vector(scalar, self.named(name + ".scalar")))
        total = self._sum(out_sum, reads, name)
        constants["write_sum"] = int(total is not None)
        family = "fused_residual_norm" if scalar is None else "fused_residual_norm_scalar"
        self.add(name, f"{family}_{kernel}", reads, (y if total is None else total, y), constants)
        return total, y

    def _sum(self, out_sum: bool | Tensor, reads: Sequence[Tensor], name: str) -> Tensor | None:
        """The tensor that takes the sum. The kernel reads an element before it writes it, and no other thread
        reads it: the very memory of residual or x is right, a part of it is not."""
        residual, x, *_ = reads
        if isinstance(out_sum, bool):
            return self._like(x, name + ".sum") if out_sum else None
        self._activations(name, residual, out_sum)
        if out_sum.role == "weight":
            raise BuildError(f"{self.named(name)}: out_sum = {out_sum.name} is a weight; give a tensor that may change")
        for other in reads:
            same = other in (residual, x) and overlap(out_sum, other) == "same"
            if not same and overlap(out_sum, other):
                raise BuildError(
                    f"{self.named(name)}: out_sum = {out_sum.name} overlaps {other.name}; "
                    f"give all of {residual.name} or {x.name}, or memory apart"
                )
        return out_sum

    def _like(self, x: Tensor, name: str) -> Tensor:
        """A value of as many numbers per row as x has."""
        return self.scratch(name, (self.rows, *x.shape[1:]), x.dtype)

    def _activations(self, name: str, *tensors: Tensor) -> None:
        """Demands that all are [rows, dim], of one dtype that the kernels take."""
        first = tensors[0]
        if first.dtype not in _ACTIVATIONS:
            raise DTypeError(f"{self.named(name)}: {first.name} is {first.dtype}, expected f32 or bf16")
        if len(first.shape) != 2 or not first.shape[1]:
            raise ShapeError(f"{self.named(name)}: {first.name} has shape {first.shape}, expected [rows, dim]")
        for tensor in tensors:
            self.check_rows(tensor, name, first.shape[1], dtype=first.dtype)

    def _norm(
        self,
        x: Tensor,
        weight: VectorLike | None,
        scalar: VectorLike | None,
        eps: float,
        weight_offset: float,
        name: str,
    ) -> tuple[Tensor, str, dict[str, float]]:
        """The weight tensor, the kernel's suffix and its constants."""
        where, (_, dim) = self.named(name), x.shape
        if not 0 <= eps <= LARGEST_F32:
            raise BuildError(f"{where}: eps = {eps} must be 0 or more, and finite in f32")
        if not -LARGEST_F32 <= weight_offset <= LARGEST_F32:
            raise BuildError(f"{where}: weight_offset = {weight_offset} must be finite in f32")
        if weight is None and weight_offset:
            raise BuildError(f"{where}: weight_offset = {weight_offset} without a weight; give the weight, or 0")
        constants: dict[str, float] = {
            "rows": self.rows,
            "dim": dim,
            "eps": eps,
            "weight_offset": weight_offset,
            "has_weight": 1,
            "write_sum": 0,
            "scalar_row": 0,
            "scalar_element": 0,
        }
        factor = None
        if scalar is not None:
            factor = self.float_vector(scalar, "scalar", f"{name}.scalar", ((1,), (dim,), x.shape), name)
            constants["scalar_element"] = int(factor.shape != (1,))
            constants["scalar_row"] = dim if len(factor.shape) == 2 else 0
        if weight is None:
            constants.update(has_weight=0, weight_offset=1.0)
            unread = factor or x  # bound but not read
            return unread, f"{x.dtype}_{unread.dtype}", constants
        stored = self.float_vector(weight, "weight", f"{name}.weight", ((dim,),), name)
        if factor and factor.dtype != stored.dtype:
            raise DTypeError(f"{where}: scalar is {factor.dtype}, weight {stored.dtype}; they must agree")
        return stored, f"{x.dtype}_{stored.dtype}", constants

    def _needed(self, scalar: VectorLike | None, name: str) -> VectorLike:
        if scalar is None:
            raise BuildError(
                f"{self.named(name)}: scalar is None; give [1], [dim] or [rows, dim], "
                f"or use {name.removesuffix('_scalar')}"
            )
        return scalar
