"""Inputs of single layers (Gemma 3n, Gemma 4 E2B and E4B): besides the residual stream each layer has a small vector of
its own for each row."""

from __future__ import annotations

from ...device.core import _core
from ...errors import BuildError, ShapeError
from ..tensors import Storage, Tensor, VectorLike
from ..weights import WeightLike
from .heads import Heads
from .latent import Latent
from .norms import Norms


class PerLayer(Latent, Heads, Norms):
    def layer_inputs(
        self, embedded: Tensor, projected: Tensor, norm: VectorLike, layers: int, eps: float, name: str = "layer_inputs"
    ) -> list[Tensor]:
        """embedded + norm(projected), both [R, layers · dim], where a norm covers the `dim` numbers of one layer
        (weights [dim]). Gives one tensor for each layer, as `gated_input` takes it. Two dispatches."""
        width = embedded.shape[-1]
        if layers < 1 or width % layers:
            raise ShapeError(
                f"{self.named(name)}: {embedded.name} has {width} numbers, which are not of {layers} layers"
            )
        normed = self.heads(projected, layers, norm, eps=eps, flat=True, name=name + ".norm")
        storage = Storage.empty((self.rows * layers, width // layers))
        total = Tensor(self.named(name), (self.rows, width), "f32", storage, "state")
        self.fused_residual_norm(embedded, normed, None, eps, name, out_sum=total)
        count = self.rows * layers
        return [self.state(self.named(f"{name}.{i}"), storage.rows(i, count)) for i in range(layers)]

    def gated_input(
        self,
        x: Tensor,
        gate: WeightLike,
        inputs: Tensor,
        projection: WeightLike,
        layers: int,
        activation: str = "gelu_tanh",
        name: str = "layer_input",
    ) -> Tensor:
        """projection · (act(gate · x) · inputs) for gate [dim, hidden], projection [hidden, dim] and the inputs of one
        layer from `layer_inputs`: [R, hidden]. Values of rows lie `layers` · dim apart, as their inputs do. Three
        dispatches."""
        if activation not in _core.ACTIVATIONS:
            raise BuildError(f"{self.named(name)}: activation = {activation!r}; choose {', '.join(_core.ACTIVATIONS)}")
        gates, outs = self.matrix(gate, name + ".gate"), self.matrix(projection, name + ".projection")
        dim, hidden = gates.shape
        self.check_rows(x, name, hidden)
        self.check_shape(outs, name, hidden, dim)
        if inputs.shape[1:] != (dim,) or inputs.shape[0] <= (self.rows - 1) * layers:
            expected = f"(rows that {self.rows} rows of {layers} layers take, {dim})"
            raise ShapeError(f"{self.named(name)}: {inputs.name} has shape {inputs.shape}, expected {expected}")
        stride = layers * dim
        gated = self.scratch(name + ".gate", (self.rows, stride))
        inner = self.scratch(name + ".inner", (self.rows, stride))
        y = self.scratch(name, (self.rows, hidden))
        self._per_head(
            name + ".gate", x, gates, gated, 1, inputs=hidden, outputs=dim, x_head=hidden, y_head=stride, head_rows=dim
        )
        self.add(
            name + ".activate",
            "experts_activate",
            (gated, inputs),
            (inner,),
            {
                "rows": self.rows,
                "experts": 1,
                "top_k": layers,
                "inputs": hidden,
                "outputs": dim,
                "group_size": 0,
                "step": 0,
                "dense": 1,
                "activation": _core.ACTIVATIONS[activation],
                "bias": _core.STORED[None],
                "expert_rows": dim,
                "row_step": 1,
            },
        )
        self._per_head(
            name + ".projection",
            inner,
            outs,
            y,
            1,
            inputs=dim,
            outputs=hidden,
            x_head=stride,
            y_head=hidden,
            head_rows=hidden,
        )
        return y
