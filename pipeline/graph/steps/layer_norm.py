"""Layer norm: of a row less its mean, with a weight and a bias."""

from __future__ import annotations

from ...errors import DTypeError
from ..step import Step
from ..tensors import Tensor, VectorLike


class LayerNorms(Step):
    """norm(v) = (v - mean(v)) / sqrt(mean((v - mean(v))²) + eps) · weight + bias, over the last axis of [R, dim] (Ba et
    al. 2016). weight and bias are f32 [dim]."""

    def layer_norm(
        self, x: Tensor, weight: VectorLike, bias: VectorLike, eps: float = 1e-5, name: str = "layer_norm"
    ) -> Tensor:
        """norm(x): [R, dim]."""
        vectors = self._weight_and_bias(x, weight, bias, name)
        y = self.scratch(name, (self.rows, x.shape[1]))
        self.add(name, "layer_norm", (x, *vectors), (y,), self._constants(x, eps, write_sum=False))
        return y

    def residual_layer_norm(
        self,
        residual: Tensor,
        x: Tensor,
        weight: VectorLike,
        bias: VectorLike,
        eps: float = 1e-5,
        name: str = "residual_layer_norm",
    ) -> tuple[Tensor, Tensor]:
        """(residual + x, norm(residual + x)), both [R, dim]."""
        vectors = self._weight_and_bias(x, weight, bias, name)
        self.check_rows(residual, name, x.shape[1])
        total, y = (self.scratch(each, (self.rows, x.shape[1])) for each in (f"{name}.sum", name))
        reads, constants = (residual, x, *vectors), self._constants(x, eps, write_sum=True)
        self.add(name, "residual_layer_norm", reads, (total, y), constants)
        return total, y

    def _weight_and_bias(self, x: Tensor, weight: VectorLike, bias: VectorLike, name: str) -> tuple[Tensor, Tensor]:
        self.check_rows(x, name, x.shape[-1])
        a, b = (
            self.vector(value, self.named(f"{name}.{what}")) for value, what in ((weight, "weight"), (bias, "bias"))
        )
        for vector in (a, b):
            self.check_shape(vector, name, x.shape[1])
            if vector.dtype != "f32":
                raise DTypeError(f"{self.named(name)}: {vector.name} is {vector.dtype}, expected f32")
        return a, b

    def _constants(self, x: Tensor, eps: float, *, write_sum: bool) -> dict[str, int | float]:
        return {
            "rows": self.rows,
            "dim": x.shape[1],
            "eps": eps,
            "weight_offset": 0.0,
            "has_weight": 1,
            "write_sum": int(write_sum),
            "scalar_row": 0,
            "scalar_element": 0,
        }
