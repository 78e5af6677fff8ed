"""The embedding and the projections."""

from __future__ import annotations

import math

from ..errors import ShapeError
from ..tensors import Tensor, Weight
from .limits import core


class Linear:
    def embed(self, tokens: Tensor, weight, name: str = "embed") -> Tensor:
        """Rows of `weight` [vocab, dim] picked by `tokens` [R] u32: [R, dim]."""
        self.check_rows(tokens, name, dtype="u32")
        weight = self._matrix(weight, name)
        vocab, dim = weight.shape
        y = self.scratch(name, (self.rows, dim))
        self.add(name, f"embed_{weight.format}", (*weight.parts, tokens), (y,),
                 {"rows": self.rows, "dim": dim, "vocab": vocab, "group_size": weight.group_size})
        return y

    def linear(self, x: Tensor, weight, name: str = "linear") -> Tensor:
        """x · weightᵀ for weight [outputs, inputs]: [R, outputs]."""
        weight = self._matrix(weight, name)
        outputs, inputs = weight.shape
        self.check_rows(x, name, inputs)
        y = self.scratch(name, (self.rows, outputs))
        sizes = core()
        self.add(name, f"linear_{weight.format}", (*weight.parts, x), (y,),
                 {"rows": self.rows, "inputs": inputs, "outputs": outputs, "group_size": weight.group_size},
                 columns=math.ceil(outputs / sizes.LINEAR_OUTPUTS), row_tile=sizes.LINEAR_ROWS)
        return y

    def linear3(self, x: Tensor, weights, names) -> tuple[Tensor, Tensor, Tensor]:
        """Three projections of one input, such as query, key and value: one dispatch where the
        weights share a format, else three."""
        matrices = [self._matrix(weight, name) for weight, name in zip(weights, names, strict=True)]
        if len({(matrix.format, matrix.group_size) for matrix in matrices}) > 1:
            return tuple(self.linear(x, matrix, name) for matrix, name in zip(matrices, names))
        outputs = [matrix.shape[0] for matrix in matrices]
        inputs = matrices[0].shape[1]
        for matrix, name in zip(matrices, names):
            self.check_shape(matrix, name, matrix.shape[0], inputs)
            self.check_rows(x, name, matrix.shape[1])
        y = tuple(self.scratch(name, (self.rows, n)) for name, n in zip(names, outputs))
        sizes = core()
        self.add("+".join(names), f"linear3_{matrices[0].format}",
                 (*(part for matrix in matrices for part in matrix.parts), x), y,
                 {"rows": self.rows, "inputs": inputs, "group_size": matrices[0].group_size,
                  **{f"outputs{i}": n for i, n in enumerate(outputs)}},
                 columns=sum(math.ceil(n / sizes.LINEAR_OUTPUTS) for n in outputs), row_tile=sizes.LINEAR_ROWS)
        return y

    def _matrix(self, value, name: str) -> Weight:
        weight = self.weight(value, name + ".weight")
        if len(weight.shape) != 2:
            raise ShapeError(f"{self.named(name)}: weight has shape {weight.shape}, expected [outputs, inputs]")
        return weight
