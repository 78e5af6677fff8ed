"""The steps of a forward pass: each checks its shapes, adds a dispatch or two, returns its tensors.

Shapes in docstrings are [rows, ...]; R is the pipeline's number of rows. Activations are f32.
"""

from __future__ import annotations

import math

from .errors import BuildError, DTypeError, ShapeError
from .tensors import Storage, Tensor, Weight


def _core():
    from . import _core

    return _core


class Steps:
    """Mixed into :class:`pipeline.builder.Pipeline`."""

    def embed(self, tokens: Tensor, weight, name: str = "embed") -> Tensor:
        """Rows of `weight` [vocab, dim] picked by `tokens` [R] u32: [R, dim]."""
        self.check_rows(tokens, name, dtype="u32")
        weight = self._matrix(weight, name)
        vocab, dim = weight.shape
        y = self.scratch(name, (self.rows, dim))
        self.add(name, f"embed_{weight.format}", (*weight.parts, tokens), (y,),
                 {"rows": self.rows, "dim": dim, "vocab": vocab, "group_size": weight.group_size})
        return y

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

    def linear(self, x: Tensor, weight, name: str = "linear") -> Tensor:
        """x · weightᵀ for weight [outputs, inputs]: [R, outputs]."""
        weight = self._matrix(weight, name)
        outputs, inputs = weight.shape
        self.check_rows(x, name, inputs)
        y = self.scratch(name, (self.rows, outputs))
        core = _core()
        self.add(name, f"linear_{weight.format}", (*weight.parts, x), (y,),
                 {"rows": self.rows, "inputs": inputs, "outputs": outputs, "group_size": weight.group_size},
                 columns=math.ceil(outputs / core.LINEAR_OUTPUTS), row_tile=core.LINEAR_ROWS)
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
        core = _core()
        self.add("+".join(names), f"linear3_{matrices[0].format}",
                 (*(part for matrix in matrices for part in matrix.parts), x), y,
                 {"rows": self.rows, "inputs": inputs, "group_size": matrices[0].group_size,
                  **{f"outputs{i}": n for i, n in enumerate(outputs)}},
                 columns=sum(math.ceil(n / core.LINEAR_OUTPUTS) for n in outputs), row_tile=core.LINEAR_ROWS)
        return y

    def rope_table(self, positions: Tensor, inv_freq, name: str = "rope_table") -> Tensor:
        """cos and sin of positions [R] u32 · inv_freq [half_dim]: [R, 2, half_dim], once a run."""
        self.check_rows(positions, name, dtype="u32")
        inv_freq = self.vector(inv_freq, name + ".inv_freq")
        (half,) = inv_freq.shape
        table = self.scratch(name, (self.rows, 2, half))
        self.add(name, "rope_table", (positions, inv_freq), (table,), {"rows": self.rows, "half_dim": half})
        return table

    def heads_to_cache(self, q: Tensor, k: Tensor, v: Tensor, q_norm, k_norm, table: Tensor, slots: Tensor,
                       positions: Tensor, k_cache: Tensor, v_cache: Tensor, eps: float = 1e-6,
                       name: str = "heads_to_cache") -> Tensor:
        """Queries [R, heads, head_dim], normed per head and turned to their positions; keys the same and
        values, into the caches [slots, kv_heads, context, head_dim] at each row's slot and position."""
        _, kv_heads, context, dim = k_cache.shape
        heads = q.shape[1] // dim
        q_norm = self.vector(q_norm, self.named(name + ".q_norm"))
        k_norm = self.vector(k_norm, self.named(name + ".k_norm"))
        self.check_rows(q, name, heads * dim)
        self.check_rows(k, name, kv_heads * dim)
        self.check_rows(v, name, kv_heads * dim)
        self.check_shape(q_norm, name, dim)
        self.check_shape(k_norm, name, dim)
        self.check_rows(table, name, 2, dim // 2)
        self.check_shape(v_cache, name, *k_cache.shape)
        if heads % kv_heads:
            raise ShapeError(f"{self.named(name)}: {heads} heads do not divide over {kv_heads} key-value heads")
        if q_norm.dtype != k_norm.dtype:
            raise DTypeError(f"{self.named(name)}: q_norm is {q_norm.dtype}, k_norm {k_norm.dtype}; they must agree")
        y = self.scratch(name, (self.rows, heads, dim))
        self.add(name, f"heads_to_cache_{q_norm.dtype}", (q, k, v, q_norm, k_norm, table, slots, positions),
                 (y, k_cache, v_cache),
                 {"rows": self.rows, "heads": heads, "kv_heads": kv_heads, "head_dim": dim, "context": context, "eps": eps},
                 columns=math.ceil((heads + 2 * kv_heads) / _core().ROPE_HEADS))
        return y

    def attention(self, q: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor, positions: Tensor,
                  scale: float | None = None, name: str = "attention") -> Tensor:
        """Causal grouped-query attention of q [R, heads, head_dim] over each row's slot, positions 0 to
        its own: [R, heads · head_dim]. `scale` defaults to 1 / sqrt(head_dim)."""
        _, kv_heads, context, dim = k_cache.shape
        heads = q.shape[1]
        self.check_rows(q, name, heads, dim)
        self.check_shape(v_cache, name, *k_cache.shape)
        y = self.scratch(name, (self.rows, heads * dim))
        self.add(name, "attention", (q, k_cache, v_cache, slots, positions), (y,),
                 {"rows": self.rows, "heads": heads, "kv_heads": kv_heads, "head_dim": dim, "context": context,
                  "scale": dim**-0.5 if scale is None else scale}, columns=heads)
        return y

    def softmax_topk(self, logits: Tensor, top_k: int, renormalise: bool = True, counts: Tensor | None = None,
                     name: str = "softmax_topk") -> tuple[Tensor, Tensor]:
        """(ids [R, top_k] u32, weights [R, top_k]): softmax over the experts, the top K by descending
        probability (lower index on a tie), made to add up to 1 when `renormalise`. `counts` [experts]
        u32 gathers how often each expert was chosen. A row whose logits hold no number fails."""
        experts = logits.shape[1]
        self.check_rows(logits, name, experts)
        largest = min(experts, _core().MAX_TOP_K)
        if not 1 <= top_k <= largest:
            raise ShapeError(f"{self.named(name)}: top_k = {top_k} of {experts} experts; choose 1 to {largest}")
        if counts is None:
            counts = self.state(self.named(name + ".counts"), Storage.zeros((experts,), "u32"))
        self.check_shape(counts, name, experts)
        status = self.status()
        ids = self.scratch(name + ".ids", (self.rows, top_k), "u32")
        weights = self.scratch(name + ".weights", (self.rows, top_k))
        self.add(name, "softmax_topk", (logits,), (ids, weights, counts, status),
                 {"rows": self.rows, "experts": experts, "top_k": top_k, "renormalise": int(renormalise),
                  "step": self.failing_step(name)})
        return ids, weights

    def route(self, h: Tensor, gate, top_k: int, renormalise: bool = True, counts: Tensor | None = None,
              name: str = "route") -> tuple[Tensor, Tensor]:
        """(ids, weights) of the top K experts by gate [experts, dim]: logits, softmax, top K."""
        logits = self.linear(h, gate, name + ".logits")
        return self.softmax_topk(logits, top_k, renormalise, counts, name)

    def experts(self, h: Tensor, ids: Tensor, weights: Tensor, gate_proj, up_proj, down_proj,
                name: str = "experts") -> Tensor:
        """Σ_k weights[k] · down(silu(gate(h)) · up(h)) over the chosen experts: [R, dim].

        gate_proj, up_proj [experts, hidden, dim], down_proj [experts, dim, hidden]; ids never leave the
        device. OB_NONE among the ids adds nothing; any other id that is no expert fails the row.
        """
        gate, up, down = (self._stack(value, f"{name}.{part}") for value, part in
                          ((gate_proj, "gate_proj"), (up_proj, "up_proj"), (down_proj, "down_proj")))
        count, hidden, dim = gate.shape
        top_k = ids.shape[1]
        self.check_shape(up, name, count, hidden, dim)
        self.check_shape(down, name, count, dim, hidden)
        self.check_rows(h, name, dim)
        self.check_rows(ids, name, top_k, dtype="u32")
        self.check_rows(weights, name, top_k)
        if (gate.format, gate.group_size) != (up.format, up.group_size):
            raise DTypeError(f"{self.named(name)}: gate_proj is {gate.format}, up_proj {up.format}; they must agree")
        status, tile = self.status(), _core().LINEAR_OUTPUTS
        inner = self.scratch(name + ".inner", (self.rows, top_k, hidden))
        constants = {"rows": self.rows, "experts": count, "top_k": top_k, "step": self.failing_step(name)}
        self.add(name + ".gate_up", f"experts_gate_up_{gate.format}", (*gate.parts, *up.parts, h, ids), (inner, status),
                 {**constants, "inputs": dim, "outputs": hidden, "group_size": gate.group_size},
                 columns=math.ceil(hidden / tile), depth=top_k)
        y = self.scratch(name, (self.rows, dim))
        self.add(name + ".down", f"experts_down_{down.format}", (*down.parts, inner, ids, weights), (y,),
                 {**constants, "inputs": hidden, "outputs": dim, "group_size": down.group_size},
                 columns=math.ceil(dim / tile))
        return y

    def sample(self, logits: Tensor, temperature: Tensor, seeds: Tensor, tokens: Tensor, positions: Tensor,
               advance: bool = True, name: str = "sample") -> Tensor:
        """Per row 8 bytes, [R, 2] u32: the token, and the bits of its f32 log-probability under
        softmax(logits).

        temperature [R] (≤ 0: argmax, lower index on a tie), seeds [R, 2] u32. With `advance` the token
        goes to `tokens` and `positions` moves on: the next run's input. A row with a failed step gives
        OB_NONE and the step's number.
        """
        vocab = logits.shape[1]
        self.check_rows(logits, name, vocab)
        self.check_rows(temperature, name)
        self.check_rows(seeds, name, 2, dtype="u32")
        result = self.scratch(name, (self.rows, 2), "u32")
        self.add(name, "sample", (logits, temperature, seeds, self.status()), (tokens, positions, result),
                 {"rows": self.rows, "vocab": vocab, "step": self.failing_step(name), "advance": int(advance)})
        return result

    # Checks that several steps share

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

    def _matrix(self, value, name: str) -> Weight:
        weight = self.weight(value, name + ".weight")
        if len(weight.shape) != 2:
            raise ShapeError(f"{self.named(name)}: weight has shape {weight.shape}, expected [outputs, inputs]")
        return weight

    def _stack(self, value, name: str) -> Weight:
        weight = self.weight(value, name)
        if len(weight.shape) != 3:
            raise ShapeError(f"{self.named(name)}: weight has shape {weight.shape}, expected [experts, outputs, inputs]")
        return weight
