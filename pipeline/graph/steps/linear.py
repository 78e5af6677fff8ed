"""The embedding and the projections."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...device.core import _core
from ...errors import BuildError
from ..kernel_names import kernel_name
from ..tensors import Tensor, VectorLike
from ..weights import WeightLike
from .ordering import Ordering
from .staging import Staging


class Linear(Ordering, Staging):
    def embed(self, tokens: Tensor, weight: WeightLike, scale: float = 1.0, name: str = "embed") -> Tensor:
        """Rows of `weight` [vocab, dim] picked by `tokens` [R] u32, times `scale`: [R, dim]."""
        self.check_rows(tokens, name, dtype="u32")
        table = self.matrix(weight, name)
        vocab, dim = table.shape
        y = self.scratch(name, (self.rows, dim))
        self.add(
            name,
            kernel_name("embed", table.format),
            (*table.parts, tokens),
            (y,),
            {
                "rows": self.rows,
                "dim": dim,
                "vocab": vocab,
                "group_size": table.group_size,
                "scale": self.finite(scale, "scale", name),
            },
        )
        return y

    def linear(
        self,
        x: Tensor,
        weight: WeightLike,
        bias: VectorLike | None = None,
        name: str = "linear",
        *,
        scale: float = 1.0,
        softcap: float = 0.0,
        gate: Tensor | None = None,
        add: Tensor | None = None,
    ) -> Tensor:
        """scale · (x · weightᵀ + bias) for weight [outputs, inputs], bias [outputs]: [R, outputs].

        `softcap` c > 0 makes c · tanh(v / c) of each v. `gate` [R, 1] multiplies a row by σ(gate), before
        either. `add` [R, outputs]: the result is added to it.
        """
        matrix = self.matrix(weight, name, ordered=True)
        outputs, inputs = matrix.shape
        self.check_rows(x, name, inputs)
        x = self.in_order(x, matrix, name)
        if gate is not None:
            self.check_rows(gate, name, 1)
        if add is not None:
            self.check_rows(add, name, outputs)
        if self.finite(softcap, "softcap", name) < 0:
            raise BuildError(f"{self.named(name)}: softcap = {softcap} must be above 0, or 0 for none")
        stored_bias, stored = self.bias(bias, name, (outputs,), x)
        y = self.scratch(name, (self.rows, outputs))
        staged = self.staged(x, matrix, name)
        self.add(
            name,
            kernel_name("linear" if staged is None else "staged_linear", matrix.format),
            (*matrix.parts, *(staged or (x,)), stored_bias, x if add is None else add, x if gate is None else gate),
            (y,),
            {
                "rows": self.rows,
                "inputs": inputs,
                "outputs": outputs,
                "group_size": matrix.group_size,
                "bias": stored,
                "has_add": int(add is not None),
                "has_gate": int(gate is not None),
                "scale": self.finite(scale, "scale", name),
                "softcap": softcap,
            },
            columns=math.ceil(outputs / _core.LINEAR_OUTPUTS),
            row_tile=_core.LINEAR_ROWS,
        )
        return y

    def linear3(
        self,
        x: Tensor,
        weights: Sequence[WeightLike],
        names: Sequence[str],
        biases: Sequence[VectorLike | None] = (None, None, None),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Three projections of one input, such as query, key and value: one dispatch where the
        weights share a format, else three."""
        matrices = [self.matrix(weight, name, ordered=True) for weight, name in zip(weights, names, strict=True)]
        kinds = {(m.format, m.group_size, None if m.order is None else m.order.storage) for m in matrices}
        if len(kinds) > 1:
            q, k, v = (self.linear(x, *each) for each in zip(matrices, biases, names, strict=True))
            return q, k, v
        outputs = [matrix.shape[0] for matrix in matrices]
        inputs = matrices[0].shape[1]
        for matrix, name in zip(matrices, names):
            self.check_shape(matrix, name, matrix.shape[0], inputs)
            self.check_rows(x, name, matrix.shape[1])
        x = self.in_order(x, matrices[0], names[0])
        stored = [self.bias(bias, name, (n,), x) for bias, name, n in zip(biases, names, outputs, strict=True)]
        q, k, v = (self.scratch(name, (self.rows, n)) for name, n in zip(names, outputs))
        staged = self.staged(x, matrices[0], names[0])
        self.add(
            "+".join(names),
            kernel_name("linear3" if staged is None else "staged_linear3", matrices[0].format),
            (*(part for each in matrices for part in each.parts), *(staged or (x,)), *(bias for bias, _ in stored)),
            (q, k, v),
            {
                "rows": self.rows,
                "inputs": inputs,
                "group_size": matrices[0].group_size,
                **{f"outputs{i}": n for i, n in enumerate(outputs)},
                **{f"bias{i}": kind for i, (_, kind) in enumerate(stored)},
            },
            columns=sum(math.ceil(n / _core.LINEAR_OUTPUTS) for n in outputs),
            row_tile=_core.LINEAR_ROWS,
        )
        return q, k, v
