"""Rope, the KV cache and attention."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from numpy.typing import ArrayLike

from ...device.core import _core
from ...errors import BuildError, DTypeError, ShapeError
from ..formats import CACHE_DTYPES, FLOATS
from ..step import Step
from ..tensors import Storage, Tensor, VectorLike

NORMS = ("head", "all")

NO_PLACE = "was given a slot, a position or a block that its cache does not have"  # why a row fails

TENSOR_DIMS = (64, 128)  # numbers of a head that tensor cores take, with values of as many

# What attention takes of heads_to_cache where it does its work.
HEAD_MEMBERS = ("q_head", "half_dim", "interleaved", "norm", "eps", "weight_offset", "clip")

MOST_ENTRIES = 2**31 // _core.CACHE_BLOCK  # of a slot in a block table: positions are below 2³¹


def attention_parts(window: int, context: int, part: int) -> int:
    """In how many parts, at most, of `part` positions or more, a row's positions are worked on."""
    seen = min(window, context) if window else context
    return min(math.ceil(seen / part), _core.ATTENTION_PARTS)


@runtime_checkable
class Frequencies(Protocol):
    """The part of a `pipeline.models.rope.Rope` that the table needs."""

    @property
    def inv_freq(self) -> Storage | ArrayLike: ...
    @property
    def scale(self) -> float: ...


