"""Hunyuan V1 (Tencent 2025; transformers' HunYuanDenseV1ForCausalLM and HunYuanMoEV1ForCausalLM): queries and keys are
normed behind their rotary embedding; every layer of a mixture has an expert that every token takes beside the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import weights
from .cache import Cache
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .rope import parameters, rope_type
from .row_state import Rows


@dataclass(frozen=True)
class Config(Shape):
    experts: int  # 0: dense
    top_k: int
    mlp_hidden: int  # of the MLP, and of each expert
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        mixture: dict[str, Any] = {"experts": 0, "top_k": 0}
        if f.config["model_type"] == "hunyuan_v1_moe":
            for key in ("num_experts", "moe_topk", "moe_intermediate_size", "num_shared_expert"):
                if isinstance(f.config.get(key), list):
                    f = f.with_values(**{key: cls._same(f, key)})
            hidden, shared = f.config.get("moe_intermediate_size"), f.config.get("num_shared_expert")
            f.only(use_mixed_mlp_moe=True, use_qk_norm=True, use_cla=False)
            if hidden not in (None, f.config.get("intermediate_size")):
                raise f.unsupported(f"moe_intermediate_size = {hidden}", "; it must be intermediate_size")
            if shared not in (None, 1):
                raise f.unsupported(f"num_shared_expert = {shared}", "; it must be 1")
            mixture = f.mixture("num_experts", "moe_topk")
        return cls(**f.shape(eps=1e-5), **mixture, **f.biases(), mlp_hidden=f.whole("intermediate_size"))

    @staticmethod
    def _same(f: Fields, key: str) -> Any:
        """The one value of a list with one entry for each layer."""
        values = f.config[key]
        if not values or any(value != values[0] for value in values):
            raise f.unsupported(f"{key} that differs by layer")
        return values[0]


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.q_norm, self.k_norm = load.alike(
            [(f"{attention}.{name}_layernorm.weight", (c.head_dim,)) for name in ("query", "key")]
        )
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.mlp = weights.dense(load, f"{mlp}.shared_mlp" if c.experts else mlp, c.hidden, c.mlp_hidden)
        if c.experts:
            self.gate = load.matrix(f"{mlp}.gate.wg", (c.experts, c.hidden))
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.mlp_hidden)


class Hunyuan(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def prepare(self, fields: Fields) -> None:
        """`alpha` stretches the base of rope, whatever the length of the text."""
        rope, dim = parameters(fields.config, fields.source), self.config.head_dim
        if rope_type(rope) == "dynamic" and rope.get("alpha"):
            part = Fields(rope, fields.source)
            theta = part.number("rope_theta", fields.number("rope_theta", 10000.0))
            plain = {"rope_type": "default", "rope_theta": theta * part.number("alpha") ** (dim / max(dim - 2, 1))}
            fields = fields.with_values(rope_parameters=plain, rope_scaling=None)
        super().prepare(fields)

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
                q = pipe.heads(q, c.heads, table=turn, name="turned_q")
                k = pipe.heads(k, c.kv_heads, table=turn, name="turned_k")
                q = pipe.heads_to_cache(q, k, v, layer.q_norm, layer.k_norm, None, at.slots, at.positions, *kv, c.eps)
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                if c.experts:
                    ids, mix = pipe.moe_router(h, layer.gate, c.top_k, counts=self.count(pipe, i))
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=layer.mlp)
                else:
                    y = pipe.mlp(h, *layer.mlp)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
