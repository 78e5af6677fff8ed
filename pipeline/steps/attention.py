"""Rope, the KV cache and attention."""

from __future__ import annotations

import math

from ..errors import DTypeError, ShapeError
from ..tensors import CACHE_DTYPES, Tensor
from .limits import core


class Attention:
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
        values, into the caches [slots, kv_heads, context, head_dim], f16 or f32, at each row's slot and
        position. Numbers beyond f16 become ±65,504 there; inf and NaN stay."""
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
        self._check_caches(heads, k_cache, v_cache, name)
        if q_norm.dtype != k_norm.dtype:
            raise DTypeError(f"{self.named(name)}: q_norm is {q_norm.dtype}, k_norm {k_norm.dtype}; they must agree")
        y = self.scratch(name, (self.rows, heads, dim))
        self.add(name, f"heads_to_cache_{q_norm.dtype}_{k_cache.dtype}",
                 (q, k, v, q_norm, k_norm, table, slots, positions), (y, k_cache, v_cache),
                 {"rows": self.rows, "heads": heads, "kv_heads": kv_heads, "head_dim": dim, "context": context, "eps": eps},
                 columns=math.ceil((heads + 2 * kv_heads) / core().ROPE_HEADS))
        return y

    def attention(self, q: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor, positions: Tensor,
                  scale: float | None = None, name: str = "attention") -> Tensor:
        """Causal grouped-query attention of q [R, heads, head_dim] over each row's slot, positions 0 to
        its own: [R, heads · head_dim]. `scale` defaults to 1 / sqrt(head_dim)."""
        _, kv_heads, context, dim = k_cache.shape
        heads = q.shape[1]
        self.check_rows(q, name, heads, dim)
        self._check_caches(heads, k_cache, v_cache, name)
        y = self.scratch(name, (self.rows, heads * dim))
        self.add(name, f"attention_{k_cache.dtype}", (q, k_cache, v_cache, slots, positions), (y,),
                 {"rows": self.rows, "heads": heads, "kv_heads": kv_heads, "head_dim": dim, "context": context,
                  "scale": dim**-0.5 if scale is None else scale}, columns=kv_heads)
        return y

    def _check_caches(self, heads: int, k_cache: Tensor, v_cache: Tensor, name: str) -> None:
        self.check_shape(v_cache, name, *k_cache.shape)
        if heads % k_cache.shape[1]:
            raise ShapeError(f"{self.named(name)}: {heads} heads do not divide over {k_cache.shape[1]} key-value heads")
        if k_cache.dtype != v_cache.dtype or k_cache.dtype not in CACHE_DTYPES:
            raise DTypeError(f"{self.named(name)}: the caches are {k_cache.dtype} and {v_cache.dtype}; "
                             f"both must be {' or both '.join(CACHE_DTYPES)}")
