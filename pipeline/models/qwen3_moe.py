"""Qwen3-MoE (Qwen Team 2025; transformers' Qwen3MoeForCausalLM): norms before attention and experts,
queries and keys normed per head, a mixture of experts with softmax routing in every layer that is not said to be
without. The text part of Qwen3-VL (Qwen3VLMoeForConditionalGeneration) is the same."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .row_state import Rows


@dataclass(frozen=True)
class Config(Shape):
    experts: int
    top_k: int
    expert_hidden: int
    norm_topk_prob: bool
    dense: tuple[bool, ...]  # per layer: without experts
    mlp_hidden: int  # of those
    biased: bool
    output_biased: bool
    window: int  # one for all layers; 0: all positions

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        sees = f.config["model_type"] == "qwen3_vl_moe_text"  # the text part of Qwen3-VL
        shape = f.shape()
        dense = f.dense_layers(shape["layers"])
        return cls(
            **shape,
            **f.mixture(),
            **f.biases(),
            dense=dense,
            mlp_hidden=f.whole("intermediate_size") if any(dense) else 0,
            window=0 if sees or f.switched_window() == 0 else f.window(),
            expert_hidden=f.whole("moe_intermediate_size"),
            norm_topk_prob=sees or f.flag("norm_topk_prob"),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.q_norm, self.k_norm = weights.head_norms(load, attention, c.head_dim, c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden) if c.dense[number] else None
        if self.dense is None:
            self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)


class Qwen3Moe(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=c.window)] * c.layers

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last = i + 1 == c.layers
            with pipe.scope(f"layers.{i}"):
                kv = self.kv(pipe, cache, i)
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                q = pipe.heads_to_cache(
                    q, k, v, layer.q_norm, layer.k_norm, turn, at.slots, at.positions, *kv, c.eps, window=c.window
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=c.window)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                if layer.dense is not None:
                    y = pipe.mlp(h, *layer.dense)
                else:
                    ids, mix = pipe.moe_router(h, layer.gate, c.top_k, c.norm_topk_prob, self.count(pipe, i))
                    y = pipe.experts(h, ids, mix, *layer.experts)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
