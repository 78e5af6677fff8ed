"""Rope, the KV cache and attention."""

from __future__ import annotations

import math

from ...device.core import _core
from ...errors import BuildError, DTypeError, ShapeError
from ..formats import CACHE_DTYPES
from ..tensors import Tensor

NORMS = ("head", "all")
SINKS = ("f32", "f16", "bf16")


class Attention:
    def rope_table(self, positions: Tensor, rope, name: str = "rope_table") -> Tensor:
        """cos and sin of positions [R] u32 · inv_freq [half_dim], times the rope's scale: [R, 2, half_dim],
        once a run. `rope`: a :class:`pipeline.models.rope.Rope`, or inv_freq alone."""
        self.check_rows(positions, name, dtype="u32")
        inv_freq = self.vector(getattr(rope, "inv_freq", rope), name + ".inv_freq")
        (half,) = inv_freq.shape
        table = self.scratch(name, (self.rows, 2, half))
        self.add(
            name,
            "rope_table",
            (positions, inv_freq),
            (table,),
            {"rows": self.rows, "half_dim": half, "scale": getattr(rope, "scale", 1.0)},
        )
        return table

    def heads_to_cache(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_norm,
        k_norm,
        table: Tensor | None,
        slots: Tensor,
        positions: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        eps: float = 1e-6,
        *,
        norm: str = "head",
        weight_offset: float = 0.0,
        v_norm: bool = False,
        clip: float = 0.0,
        interleaved: bool = False,
        window: int = 0,
        name: str = "heads_to_cache",
    ) -> Tensor:
        """Queries [R, heads, head_dim], normed and turned to their positions; keys the same and values, into the
        caches [slots, kv_heads, context, head_dim or v_dim] at each row's slot and position. Numbers beyond f16
        become ±65,504 there; inf and NaN stay.

        q_norm, k_norm: weights, to which `weight_offset` is added, of a head's norm [head_dim], or with norm="all"
        of the norm of all heads together [heads · head_dim]; both None where there is none. v_norm: value heads are
        normed too, without weights. clip: where above 0, normed numbers are cut off at ±clip.
        table: of `rope_table`; its 2 · half_dim turn, from the first on, the rest of a head stays. Number i goes with
        i + half_dim; interleaved: 2i with 2i + 1. None: no position is in the heads.
        window: where above 0 the caches are rings, in which position p is at p modulo their context.
        """
        _, kv_heads, context, dim = k_cache.shape
        v_dim, heads = v_cache.shape[3], q.shape[1] // dim
        if (q_norm is None) != (k_norm is None):
            raise BuildError(f"{self.named(name)}: only one of q_norm and k_norm is given; give both or neither")
        if norm not in NORMS:
            raise BuildError(f"{self.named(name)}: norm={norm!r} is not possible; use {' or '.join(map(repr, NORMS))}")
        self.check_rows(q, name, heads * dim)
        self.check_rows(k, name, kv_heads * dim)
        self.check_rows(v, name, kv_heads * v_dim)
        self._check_caches(heads, k_cache, v_cache, name)
        half = 0 if table is None else table.shape[-1]
        if table is not None:
            self.check_rows(table, name, 2, half)
        if 2 * half > dim:
            raise ShapeError(f"{self.named(name)}: {table.name} turns {2 * half} numbers of a head, which has {dim}")
        q_norm, k_norm, kind = self._head_norms(q_norm, k_norm, (heads, kv_heads), dim, norm, q, name)
        y = self.scratch(name, (self.rows, heads, dim))
        self.add(
            name,
            f"heads_to_cache_{q_norm.dtype}_{k_cache.dtype}",
            (q, k, v, q_norm, k_norm, q if table is None else table, slots, positions),
            (y, k_cache, v_cache),
            {
                "rows": self.rows,
                "heads": heads,
                "kv_heads": kv_heads,
                "head_dim": dim,
                "v_dim": v_dim,
                "context": context,
                "ring": int(window > 0),
                "half_dim": half,
                "interleaved": int(interleaved),
                "norm": kind,
                "norm_values": int(v_norm),
                "eps": eps,
                "weight_offset": weight_offset,
                "clip": clip,
            },
            columns=math.ceil((heads + 2 * kv_heads) / _core.ROPE_HEADS),
        )
        return y

    def attention(
        self,
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        slots: Tensor,
        positions: Tensor,
        scale: float | None = None,
        *,
        window: int = 0,
        sinks=None,
        softcap: float = 0.0,
        v_dim: int = 0,
        name: str = "attention",
    ) -> Tensor:
        """Causal grouped-query attention of q [R, heads, head_dim] over each row's slot, positions 0 to
        its own: [R, heads · v_dim]. `scale` defaults to 1 / sqrt(head_dim).

        window: where above 0, only the last that many positions, the row's own among them; the caches are rings
        then, in which position p is at p modulo their context: enough of it are window + the most rows of a chain - 1,
        or all positions that there are. sinks [heads] f32, f16 or bf16: a score more for each head, whose weight
        has no value. softcap: where above 0, scores s become softcap · tanh(s / softcap). v_dim: values are the first
        that many numbers of their cache's rows, which may be the keys' (default: all).
        """
        _, kv_heads, context, dim = k_cache.shape
        heads, v_row = q.shape[1], v_cache.shape[3]
        v_dim = v_dim or v_row
        self.check_rows(q, name, heads, dim)
        self._check_caches(heads, k_cache, v_cache, name)
        if not 0 <= window < 2**32:
            raise BuildError(f"{self.named(name)}: a window of {window} positions is not possible; use 0 for none")
        if v_dim > v_row:
            raise ShapeError(f"{self.named(name)}: {v_dim} values do not fit {v_cache.name}, whose rows have {v_row}")
        kind = 0
        if sinks is not None:
            sinks = self.vector(sinks, self.named(name + ".sinks"))
            self.check_shape(sinks, name, heads)
            if sinks.dtype not in SINKS:
                raise DTypeError(f"{self.named(name)}: {sinks.name} is {sinks.dtype}, expected {', '.join(SINKS)}")
            kind = (_core.F32, _core.F16, _core.BF16)[SINKS.index(sinks.dtype)]
        y = self.scratch(name, (self.rows, heads * v_dim))
        self.add(
            name,
            f"attention_{k_cache.dtype}",
            (q, k_cache, v_cache, slots, positions, q if sinks is None else sinks),
            (y,),
            {
                "rows": self.rows,
                "heads": heads,
                "kv_heads": kv_heads,
                "head_dim": dim,
                "v_dim": v_dim,
                "v_row": v_row,
                "context": context,
                "window": window,
                "sinks": kind,
                "scale": dim**-0.5 if scale is None else scale,
                "softcap": softcap,
            },
            columns=kv_heads,
        )
        return y

    def _head_norms(self, q_norm, k_norm, heads, dim: int, norm: str, unused: Tensor, name: str):
        """(q_norm, k_norm, what is normed); without norms a tensor that is bound and not read."""
        if q_norm is None:
            return unused, unused, 0
        tensors = []
        for label, value, n in (("q_norm", q_norm, heads[0]), ("k_norm", k_norm, heads[1])):
            tensors.append(self.vector(value, self.named(f"{name}.{label}")))
            self.check_shape(tensors[-1], name, dim if norm == "head" else n * dim)
        if tensors[0].dtype != tensors[1].dtype:
            raise DTypeError(
                f"{self.named(name)}: q_norm is {tensors[0].dtype}, k_norm {tensors[1].dtype}; they must agree"
            )
        return *tensors, _core.NORM_HEAD if norm == "head" else _core.NORM_ALL

    def _check_caches(self, heads: int, k_cache: Tensor, v_cache: Tensor, name: str) -> None:
        self.check_shape(v_cache, name, *k_cache.shape[:3], v_cache.shape[3])
        if heads % k_cache.shape[1]:
            raise ShapeError(f"{self.named(name)}: {heads} heads do not divide over {k_cache.shape[1]} key-value heads")
        if k_cache.dtype != v_cache.dtype or k_cache.dtype not in CACHE_DTYPES:
            raise DTypeError(
                f"{self.named(name)}: the caches are {k_cache.dtype} and {v_cache.dtype}; "
                f"use one of {', '.join(CACHE_DTYPES)} for both"
            )
