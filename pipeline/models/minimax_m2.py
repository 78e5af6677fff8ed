"""MiniMax-M2 (MiniMax 2025; transformers' MiniMaxM2ForCausalLM): queries and keys normed over all heads together, rope
of a part of each head, every layer a mixture of experts: sigmoid scores with a correction for choosing."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
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

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu", scoring_func="sigmoid", use_qk_norm=True, qk_norm_type="per_layer")
        f.only(use_routing_bias=True, shared_intermediate_size=0)
        kinds = f.config.get("attn_type_list")
        if kinds is not None and (not isinstance(kinds, list) or any(kind != 1 for kind in kinds)):
            raise f.unsupported("attn_type_list", "; it must have 1 for each layer, which is full attention")
        return cls(**f.shape(), **f.mixture("num_local_experts"), expert_hidden=f.whole("intermediate_size"))


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.block_sparse_moe"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.q_norm, self.k_norm = weights.head_norms(load, attention, c.heads * c.head_dim, c.kv_heads * c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
        self.correction = weights.correction(load, mlp, c.experts)
        self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden, names=("w1", "w3", "w2"))


class MiniMaxM2(Decoder[Config, Layer]):
    config_class, layer_class, partial_rope = Config, Layer, True

    def prepare(self, fields: Fields) -> None:
        turned = fields.config.get("rotary_dim")  # as published files say it
        if turned is not None and fields.config.get("partial_rotary_factor") is None:
            share = fields.whole("rotary_dim") / self.config.head_dim
            fields = fields.with_values(partial_rotary_factor=share)
        super().prepare(fields)

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            with pipe.scope(f"layers.{i}"):
                kv = self.kv(pipe, cache, i)
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"))
                norms = (layer.q_norm, layer.k_norm)
                q = pipe.heads_to_cache(q, k, v, *norms, turn, at.slots, at.positions, *kv, c.eps, norm="all")
                if i + 1 == c.layers and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions)
                o = pipe.linear(a, layer.o_proj, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                gate, count, by = layer.gate, self.count(pipe, i), layer.correction
                ids, mix = pipe.moe_router(h, gate, c.top_k, counts=count, scoring="sigmoid", correction=by)
                y = pipe.experts(h, ids, mix, *layer.experts)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
