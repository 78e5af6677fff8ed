"""OLMoE (Muennighoff et al. 2024; transformers' OlmoeForCausalLM): queries and keys normed over all heads together,
every layer a mixture of experts with softmax routing."""

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
    norm_topk_prob: bool
    clip: float  # queries, keys and values are cut off there; 0: nowhere
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        return cls(
            **f.shape(eps=1e-5),
            **f.mixture(),
            **f.biases(),
            expert_hidden=f.whole("intermediate_size"),
            norm_topk_prob=f.flag("norm_topk_prob"),
            clip=f.number("clip_qkv", 0.0),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.q_norm, self.k_norm = weights.head_norms(load, attention, c.heads * c.head_dim, c.kv_heads * c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
        self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)


class Olmoe(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

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
                norms = (layer.q_norm, layer.k_norm)
                q = pipe.heads_to_cache(
                    q, k, v, *norms, turn, at.slots, at.positions, *kv, c.eps, norm="all", clip=c.clip
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                ids, mix = pipe.moe_router(h, layer.gate, c.top_k, c.norm_topk_prob, self.count(pipe, i))
                y = pipe.experts(h, ids, mix, *layer.experts)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
