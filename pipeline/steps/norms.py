"""RMS norms, alone and with the residual stream."""

from __future__ import annotations

from ..errors import BuildError, DTypeError, ShapeError
from ..tensors import Tensor


class Norms:
    def rms_norm(self, x: Tensor, weight=None, eps: float = 1e-6, name: str = "rms_norm") -> Tensor:
        """x / sqrt(mean(x²) + eps) · weight over the last axis: [R, dim]. Zhang & Sennrich 2019."""
        dim = self._dim(x, name)
        weight, suffix, constants = self._norm(x, weight, eps, dim, name)
        y = self.scratch(name, x.shape)
        self.add(name, f"rms_norm_{suffix}", (x, weight), (y,), constants)
        return y

    def residual_norm(self, residual: Tensor, x: Tensor, weight=None, eps: float = 1e-6,
                      name: str = "residual_norm") -> tuple[Tensor, Tensor]:
        """(sum, normed) = (residual + x, rms_norm(sum) · weight), both [R, dim], in one dispatch."""
        dim = self._dim(residual, name)
        self.check_rows(x, name, dim)
        weight, suffix, constants = self._norm(x, weight, eps, dim, name)
        total = self.scratch(name + ".sum", x.shape)
        y = self.scratch(name, x.shape)
        self.add(name, f"residual_norm_{suffix}", (residual, x, weight), (total, y), constants)
        return total, y

    def _dim(self, x: Tensor, name: str) -> int:
        if len(x.shape) != 2:
            raise ShapeError(f"{self.named(name)}: {x.name} has shape {x.shape}, expected [rows, dim]")
        self.check_rows(x, name, x.shape[1])
        return x.shape[1]

    def _norm(self, x: Tensor, weight, eps: float, dim: int, name: str):
        if not eps >= 0:
            raise BuildError(f"{self.named(name)}: eps = {eps} must be 0 or more")
        constants = {"rows": self.rows, "dim": dim, "eps": eps, "has_weight": int(weight is not None)}
        if weight is None:
            return x, "f32", constants   # bound but not read
        weight = self.vector(weight, self.named(name + ".weight"))
        self.check_shape(weight, name, dim)
        if weight.dtype == "u32":
            raise DTypeError(f"{self.named(name)}: weight is u32, expected f32, f16 or bf16")
        return weight, weight.dtype, constants
