"""Random experts, their steps and what they are held to."""

import numpy as np

from pipeline.graph.tensors import Storage
from pipeline.graph.weights import Blocks, Quantized
from support import reference as ref
from support.kernels import DOT, activation_steps, activations, assert_close, matrix, stored, stored_activations


class Layer:
    """Random experts: gate and up [experts, hidden, dim], down [experts, dim, hidden]; with `bias`, the dtype of
    theirs, biases [experts, outputs]."""

    # How steep a gate's part can be, and how large up's against up itself.
    SLOPE = {"silu": 1.1, "gelu_tanh": 1.13, "swiglu_oai": 1.1, "relu": 1.0}

    def __init__(
        self,
        rng,
        experts,
        hidden,
        dim,
        up_format=("f32", 0),
        down_format=None,
        activation="silu",
        bias=None,
        gate_format=None,
    ):
        down_format = down_format or up_format
        self.gate, self.gate_values = matrix(rng, (experts, hidden, dim), *(gate_format or up_format))
        self.up, self.up_values = matrix(rng, (experts, hidden, dim), *up_format)
        self.down, self.down_values = matrix(rng, (experts, dim, hidden), *down_format)
        self.size, self.activation, self.biases = experts, activation, None
        shapes = ((experts, hidden), (experts, hidden), (experts, dim))
        self.bias_values = tuple(np.zeros(shape) for shape in shapes)
        if bias is not None:
            self.biases, self.bias_values = zip(*(stored(rng.normal(size=shape), bias) for shape in shapes))

    def steps(self, pipe, h, ids, weights, grouped=False):
        return pipe.experts(
            h,
            ids,
            weights,
            self.gate,
            self.up,
            self.down,
            grouped=grouped,
            activation=self.activation,
            biases=self.biases,
        )

    def inputs(self, rng, rows, top_k, scale=1.0):
        dim = self.gate_values.shape[2]
        ids = np.array([rng.permutation(self.size)[:top_k] for _ in range(rows)], np.uint32)
        weights = rng.random((rows, top_k)).astype(np.float32)
        return {"h": activations(rng, rows, dim) * np.float32(scale / dim**0.5), "ids": ids, "weights": weights}

    def check(self, device, y, h, ids, weights):
        expected = ref.experts(
            h, ids, weights, self.gate_values, self.up_values, self.down_values, self.activation, self.bias_values
        )
        # Each product's error follows its sum of absolute values; what gate becomes grows with SLOPE at most.
        bound, x = np.zeros_like(expected), np.abs(h.astype(np.float64))
        extra = 1.0 if self.activation == "swiglu_oai" else 0.0  # up + 1
        for row in range(len(h)):
            for expert, weight in zip(ids[row], weights[row]):
                if expert != ref.NONE:
                    gate, up, down = (np.abs(bias[expert]) for bias in self.bias_values)
                    gate, up = (
                        np.abs(self.gate_values[expert]) @ x[row] + gate,
                        np.abs(self.up_values[expert]) @ x[row] + up,
                    )
                    inner = np.abs(self.down_values[expert]) @ (gate * (up + extra)) + down
                    bound[row] += 2 * DOT * np.abs(weight) * inner
                    bound[row] += np.abs(weight) * self.rounded(device, h[row].astype(np.float64), expert)
        assert_close(y, expected, bound)

    def rounded(self, device, x, expert):
        """What 16-bit activations may cost of one expert's output."""
        gate, up, down = self.gate_values[expert], self.up_values[expert], self.down_values[expert]
        g, u = (weight @ x + bias[expert] for weight, bias in zip((gate, up), self.bias_values))
        inner, extra = ref.activate(g, u, self.activation), float(self.activation == "swiglu_oai")
        second = stored_activations(device, inner * (1 + DOT), self.down, down, "experts_down")
        if not any(activation_steps(device, "experts_gate_up", weight) for weight in (self.gate, self.up)):
            return second
        dg = stored_activations(device, x, self.gate, gate, "experts_gate_up") + DOT * np.abs(g)
        du = stored_activations(device, x, self.up, up, "experts_gate_up") + DOT * np.abs(u)
        slope = self.SLOPE[self.activation]
        acted = np.abs(ref.activate(g, np.ones_like(u) - extra, self.activation))
        return np.abs(down) @ (slope * dg * (np.abs(u) + extra + du) + du * acted) + second


def only_matrix(weight):
    """The first matrix of a stack."""
    if isinstance(weight, Quantized):
        parts = (None if part is None else _first(part) for part in (weight.weight, weight.scales, weight.biases))
        return Quantized(*parts, weight.bits, weight.group_size)
    return Blocks(_first(weight.data), weight.type) if isinstance(weight, Blocks) else _first(weight)


def _first(part):
    return part.part(0) if isinstance(part, Storage) else part[0]
