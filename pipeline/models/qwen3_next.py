"""Qwen3-Next and Qwen3.5 (Qwen Team 2025 and 2026; transformers' Qwen3NextForCausalLM, Qwen3_5MoeForCausalLM and
Qwen3_5ForCausalLM): most layers are recurrent, with a causal convolution and the gated delta rule; the others have
attention with a gate on its output. Norms add 1 to their weight."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import delta, weights
from .cache import Cache, CacheLayer, StateLayer
from .cache import Layer as CachedLayer
from .decoder import Decoder, DecoderLayer
from .fields import FULL, Fields, Shape
from .loading import Loader
from .row_state import Rows, RowTensors

LINEAR = "linear_attention"


@dataclass(frozen=True)
class Config(Shape):
    recurrent: tuple[bool, ...]  # per layer
    delta: delta.Sizes
    biased: bool
    output_biased: bool
    dense: tuple[bool, ...]  # per layer: without experts
    mlp_hidden: int  # of those
    experts: int
    top_k: int
    expert_hidden: int
    shared_hidden: int
    norm_topk_prob: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu", attn_output_gate=True)
        shape, mixture = f.shape(head_dim=256), f.config.get("model_type") != "qwen3_5_text"
        layers = shape["layers"]
        every = f.whole("full_attention_interval", 4)
        kinds = f.kinds("layer_types", layers, (LINEAR, FULL)) or [
            LINEAR if (layer + 1) % every else FULL for layer in range(layers)
        ]
        f.check(FULL in kinds, f"layer_types has no {FULL} among {layers} layers; at least one is needed")
        chosen = f.config.get("model_type") == "qwen3_next"  # the others have experts everywhere, or nowhere
        dense = f.dense_layers(layers) if chosen else (not mixture,) * layers
        return cls(
            **shape,
            **f.biases(),
            **(f.mixture() if mixture else {"experts": 1, "top_k": 1}),
            recurrent=tuple(kind == LINEAR for kind in kinds),
            delta=delta.Sizes.read(f, shape["hidden"], shape["eps"]),
            dense=dense,
            mlp_hidden=f.whole("intermediate_size") if any(dense) else 0,
            expert_hidden=f.whole("moe_intermediate_size") if mixture else 0,
            shared_hidden=f.whole("shared_expert_intermediate_size") if mixture else 0,
            norm_topk_prob=f.flag("norm_topk_prob", True) if chosen else True,
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.delta = delta.Weights(load, f"{prefix}.linear_attn", c.delta) if c.recurrent[number] else None
        if self.delta is None:
            attention, kv = f"{prefix}.self_attn", c.kv_heads * c.head_dim
            self.qkv = (
                load.matrix(f"{attention}.q_proj", (2 * c.heads * c.head_dim, c.hidden)),  # of each head query and gate
                load.matrix(f"{attention}.k_proj", (kv, c.hidden)),
                load.matrix(f"{attention}.v_proj", (kv, c.hidden)),
            )
            self.qkv_bias, self.o_bias = weights.attention_biases(
                load, attention, c, c.kv_heads, c.head_dim, q_dim=2 * c.head_dim
            )
            self.q_norm, self.k_norm = weights.head_norms(load, attention, c.head_dim, c.head_dim)
            self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        mlp = f"{prefix}.mlp"
        self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden) if c.dense[number] else None
        if self.dense is None:
            self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)
            self.shared = weights.dense(load, f"{mlp}.shared_expert", c.hidden, c.shared_hidden)
            self.shared_gate = load.matrix(f"{mlp}.shared_expert_gate", (1, c.hidden))


class Qwen3Next(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer
    partial_rope = True

    @functools.cached_property
    def offset(self) -> float:
        """What norms add to their weight."""
        return 0.0 if delta.norms_plus_one(self.checkpoint) else 1.0

    def cache_layers(self) -> Sequence[CachedLayer]:
        c = self.config
        return [
            StateLayer(c.delta.states) if recurrent else CacheLayer(c.kv_heads, c.head_dim) for recurrent in c.recurrent
        ]

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at, offset = self.config, rows.tensors(pipe), self.offset
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        links = pipe.row_links(at.slots, at.positions, cache.slots)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm", weight_offset=offset)
        for i, layer in enumerate(self.layers):
            leads = leading if i + 1 == c.layers else None
            with pipe.scope(f"layers.{i}"):
                if layer.delta is None:
                    o = self._attention(pipe, h, layer, at, turn, self.kv(pipe, cache, i), leads)
                else:
                    o = delta.layer(pipe, h, layer.delta, c.delta, at, links, cache.state(i), leads)
                if o is None:
                    return None
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm", weight_offset=offset)
                if layer.dense is not None:
                    y = pipe.mlp(h, *layer.dense)
                else:
                    ids, mix = pipe.moe_router(h, layer.gate, c.top_k, c.norm_topk_prob, self.count(pipe, i))
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=(*layer.shared, layer.shared_gate))
            x, h = self.next_norm(pipe, x, y, i, weight_offset=offset)
        return pipe.linear(h, self.head, name="logits")

    def _attention(
        self,
        pipe: Pipeline,
        h: Tensor,
        layer: Layer,
        at: RowTensors,
        turn: Tensor,
        kv: tuple[Tensor, Tensor, Tensor],
        leading: int | None,
    ) -> Tensor | None:
        c = self.config
        gated, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
        q = pipe.heads_to_cache(
            gated,
            k,
            v,
            layer.q_norm,
            layer.k_norm,
            turn,
            at.slots,
            at.positions,
            *kv,
            c.eps,
            weight_offset=self.offset,
            q_head=2 * c.head_dim,
        )
        if not pipe.lead(leading):
            return None
        a = pipe.attention(q, *kv, at.slots, at.positions)
        a = pipe.sigmoid_gate(a, gated, c.heads, first=c.head_dim, step=2 * c.head_dim, name="gate")
        return pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
