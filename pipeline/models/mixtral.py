"""Mixtral (Jiang et al. 2024; transformers' MixtralForCausalLM): Llama's attention, every layer a mixture of experts
whose weights add up to 1."""

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
    window: int  # one for all layers; 0: all positions

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        return cls(
            **f.shape(eps=1e-5),
            **f.mixture("num_local_experts"),
            expert_hidden=f.whole("intermediate_size"),
            window=f.window(),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        mlp = f"{prefix}.block_sparse_moe"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, f"{prefix}.self_attn", c)
        self.o_proj = load.matrix(f"{prefix}.self_attn.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
        self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden, names=("w1", "w3", "w2"))


class Mixtral(Decoder[Config, Layer]):
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
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"))
                q = pipe.heads_to_cache(
                    q,
                    k,
                    v,
                    None,
                    None,
                    turn,
                    at.slots,
                    at.positions,
                    *kv,
                    interleaved=self.rope.interleaved,
                    window=c.window,
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=c.window)
                o = pipe.linear(a, layer.o_proj, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                ids, mix = pipe.moe_router(h, layer.gate, c.top_k, True, self.count(pipe, i))
                y = pipe.experts(h, ids, mix, *layer.experts)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
