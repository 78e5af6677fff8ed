"""The embedding and the projections."""

from __future__ import annotations

import math

from ...device.core import _core
from ...errors import BuildError, DTypeError, ShapeError
from ..tensors import Tensor
from ..weights import Weight


class Linear:
    def embed(self, tokens: Tensor, weight, scale: float = 1.0, name: str = "embed") -> Tensor:
        """Rows of `weight` [vocab, dim] picked by `tokens` [R] u32, times `scale`: [R, dim]."""
        self.check_rows(tokens, name, dtype="u32")
        weight = self._matrix(weight, name)
        vocab, dim = weight.shape
        y = self.scratch(name, (self.rows, dim))
        self.add(
            name,
            f"embed_{weight.format}",
            (*weight.parts, tokens),
            (y,),
            {
                "rows": self.rows,
                "dim": dim,
                "vocab": vocab,
                "group_size": weight.group_size,
                "scale": self._finite(scale, "scale", name),
            },
        )
        return y

    def linear(
        self,
        x: Tensor,
        weight,
        bias=None,
        name: str = "linear",
        *,
        scale: float = 1.0,
        softcap: float = 0.0,
        gate: Tensor | None = None,
        add: Tensor | None = None,
    ) -> Tensor:
        """scale · (x · weightᵀ + bias) for weight [outputs, inputs], bias [outputs]: [R, outputs].

        `softcap` c > 0 makes c · tanh(v / c) of each v. `gate` [R, 1] multiplies a row by σ(gate), before
        either. `add` [R, outputs] is what all that is added to.
        """
        weight = self._matrix(weight, name)
        outputs, inputs = weight.shape
        self.check_rows(x, name, inputs)
        if gate is not None:
            self.check_rows(gate, name, 1)
        if add is not None:
            self.check_rows(add, name, outputs)
        if self._finite(softcap, "softcap", name) < 0:
            raise BuildError(f"{self.named(name)}: softcap = {softcap} must be above 0, or 0 for none")
        bias, stored = self._bias(bias, name, (outputs,), x)
        y = self.scratch(name, (self.rows, outputs))
        self.add(
            name,
            f"linear_{weight.format}",
            (*weight.parts, x, bias, x if add is None else add, x if gate is None else gate),
            (y,),
            {
                "rows": self.rows,
                "inputs": inputs,
                "outputs": outputs,
                "group_size": weight.group_size,
                "bias": stored,
                "has_add": int(add is not None),
                "has_gate": int(gate is not None),
                "scale": self._finite(scale, "scale", name),
                "softcap": softcap,
            },
            columns=math.ceil(outputs / _core.LINEAR_OUTPUTS),
            row_tile=_core.LINEAR_ROWS,
        )
        return y

    def linear3(self, x: Tensor, weights, names, biases=(None, None, None)) -> tuple[Tensor, Tensor, Tensor]:
        """Three projections of one input, such as query, key and value: one dispatch where the
        weights share a format, else three."""
        matrices = [self._matrix(weight, name) for weight, name in zip(weights, names, strict=True)]
        if len({(matrix.format, matrix.group_size) for matrix in matrices}) > 1:
            return tuple(self.linear(x, *each) for each in zip(matrices, biases, names, strict=True))
        outputs = [matrix.shape[0] for matrix in matrices]
        inputs = matrices[0].shape[1]
        for matrix, name in zip(matrices, names):
            self.check_shape(matrix, name, matrix.shape[0], inputs)
            self.check_rows(x, name, matrix.shape[1])
        biases, stored = zip(
            *(self._bias(bias, name, (n,), x) for bias, name, n in zip(biases, names, outputs, strict=True))
        )
        y = tuple(self.scratch(name, (self.rows, n)) for name, n in zip(names, outputs))
        self.add(
            "+".join(names),
            f"linear3_{matrices[0].format}",
            (*(part for matrix in matrices for part in matrix.parts), x, *biases),
            y,
            {
                "rows": self.rows,
                "inputs": inputs,
                "group_size": matrices[0].group_size,
                **{f"outputs{i}": n for i, n in enumerate(outputs)},
                **{f"bias{i}": kind for i, kind in enumerate(stored)},
            },
            columns=sum(math.ceil(n / _core.LINEAR_OUTPUTS) for n in outputs),
            row_tile=_core.LINEAR_ROWS,
        )
        return y

    def _matrix(self, value, name: str) -> Weight:
        weight = self.weight(value, name + ".weight")
        if len(weight.shape) != 2:
            raise ShapeError(f"{self.named(name)}: weight has shape {weight.shape}, expected [outputs, inputs]")
        if weight.row_step != 1:
            raise BuildError(
                f"{self.named(name)}: the rows of {weight.name} lie {weight.row_step} apart; only experts' may"
            )
        return weight

    def _bias(self, value, name: str, shape, instead: Tensor) -> tuple[Tensor, int]:
        """A bias and how it is stored; without one, `instead`, which is bound but not read."""
        if value is None:
            return instead, _core.STORED[None]
        bias = self.vector(value, self.named(name + ".bias"))
        if bias.dtype not in _core.STORED:
            raise DTypeError(f"{self.named(name)}: the bias is {bias.dtype}, expected f32, f16 or bf16")
        if bias.shape != shape:
            raise ShapeError(f"{self.named(name)}: the bias has shape {bias.shape}, expected {shape}")
        return bias, _core.STORED[bias.dtype]

    def _finite(self, value, what: str, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 3.4e38:
            raise BuildError(f"{self.named(name)}: {what} = {value!r} must be a number, finite in f32")
        return value
