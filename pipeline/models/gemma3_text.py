"""Gemma 3 (Gemma Team 2025; transformers' Gemma3ForCausalLM), dense: norms before and after both branches, whose
weights are around 0; windows in five of six layers, with a rotary embedding of their own."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import FULL, SLIDING, Fields, Shape
from .loading import Loader
from .rope import Rope
from .row_state import Rows


@dataclass(frozen=True)
class Config(Shape):
    mlp_hidden: int
    windows: tuple[int, ...]  # one per layer; 0: all positions
    scale: float
    score_softcap: float
    logit_softcap: float
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(use_bidirectional_attention=False)
        f.choice("hidden_activation", "gelu_pytorch_tanh")
        shape, every = f.shape(tied=True, head_dim=256), f.whole("sliding_window_pattern", 6)
        return cls(
            **shape,
            **f.biases(),
            mlp_hidden=f.whole("intermediate_size"),
            scale=f.number("query_pre_attn_scalar", 256.0) ** -0.5,
            windows=f.windows(shape["layers"], lambda layer: (layer + 1) % every != 0),
            score_softcap=f.number("attn_logit_softcapping", 0.0),
            logit_softcap=f.number("final_logit_softcapping", 0.0),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention = f"{prefix}.self_attn"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.q_norm, self.k_norm = weights.head_norms(load, attention, c.head_dim, c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_attention_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.pre_mlp_norm = load.array(f"{prefix}.pre_feedforward_layernorm.weight", (c.hidden,))
        self.mlp = weights.dense(load, f"{prefix}.mlp", c.hidden, c.mlp_hidden)
        self.post_mlp_norm = load.array(f"{prefix}.post_feedforward_layernorm.weight", (c.hidden,))


class Gemma3(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=window) for window in c.windows]

    def prepare(self, fields: Fields) -> None:
        dim, given = self.config.head_dim, fields.config.get("rope_parameters")
        parts = {kind: {"rope_type": "default"} for kind in (FULL, SLIDING)}  # transformers looks at no others here
        parts |= {kind: given[kind] for kind in parts if isinstance(given, dict) and given.get(kind)}
        config = fields.config | {"rope_parameters": parts}
        self.ropes = (
            Rope.read(config, dim, fields.source, FULL, theta=1e6, partial=False),
            Rope.read(config, dim, fields.source, SLIDING, partial=False),
        )

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        offset = 0.0 if self.checkpoint.layout.norms_plus_one else 1.0
        x = pipe.embed(at.tokens, self.embed, c.hidden**0.5)
        turns = [
            pipe.rope_table(at.positions, rope, name) for rope, name in zip(self.ropes, ("rope_full", "rope_sliding"))
        ]
        for i, layer in enumerate(self.layers):
            last, window = i + 1 == c.layers, c.windows[i]
            with pipe.scope(f"layers.{i}"):
                kv, turn = self.kv(pipe, cache, i), turns[window > 0]
                h = pipe.rms_norm(x, layer.input_norm, c.eps, name="input_norm", weight_offset=offset)
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                q = pipe.heads_to_cache(
                    q,
                    k,
                    v,
                    layer.q_norm,
                    layer.k_norm,
                    turn,
                    at.slots,
                    at.positions,
                    *kv,
                    c.eps,
                    weight_offset=offset,
                    window=window,
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, c.scale, window=window, softcap=c.score_softcap)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x = pipe.fused_norm_add(
                    x, o, layer.post_attention_norm, c.eps, "post_attention_norm", weight_offset=offset
                )
                h = pipe.rms_norm(x, layer.pre_mlp_norm, c.eps, "pre_mlp_norm", weight_offset=offset)
                y = pipe.mlp(h, *layer.mlp, activation="gelu_tanh")
                x = pipe.fused_norm_add(x, y, layer.post_mlp_norm, c.eps, "post_mlp_norm", weight_offset=offset)
        h = pipe.rms_norm(x, self.final_norm, c.eps, "final_norm", weight_offset=offset)
        return pipe.linear(h, self.head, name="logits", softcap=c.logit_softcap)
