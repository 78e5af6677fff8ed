"""Latent attention (DeepSeek-V2, V3): the cache holds one compressed row of keys and values for all heads."""

from __future__ import annotations

from typing import NamedTuple

from ...device.core import _core
from ...errors import DTypeError, ShapeError
from ..formats import CACHE_DTYPES
from ..kernel_names import kernel_name
from ..tensors import Tensor, VectorLike
from ..weights import Weight, WeightLike
from .attention import NO_PLACE, Attention


class KeysValues(NamedTuple):
    """kv_b in two parts, as GGUF files have it: keys transposed [heads · rank, nope], values [heads · v_dim, rank]."""

    keys: WeightLike
    values: WeightLike


class Latent(Attention):
    def latent_to_cache(
        self,
        q: Tensor,
        kv: Tensor,
        norm: VectorLike,
        table: Tensor,
        slots: Tensor,
        positions: Tensor,
        cache: Tensor,
        blocks: Tensor,
        eps: float = 1e-6,
        *,
        heads: int,
        interleaved: bool = False,
        name: str = "latent_to_cache",
    ) -> Tensor:
        """Puts kv [R, rank + rope] into the cache [blocks, 1, CACHE_BLOCK, rank + rope] at each row's slot and
        position: the first `rank` normed with weights `norm` [rank], the others turned by `table` (of `rope_table`).
        blocks: the block table, as in `heads_to_cache`. A row whose slot, position or block the cache does not
        have fails.

        Gives the queries that `latent_attention` completes, [R, heads, rank + rope]: of q [R, heads · (nope + rope)]
        the last `rope` numbers of each head, turned."""
        weight = self.vector(norm, self.named(name + ".norm"))
        (rank,), half = weight.shape, table.shape[-1]
        dim = rank + 2 * half
        self.check_rows(table, name, 2, half)
        self.check_rows(kv, name, dim)
        nope = q.shape[1] // heads - 2 * half
        if nope < 1 or q.shape[1] % heads:
            raise ShapeError(
                f"{self.named(name)}: {q.name} has {q.shape[1]} numbers, which are not {heads} heads of more than "
                f"the {2 * half} that turn"
            )
        self.check_rows(q, name, heads * (nope + 2 * half))
        self.check_shape(cache, name, cache.shape[0], 1, cache.shape[2], dim)
        sizes = self._table_sizes(blocks, cache, name)
        if cache.dtype not in CACHE_DTYPES:
            raise DTypeError(f"{self.named(name)}: the cache is {cache.dtype}; use one of {', '.join(CACHE_DTYPES)}")
        turned = self.scratch(name, (self.rows, heads, dim))
        self.add(
            name,
            f"latent_to_cache_{weight.dtype}_{cache.dtype}",
            (q, kv, weight, table, slots, positions, blocks),
            (turned, cache, self.status()),
            {
                "rows": self.rows,
                "heads": heads,
                "nope": nope,
                "rank": rank,
                "half_dim": half,
                "interleaved": int(interleaved),
                **sizes,
                "step": self.failing_step(name, NO_PLACE),
                "eps": eps,
            },
        )
        return turned

    def latent_attention(
        self,
        q: Tensor,
        turned: Tensor,
        kv_b: WeightLike | KeysValues,
        cache: Tensor,
        blocks: Tensor,
        slots: Tensor,
        positions: Tensor,
        scale: float,
        *,
        v_dim: int,
        name: str = "attention",
    ) -> Tensor:
        """Causal attention of all heads to the rows of the cache: [R, heads · v_dim].

        kv_b: the matrix [heads · (nope + v_dim), rank] from a compressed row to each head's keys, then values. The
        queries are multiplied by its keys' part ("absorbed"), so that a score is a product with the row itself, and its
        values' part by the weighted sum of rows. Or the two parts, as `KeysValues`. scale: of the scores,
        (nope + rope)^-½ and yarn's factor. Three dispatches."""
        _, heads, dim = turned.shape
        split = isinstance(kv_b, KeysValues)
        keys, values = (
            self.weight(w, f"{name}.kv_b") for w in (kv_b if isinstance(kv_b, KeysValues) else (kv_b, kv_b))
        )
        nope = keys.shape[-1] if split else keys.shape[0] // heads - v_dim
        rank = values.shape[-1]
        self.check_shape(keys, name, *((heads * rank, nope) if split else (heads * (nope + v_dim), rank)))
        self.check_shape(values, name, *((heads * v_dim, rank) if split else keys.shape))
        rope = q.shape[1] // heads - nope
        self.check_rows(q, name, heads * (nope + rope))
        self.check_rows(turned, name, heads, rank + rope)
        self._per_head(
            f"{name}.absorb",
            q,
            keys,
            turned,
            heads,
            inputs=nope,
            outputs=rank,
            x_head=nope + rope,
            y_head=rank + rope,
            head_rows=rank if split else nope + v_dim,
            transposed=not split,
        )
        latent = self.attention(turned, cache, cache, blocks, slots, positions, scale, v_dim=rank, name=name)
        y = self.scratch(f"{name}.values", (self.rows, heads * v_dim))
        self._per_head(
            f"{name}.values",
            latent,
            values,
            y,
            heads,
            inputs=rank,
            outputs=v_dim,
            x_head=rank,
            y_head=v_dim,
            head_rows=v_dim if split else nope + v_dim,
            first_row=0 if split else nope,
        )
        return y

    def _per_head(
        self,
        name: str,
        x: Tensor,
        weight: Weight,
        y: Tensor,
        heads: int,
        *,
        transposed: bool = False,
        first_row: int = 0,
        **sizes: int,
    ) -> None:
        """y[row, head] = w[head] · x[row, head], or with w[head] transposed; y may have more in its rows."""
        self.add(
            name,
            kernel_name("head_linear", weight.format),
            (*weight.parts, x),
            (y,),
            {
                "rows": self.rows,
                "heads": heads,
                "columns": weight.shape[-1],
                "transposed": int(transposed),
                "first_row": first_row,
                "group_size": weight.group_size,
                **sizes,
            },
            columns=heads,
            row_tile=_core.LINEAR_ROWS,
        )
