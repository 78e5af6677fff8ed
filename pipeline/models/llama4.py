"""Llama 4 (Meta 2025; transformers' Llama4ForCausalLM and the text part of Llama4ForConditionalGeneration): most layers
see the chunk of their position and have rope, then heads of length 1; the others see all positions, without rope, with
queries that grow with their position. Sigmoid weights count on an expert's input; one expert is every token's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..graph.builder import Pipeline
from ..graph.tensors import Storage, Tensor
from ..printing import brief
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import FULL, Fields, Shape
from .loading import Loader
from .query_scale import QueryScale
from .rope import Rope
from .row_state import Rows, RowTensors

CHUNKED = "chunked_attention"


@dataclass(frozen=True)
class Config(Shape):
    experts: int
    top_k: int
    expert_hidden: int
    mlp_hidden: int
    sparse: tuple[bool, ...]  # per layer: with experts
    turning: tuple[bool, ...]  # per layer: whether it has rope
    chunks: tuple[int, ...]  # per layer: the positions of a chunk; 0: all are seen
    normed: bool  # heads, in layers with rope
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        shape = f.shape(eps=1e-5)
        layers, sparse = shape["layers"], _sparse(f, shape["layers"])
        turning, chunk = f.turning(layers), f.whole("attention_chunk_size", 0)
        kinds = f.kinds("layer_types", layers, (CHUNKED, FULL)) or [
            CHUNKED if turns and chunk else FULL for turns in turning
        ]
        f.check(chunk > 0 or CHUNKED not in kinds, f"layer_types has {CHUNKED}, which needs an attention_chunk_size")
        return cls(
            **shape,
            **(f.mixture("num_local_experts") if any(sparse) else {"experts": 1, "top_k": 1}),
            **f.biases(),
            expert_hidden=f.whole("intermediate_size"),
            mlp_hidden=f.whole("intermediate_size_mlp", 16384),
            sparse=sparse,
            turning=turning,
            chunks=tuple(chunk if kind == CHUNKED else 0 for kind in kinds),
            normed=f.flag("use_qk_norm", True),
        )


def _sparse(f: Fields, layers: int) -> tuple[bool, ...]:
    """Whether each layer has experts: those that `moe_layers` lists, else one of `interleave_moe_layer_step`."""
    listed, step = f.config.get("moe_layers"), f.whole("interleave_moe_layer_step", 1)
    if listed is None:
        return tuple((layer + 1) % step == 0 for layer in range(layers))
    right = isinstance(listed, list) and all(type(number) is int and 0 <= number < layers for number in listed)
    f.check(right, f"moe_layers = {brief(listed)} is no list of layers from 0 to {layers - 1}; it is needed")
    return tuple(layer in listed for layer in range(layers))


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.feed_forward"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        if not c.sparse[number]:
            self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden)
            return
        self.router = load.matrix(f"{mlp}.router", (c.experts, c.hidden))
        self.shared = weights.dense(load, f"{mlp}.shared_expert", c.hidden, c.expert_hidden)
        if weights.has(load, f"{mlp}.experts.gate_up_proj"):  # as [experts, inputs, outputs]
            self.experts = weights.transposed_halves(load, f"{mlp}.experts", c.experts, c.hidden, c.expert_hidden)
        else:
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)


class Llama4(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=chunk) for chunk in c.chunks]

    def prepare(self, fields: Fields) -> None:
        c = self.config
        self.rope = Rope.read(fields.config, c.head_dim, fields.source, interleaved=True, partial=False)
        # To turn heads changes no length, so they are normed before, and a factor of cos and sin is gone behind.
        self.norm = Storage.of(np.ones(c.head_dim, np.float32)) if c.normed else None
        self.turns = replace(self.rope, scale=1.0) if c.normed else self.rope
        self.query_scale = None
        if fields.config.get("attn_temperature_tuning") and not all(c.turning):
            floor = fields.whole("floor_scale", 8192)
            grown = np.log1p((np.arange(c.context) + 1) // floor)
            self.query_scale = QueryScale.of(1 + fields.number("attn_scale", 0.1) * grown)

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.turns)
        scaled = None if self.query_scale is None else self.query_scale.gate(pipe, at.positions)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            with pipe.scope(f"layers.{i}"):
                kv, chunk = self.kv(pipe, cache, i), c.chunks[i]
                q = self._queries(pipe, h, i, at, kv, turn, scaled)
                if i + 1 == c.layers and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=chunk, chunked=chunk > 0)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                if c.sparse[i]:
                    counts = self.count(pipe, i)
                    ids, mix = pipe.moe_router(h, layer.router, c.top_k, False, counts, scoring="sigmoid")
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=layer.shared, scales_inputs=True)
                else:
                    y = pipe.mlp(h, *layer.dense)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")

    def _queries(
        self,
        pipe: Pipeline,
        h: Tensor,
        i: int,
        at: RowTensors,
        kv: tuple[Tensor, Tensor, Tensor],
        turn: Tensor,
        scaled: Tensor | None,
    ) -> Tensor:
        """The queries of layer i; its keys and values go to the cache."""
        c, layer, names = self.config, self.layers[i], ("q_proj", "k_proj", "v_proj")
        turns = c.turning[i]
        if turns or self.query_scale is None or scaled is None:
            q, k, v = pipe.linear3(h, layer.qkv, names, layer.qkv_bias)
        else:
            q, k, v = self.query_scale.linear3(pipe, scaled, h, layer.qkv, names, layer.qkv_bias)
        norm, table = (self.norm, turn) if turns else (None, None)
        places = at.slots, at.positions
        return pipe.heads_to_cache(
            q, k, v, norm, norm, table, *places, *kv, c.eps, interleaved=True, window=c.chunks[i]
        )
