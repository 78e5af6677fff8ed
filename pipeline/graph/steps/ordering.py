"""Activations in the order of a weight's columns."""

from __future__ import annotations

import math

from ..step import Step
from ..tensors import Tensor
from ..weights import Weight, as_stored

COLUMNS = 1024  # that a threadgroup moves


class Ordering(Step):
    def in_order(self, x: Tensor, weight: Weight, name: str) -> Tensor:
        """x [R, inputs] in the order in which `weight` has its columns; x itself where they stand as they are. Weights
        that share an order share the result."""
        if weight.order is None:
            return x
        key = x, as_stored(weight.order)
        if key not in self.ordered:
            self.check_rows(x, name, weight.shape[-1])
            y = self.scratch(name + ".in_order", x.shape)
            constants = {"rows": self.rows, "columns": x.shape[1], "tile": COLUMNS}
            columns = math.ceil(x.shape[1] / COLUMNS)
            self.add(name + ".in_order", "order_columns", (x, weight.order), (y,), constants, columns=columns)
            self.ordered[key] = y
        return self.ordered[key]
