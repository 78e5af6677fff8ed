"""RMS norms, alone and with the residual stream."""

from __future__ import annotations

from ...errors import BuildError, DTypeError, ShapeError
from ..tensors import Tensor, overlap

_ACTIVATIONS = ("f32", "bf16")
_WEIGHTS = ("f32", "f16", "bf16")
_LARGEST = 3.4028234663852886e38  # of f32


class Norms:
    """norm(v) = v / sqrt(mean(v²) + eps) · (weight_offset + weight), over the last axis of [R, dim].

    Zhang & Sennrich 2019. Activations are f32 or bf16 and share one dtype; everything is computed in
    f32 and rounded where it is stored. `weight` [dim] f32, f16 or bf16, or None for none.
    `weight_offset` 1 is Gemma's (1 + weight). `scalar` is [1], [dim] or [R, dim], of weight's dtype.
    """

    def rms_norm(
        self, x: Tensor, weight=None, eps: float = 1e-6, name: str = "rms_norm", *, weight_offset: float = 0.0
    ) -> Tensor:
        """norm(x): [R, dim]."""
        self._activations(name, x)
        weight, kernel, constants = self._norm(x, weight, None, eps, weight_offset, name)
        y = self.scratch(name, x.shape, x.dtype)
        self.add(name, f"rms_norm_{kernel}", (x, weight), (y,), constants)
        return y

    def rms_norm3(
        self, x: Tensor, weights, names, eps: float = 1e-6, *, weight_offset: float = 0.0
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
            return tuple(
                self.rms_norm(x, weight, eps, name, weight_offset=weight_offset) for weight, name in zip(weights, names)
            )
        y = tuple(self.scratch(name, x.shape, x.dtype) for name in names)
        self.add("+".join(names), f"rms_norm3_{made[0][1]}", (x, *(weight for weight, *_ in made)), y, made[0][2])
        return y

    def fused_norm_add(
        self,
        residual: Tensor,
        x: Tensor,
        weight=None,
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
        weight,
        scalar,
        eps: float = 1e-6,
        name: str = "fused_norm_add_scalar",
        *,
        weight_offset: float = 0.0,
    ) -> Tensor:
        """(residual + norm(x)) · scalar: [R, dim]. The end of a layer of Gemma 4."""
        return self._norm_add(residual, x, weight, self._needed(scalar, name), eps, weight_offset, name)

    def fused_residual_norm(
        self,
        residual: Tensor,
        x: Tensor,
        weight=None,
        eps: float = 1e-6,
        name: str = "fused_residual_norm",
        *,
        weight_offset: float = 0.0,
        out_sum=True,
    ) -> tuple[Tensor | None, Tensor]:
        """(sum, normed) = (residual + x, norm(residual + x)), both [R, dim], in one dispatch.

        The norm is of the sum before it is rounded to the activations' dtype. `out_sum`: True makes a
        tensor for the sum, False leaves it out (None comes back); a tensor takes it, and that may be
        `residual` or `x` itself, but nothing that overlaps them otherwise.
        """
        return self._residual_norm(residual, x, weight, None, eps, weight_offset, out_sum, name)

    def fused_residual_norm_scalar(
        self,
        residual: Tensor,
        x: Tensor,
        weight,
        scalar,
        eps: float = 1e-6,
        name: str = "fused_residual_norm_scalar",
        *,
        weight_offset: float = 0.0,
        out_sum=True,
    ) -> tuple[Tensor | None, Tensor]:
        """The same with normed · scalar; the sum stays as it is."""
        scalar = self._needed(scalar, name)
        return self._residual_norm(residual, x, weight, scalar, eps, weight_offset, out_sum, name)

    residual_norm = fused_residual_norm  # its name in a model

    def _norm_add(self, residual, x, weight, scalar, eps, weight_offset, name):
        self._activations(name, residual, x)
        weight, kernel, constants = self._norm(x, weight, scalar, eps, weight_offset, name)
        y = self.scratch(name, x.shape, x.dtype)
        if scalar is None:
            self.add(name, f"fused_norm_add_{kernel}", (residual, x, weight), (y,), constants)
        else:
            scalar = self.vector(scalar, self.named(name + ".scalar"))
            self.add(name, f"fused_norm_add_scalar_{kernel}", (residual, x, weight, scalar), (y,), constants)
        return y

    def _residual_norm(self, residual, x, weight, scalar, eps, weight_offset, out_sum, name):
        self._activations(name, residual, x)
        weight, kernel, constants = self._norm(x, weight, scalar, eps, weight_offset, name)
        y = self.scratch(name, x.shape, x.dtype)
        reads = (residual, x, weight)
        if scalar is not None:
            reads = (*reads, self.vector(scalar, self.named(name + ".scalar")))
        total = self._sum(out_sum, reads, name)
        constants["write_sum"] = int(total is not None)
        family = "fused_residual_norm" if scalar is None else "fused_residual_norm_scalar"
        self.add(name, f"{family}_{kernel}", reads, (y if total is None else total, y), constants)
        return total, y

    def _sum(self, out_sum, reads, name: str) -> Tensor | None:
        """Where the sum goes. The kernel reads an element before it writes it, and no other thread
        reads it: the very memory of residual or x is right, a part of it is not."""
        residual, x, *rest = reads
        if out_sum is False:
            return None
        if out_sum is True:
            return self.scratch(name + ".sum", x.shape, x.dtype)
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

    def _activations(self, name: str, *tensors: Tensor) -> None:
        """All [rows, dim], of one dtype that the kernels take."""
        first = tensors[0]
        if first.dtype not in _ACTIVATIONS:
            raise DTypeError(f"{self.named(name)}: {first.name} is {first.dtype}, expected f32 or bf16")
        if len(first.shape) != 2 or not first.shape[1]:
            raise ShapeError(f"{self.named(name)}: {first.name} has shape {first.shape}, expected [rows, dim]")
        for tensor in tensors:
            self.check_rows(tensor, name, first.shape[1], dtype=first.dtype)

    def _norm(self, x: Tensor, weight, scalar, eps: float, weight_offset: float, name: str):
        """The weight tensor, the kernel's suffix and its constants."""
        where, (_, dim) = self.named(name), x.shape
        if not 0 <= eps <= _LARGEST:
            raise BuildError(f"{where}: eps = {eps} must be 0 or more, and finite in f32")
        if not -_LARGEST <= weight_offset <= _LARGEST:
            raise BuildError(f"{where}: weight_offset = {weight_offset} must be finite in f32")
        if weight is None and weight_offset:
            raise BuildError(f"{where}: weight_offset = {weight_offset} without a weight; give the weight, or 0")
        constants = {
            "rows": self.rows,
            "dim": dim,
            "eps": eps,
            "weight_offset": weight_offset,
            "has_weight": 1,
            "write_sum": 0,
            "scalar_row": 0,
            "scalar_element": 0,
        }
        stored = None
        if scalar is not None:
            stored = self._stored(scalar, "scalar", ((1,), (dim,), x.shape), name)
            constants["scalar_element"] = int(stored.shape != (1,))
            constants["scalar_row"] = dim if len(stored.shape) == 2 else 0
        if weight is None:
            constants.update(has_weight=0, weight_offset=1.0)
            weight = stored or x  # bound but not read
            return weight, f"{x.dtype}_{weight.dtype}", constants
        weight = self._stored(weight, "weight", ((dim,),), name)
        if stored and stored.dtype != weight.dtype:
            raise DTypeError(f"{where}: scalar is {stored.dtype}, weight {weight.dtype}; they must agree")
        return weight, f"{x.dtype}_{weight.dtype}", constants

    def _stored(self, value, what: str, shapes, name: str) -> Tensor:
        tensor = self.vector(value, self.named(f"{name}.{what}"))
        if tensor.dtype not in _WEIGHTS:
            raise DTypeError(f"{self.named(name)}: {what} is {tensor.dtype}, expected f32, f16 or bf16")
        if tensor.shape not in shapes:
            expected = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
            raise ShapeError(f"{self.named(name)}: {what} has shape {tensor.shape}, expected {expected}")
        return tensor

    def _needed(self, scalar, name: str):
        if scalar is None:
            raise BuildError(
                f"{self.named(name)}: scalar is None; give [1], [dim] or [rows, dim], "
                f"or use {name.removesuffix('_scalar')}"
            )
        return scalar