class Attention(Step):
    def rope_table(self, positions: Tensor, rope: Frequencies | VectorLike, name: str = "rope_table") -> Tensor:
        """cos and sin of positions [R] u32 · inv_freq [half_dim], times the rope's scale: [R, 2, half_dim],
        once per run. `rope`: a `pipeline.models.rope.Rope`, or inv_freq alone."""
        self.check_rows(positions, name, dtype="u32")
        given: VectorLike
        scale = 1.0
        if isinstance(rope, Frequencies):
            given, scale = rope.inv_freq, rope.scale
        else:
            given = rope
        inv_freq = self.vector(given, name + ".inv_freq")
        (half,) = inv_freq.shape
        table = self.scratch(name, (self.rows, 2, half))
        self.add(
            name, "rope_table", (positions, inv_freq), (table,), {"rows": self.rows, "half_dim": half, "scale": scale}
        )
        return table

    def heads_to_cache(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_norm: VectorLike | None,
        k_norm: VectorLike | None,
        table: Tensor | None,
        slots: Tensor,
        positions: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        blocks: Tensor,
        eps: float = 1e-6,
        *,
        norm: str = "head",
        weight_offset: float = 0.0,
        v_norm: bool = False,
        clip: float = 0.0,
        interleaved: bool = False,
        window: int = 0,
        q_head: int = 0,
        name: str = "heads_to_cache",
    ) -> Tensor:
        """Gives the queries [R, heads, head_dim], normed and turned to their positions. Puts keys, after the same,
        and values into the caches [blocks, kv_heads, CACHE_BLOCK, head_dim or v_dim] at each row's slot and position.
        Numbers beyond f16 become ±65,504 there; inf and NaN stay. blocks: the block table [slots, width] u32; position
        p of slot s is row p % CACHE_BLOCK of block blocks[s, p // CACHE_BLOCK].

        q_norm, k_norm: weights, to which `weight_offset` is added, of a head's norm [head_dim], or with norm="all"
        of the norm of all heads together [heads · head_dim]; both None where there is none. v_norm: value heads are
        normed too, without weights. clip: where above 0, normed numbers are cut off at ±clip.
        table: of `rope_table`; its 2 · half_dim turn, from the first on, the rest of a head stays. Number i goes with
        i + half_dim; interleaved: 2i with 2i + 1. None: no position is in the heads.
        window: where above 0 a slot is a ring: entries of the table are taken modulo `width`. q_head: numbers of q from
        one head to the next, of which the first head_dim are the query; 0 for head_dim.
        A row whose slot, position or block the caches do not have fails.
        """
        _, kv_heads, _, dim = k_cache.shape
        q_head = q_head or dim
        v_dim, heads = v_cache.shape[3], q.shape[1] if len(q.shape) == 3 else q.shape[1] // q_head
        if (q_norm is None) != (k_norm is None):
            raise BuildError(f"{self.named(name)}: only one of q_norm and k_norm is given; give both or neither")
        if norm not in NORMS:
            raise BuildError(f"{self.named(name)}: norm={norm!r} is not possible; use {' or '.join(map(repr, NORMS))}")
        if q_head < dim or (norm == "all" and q_head > dim):
            raise BuildError(f"{self.named(name)}: heads of {dim} do not lie {q_head} apart, with norm={norm!r}")
        self._check_heads(q, heads, q_head, name)
        self._check_heads(k, kv_heads, dim, name)
        self.check_rows(v, name, kv_heads * v_dim)
        self._check_caches(heads, k_cache, v_cache, name)
        sizes = self._table_sizes(blocks, k_cache, name)
        half = 0
        if table is not None:
            half = table.shape[-1]
            self.check_rows(table, name, 2, half)
            if 2 * half > dim:
                turns = f"{table.name} turns {2 * half} numbers of a head"
                raise ShapeError(f"{self.named(name)}: {turns}, which has {dim}")
        q_weight, k_weight, kind = self._head_norms(q_norm, k_norm, (heads, kv_heads), dim, norm, q, name)
        y = self.scratch(name, (self.rows, heads, dim))
        alone = norm == "all" or v_norm or not self.own_slots
        self.add(
            name,
            f"heads_to_cache_{q_weight.dtype}_{k_cache.dtype}",
            (q, k, v, q_weight, k_weight, q if table is None else table, slots, positions, blocks),
            (y, k_cache, v_cache, self.status()),
            {
                "rows": self.rows,
                "heads": heads,
                "kv_heads": kv_heads,
                "head_dim": dim,
                "v_dim": v_dim,
                "q_head": q_head,
                **sizes,
                "ring": int(window > 0),
                "step": self.failing_step(name, NO_PLACE),
                "half_dim": half,
                "interleaved": int(interleaved),
                "norm": kind,
                "norm_values": int(v_norm),
                "eps": eps,
                "weight_offset": weight_offset,
                "clip": clip,
            },
            columns=math.ceil((heads + 2 * kv_heads) / _core.ROPE_HEADS),
            held=not alone and self._by_tensors(k_cache, v_dim, v_dim),
        )
        return y

    def attention(
        self,
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        blocks: Tensor,
        slots: Tensor,
        positions: Tensor,
        scale: float | None = None,
        *,
        window: int = 0,
        chunked: bool = False,
        sinks: VectorLike | None = None,
        softcap: float = 0.0,
        v_dim: int = 0,
        name: str = "attention",
    ) -> Tensor:
        """Causal grouped-query attention of q [R, heads, head_dim] over each row's slot, positions 0 to
        its own: [R, heads · v_dim]. `scale` defaults to 1 / sqrt(head_dim). Caches and block table as in
        `heads_to_cache`; a row's bits do not depend on which blocks it has.

        window: where above 0, only the last that many positions, the row's own among them; a slot is a ring
        then, whose entries are taken modulo `width`: it needs window + the most rows of a chain - 1 positions,
        or all positions that there are. chunked: the window is the length of chunks, into which positions are divided,
        and a row sees its own chunk alone. sinks [heads] f32, f16 or bf16: a score more for each head, whose weight
        has no value. softcap: where above 0, scores s become softcap · tanh(s / softcap). v_dim: values are the first
        that many numbers of their cache's rows, which may be the keys' (default: all). A row fails if the caches do not
        have its slot, a block of the positions that it sees or, without a window, its position.
        """
        _, kv_heads, _, dim = k_cache.shape
        heads, v_row = q.shape[1], v_cache.shape[3]
        v_dim = v_dim or v_row
        self.check_rows(q, name, heads, dim)
        self._check_caches(heads, k_cache, v_cache, name)
        sizes = self._table_sizes(blocks, k_cache, name)
        if not 0 <= window < 2**32 or (chunked and not window):
            raise BuildError(f"{self.named(name)}: a window of {window} positions is not possible; use 0 for none")
        if v_dim > v_row:
            raise ShapeError(f"{self.named(name)}: {v_dim} values do not fit {v_cache.name}, whose rows have {v_row}")
        stored, kind = q, 0  # without sinks, bound but not read
        if sinks is not None:
            stored = self.vector(sinks, self.named(name + ".sinks"))
            self.check_shape(stored, name, heads)
            if stored.dtype not in FLOATS:
                raise DTypeError(f"{self.named(name)}: {stored.name} is {stored.dtype}, expected {', '.join(FLOATS)}")
            kind = {"f32": _core.F32, "f16": _core.F16, "bf16": _core.BF16}[stored.dtype]
        tensors = self._by_tensors(k_cache, v_dim, v_row)
        part = _core.TENSOR_ATTENTION_PART if tensors else _core.ATTENTION_PART
        parts = attention_parts(window, sizes["width"] * _core.CACHE_BLOCK, part)
        if tensors:
            tiles = math.ceil(heads // kv_heads / _core.TENSOR_ATTENTION_HEADS)
            few = self.rows * kv_heads * tiles < self.choices.split_threadgroups
            split = parts > self.choices.tensor_split_parts and few
        else:
            tiles = self._attention_tiles(kv_heads, heads // kv_heads, max(dim, v_dim))
            split = self._attention_splits(kv_heads * tiles, parts, dim, v_dim)
        constants = {
            "rows": self.rows,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": dim,
            "v_dim": v_dim,
            "v_row": v_row,
            **sizes,
            "window": min(window, _core.CHUNKED - 1) + chunked * _core.CHUNKED,
            "sinks": kind,
            "step": self.failing_step(name, NO_PLACE),
            "tiles": tiles,
            "parts": parts,
            "part": part,
            "split": int(split),
            "scale": dim**-0.5 if scale is None else scale,
            "softcap": softcap,
        }
        reads: tuple[Tensor, ...] = (q, k_cache, v_cache, blocks, slots, positions, stored)
        kernel = f"attention_tensor_{dim}" if tensors else f"attention_{k_cache.dtype}"
        y, columns = self.scratch(name, (self.rows, heads * v_dim)), kv_heads * tiles
        out = self.scratch(f"{name}.parts", (self.rows, heads, parts, v_dim + _core.ATTENTION_PART_END)) if split else y
        writes: tuple[Tensor, ...] = (out,)
        own = constants
        of_heads = self.take_held(q, slots, positions, blocks, k_cache, v_cache) if tensors else None
        if of_heads is not None:  # its heads are made on the way
            made = of_heads.reads[:6]  # queries, keys, values, both norms and the table
            kernel = f"heads_attention_{made[3].dtype}_{dim}"
            stored = made[0] if stored is q else stored
            reads, writes = (*made, slots, positions, blocks, stored), (k_cache, v_cache, out)
            own = constants | {member: of_heads.constants[member] for member in HEAD_MEMBERS}
        self.add(name, kernel, reads, (*writes, self.status()), own, columns=columns, depth=parts if split else 1)
        if split:
            self.add(f"{name}.merge", "attention_merge", (out, positions, stored), (y,), constants, columns=heads)
        return y

    def _by_tensors(self, k_cache: Tensor, v_dim: int, v_row: int) -> bool:
        """Whether tensor cores compute attention."""
        dim = k_cache.shape[3]
        return self.tensor_cores and k_cache.dtype == "f16" and dim in TENSOR_DIMS and dim == v_dim == v_row

    def _attention_tiles(self, kv_heads: int, sharing: int, dim: int) -> int:
        """Threadgroups among which the heads that share a key-value head are divided. On a processor one thread reads
        keys and values once for all of them; a GPU's threadgroup has registers for a few, and where rows and heads
        alone do not fill a GPU, it takes fewer yet. No bit depends on it."""
        if self.simd_width == 1:
            return 1
        few = dim > 256 or self.rows * kv_heads * sharing < self.choices.few_heads
        return math.ceil(sharing / (2 if few else _core.ATTENTION_TILE))

    def _attention_splits(self, threadgroups: int, parts: int, dim: int, v_dim: int) -> bool:
        """Whether each part of the positions has threadgroups of its own, and a dispatch more merges them. It pays
        where the rows alone do not fill a GPU, and where a row may have several parts."""
        fits = dim <= _core.ATTENTION_HEAD_DIM and v_dim <= _core.ATTENTION_V_DIM
        few = self.rows * threadgroups < self.choices.split_threadgroups
        return self.simd_width > 1 and fits and parts > self.choices.split_parts and few

    def _head_norms(
        self,
        q_norm: VectorLike | None,
        k_norm: VectorLike | None,
        heads: tuple[int, int],
        dim: int,
        norm: str,
        unused: Tensor,
        name: str,
    ) -> tuple[Tensor, Tensor, int]:
        """(weights of queries, of keys, the kind of norm); without norms a tensor that is bound and not read."""
        if q_norm is None or k_norm is None:
            return unused, unused, 0
        q = self.vector(q_norm, self.named(f"{name}.q_norm"))
        self.check_shape(q, name, dim if norm == "head" else heads[0] * dim)
        k = self.vector(k_norm, self.named(f"{name}.k_norm"))
        self.check_shape(k, name, dim if norm == "head" else heads[1] * dim)
        if q.dtype != k.dtype:
            raise DTypeError(f"{self.named(name)}: q_norm is {q.dtype}, k_norm {k.dtype}; they must agree")
        return q, k, _core.NORM_HEAD if norm == "head" else _core.NORM_ALL

    def _check_heads(self, x: Tensor, heads: int, dim: int, name: str) -> None:
        """Demands [R, heads · dim], or the heads apart."""
        self.check_rows(x, name, *((heads, dim) if len(x.shape) == 3 else (heads * dim,)))

    def _table_sizes(self, blocks: Tensor, cache: Tensor, name: str) -> dict[str, int]:
        """The sizes of a block table [slots, width] and of its cache, as kernels take them."""
        if blocks.dtype != "u32":
            raise DTypeError(f"{self.named(name)}: {blocks.name} is {blocks.dtype}, expected u32")
        if len(blocks.shape) != 2 or 0 in blocks.shape:
            raise ShapeError(f"{self.named(name)}: {blocks.name} has shape {blocks.shape}, expected (slots, width)")
        self.check_shape(cache, name, cache.shape[0], cache.shape[1], _core.CACHE_BLOCK, cache.shape[3])
        slots, width = blocks.shape
        if width > MOST_ENTRIES:
            raise BuildError(
                f"{self.named(name)}: {width:,} blocks of a slot are too many; give at most {MOST_ENTRIES:,}"
            )
        return {"slots": slots, "width": width, "blocks": cache.shape[0]}

    def _check_caches(self, heads: int, k_cache: Tensor, v_cache: Tensor, name: str) -> None:
        self.check_shape(v_cache, name, *k_cache.shape[:3], v_cache.shape[3])
        if heads % k_cache.shape[1]:
            raise ShapeError(f"{self.named(name)}: {heads} heads do not divide over {k_cache.shape[1]} key-value heads")
        if k_cache.dtype != v_cache.dtype or k_cache.dtype not in CACHE_DTYPES:
            raise DTypeError(
                f"{self.named(name)}: the caches are {k_cache.dtype} and {v_cache.dtype}; "
                f"use one of {', '.join(CACHE_DTYPES)} for both"
            )
