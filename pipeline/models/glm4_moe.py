"""GLM-4-MoE (Zhipu AI 2025; transformers' Glm4MoeForCausalLM): rotary embedding of half a head, leading dense layers,
then mixtures of experts: sigmoid scores with a correction for choosing, groups, and an expert that every token
takes."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Storage, Tensor
from . import weights
from .cache import Cache
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .row_state import Rows


@dataclass(frozen=True)
class Config(Shape):
    experts: int
    top_k: int
    expert_hidden: int
    shared_hidden: int
    mlp_hidden: int
    leading_dense: int
    groups: int
    top_groups: int
    norm_topk_prob: bool
    scale: float
    biased: bool
    output_biased: bool
    head_norms: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu", scoring_func="sigmoid", topk_method="noaux_tc")
        hidden = f.whole("moe_intermediate_size")
        return cls(
            **f.shape(eps=1e-5),
            **f.mixture("n_routed_experts"),
            expert_hidden=hidden,
            shared_hidden=hidden * f.whole("n_shared_experts", 1),
            mlp_hidden=f.whole("intermediate_size"),
            leading_dense=f.whole("first_k_dense_replace", 1, least=0),
            groups=f.whole("n_group", 1),
            top_groups=f.whole("topk_group", 1),
            norm_topk_prob=f.flag("norm_topk_prob", True),
            scale=f.number("routed_scaling_factor", 1.0),
            **f.biases(output=False),
            head_norms=f.flag("use_qk_norm"),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, _ = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.q_norm: Storage | None = None
        self.k_norm: Storage | None = None
        if c.head_norms:
            self.q_norm, self.k_norm = weights.head_norms(load, attention, c.head_dim, c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden) if number < c.leading_dense else None
        if self.dense is None:
            self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
            self.correction = load.array(f"{mlp}.gate.e_score_correction_bias", (c.experts,))
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)
            self.shared = weights.dense(load, f"{mlp}.shared_experts", c.hidden, c.shared_hidden)


class Glm4Moe(Decoder[Config, Layer]):
    config_class, layer_class, partial_rope = Config, Layer, True

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
                q = pipe.heads_to_cache(q, k, v, layer.q_norm, layer.k_norm, turn, at.slots, at.positions, *kv, c.eps)
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions)
                o = pipe.linear(a, layer.o_proj, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                if layer.dense is not None:
                    y = pipe.mlp(h, *layer.dense)
                else:
                    ids, mix = pipe.moe_router(
                        h,
                        layer.gate,
                        c.top_k,
                        c.norm_topk_prob,
                        self.count(pipe, i),
                        scoring="sigmoid",
                        correction=layer.correction,
                        groups=c.groups,
                        top_groups=c.top_groups,
                        group_score="top2",
                        scale=c.scale,
                    )
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=layer.shared)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
