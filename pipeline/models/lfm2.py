"""LFM2 and LFM2-MoE (Liquid AI 2025; transformers' Lfm2ForCausalLM and Lfm2MoeForCausalLM): gated short convolutions in
most layers, attention in the others; routing by sigmoid with a correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from ..printing import brief
from . import delta, short_conv, weights
from .cache import Cache, CacheLayer, StateLayer
from .cache import Layer as CachedLayer
from .decoder import Decoder, DecoderLayer
from .fields import FULL, Fields, Shape
from .loading import Loader
from .row_state import Rows

CONVOLUTION = ("conv", "linear_attention")  # transformers writes the second word since its version 5


@dataclass(frozen=True)
class Config(Shape):
    recurrent: tuple[bool, ...]  # per layer
    taps: int
    conv_biased: bool
    mlp_hidden: int
    leading_dense: int
    experts: int
    top_k: int
    expert_hidden: int
    norm_topk_prob: bool
    corrected: bool
    scale: float

    @classmethod
    def read(cls, f: Fields) -> Config:
        shape, mixture = f.shape(tied=True), f.config.get("model_type") == "lfm2_moe"
        layers = shape["layers"]
        kinds = f.kinds("layer_types", layers, (*CONVOLUTION, FULL))
        if not kinds:
            f.check(not mixture, "layer_types is missing; it must name the kind of each layer")
            attending = f.config.get("full_attn_idxs")
            attending = list(range(layers)) if attending is None else attending
            f.check(
                isinstance(attending, list), f"full_attn_idxs = {brief(attending)} is no list of layers; it is needed"
            )
            kinds = [FULL if layer in attending else CONVOLUTION[0] for layer in range(layers)]
        f.check(FULL in kinds, f"layer_types has no {FULL} among {layers} layers; at least one is needed")
        return cls(
            **shape | {"eps": f.number("norm_eps", 1e-5), "tied": f.flag("tie_embedding", shape["tied"])},
            **(f.mixture() if mixture else {"experts": 1, "top_k": 1}),
            recurrent=tuple(kind != FULL for kind in kinds),
            taps=delta.taps_of(f, "conv_L_cache", 3),
            conv_biased=f.flag("conv_bias"),
            mlp_hidden=f.whole("intermediate_size") if mixture else _mlp_hidden(f),
            leading_dense=f.whole("num_dense_layers", 2, least=0) if mixture else layers,
            expert_hidden=f.whole("moe_intermediate_size") if mixture else 0,
            norm_topk_prob=mixture and f.flag("norm_topk_prob", True),
            corrected=mixture and f.flag("use_expert_bias", True),
            scale=f.number("routed_scaling_factor", 1.0) if mixture else 1.0,
        )


def _mlp_hidden(f: Fields) -> int:
    """As Lfm2MLP computes it."""
    hidden = f.whole("block_ff_dim", f.whole("intermediate_size"))
    if not f.flag("block_auto_adjust_ff_dim", True):
        return hidden
    multiple, factor = f.whole("block_multiple_of", 256), f.number("block_ffn_dim_multiplier", 1.0)
    return multiple * ((int(factor * int(2 * hidden / 3)) + multiple - 1) // multiple)


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        self.input_norm = load.array(f"{prefix}.operator_norm.weight", (c.hidden,))
        self.post_norm = load.array(f"{prefix}.ffn_norm.weight", (c.hidden,))
        self.conv = (
            short_conv.Weights(load, f"{prefix}.conv", c.hidden, c.taps, c.conv_biased) if c.recurrent[number] else None
        )
        if self.conv is None:
            attention = f"{prefix}.self_attn"
            self.qkv = weights.qkv(load, attention, c)
            self.q_norm, self.k_norm = weights.head_norms(
                load, attention, c.head_dim, c.head_dim, ("q_layernorm", "k_layernorm")
            )
            self.o_proj = load.matrix(f"{attention}.out_proj", (c.hidden, c.heads * c.head_dim))
        mlp = f"{prefix}.feed_forward"
        names = weights.GATE_UP_DOWN if weights.has(load, f"{mlp}.gate_proj") else ("w1", "w3", "w2")  # MLX's or others
        self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden, names) if number < c.leading_dense else None
        if self.dense is None:
            self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
            self.correction = load.array(f"{mlp}.expert_bias", (c.experts,)) if c.corrected else None
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden, names)


class Lfm2(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer
    final_norm_name = "model.embedding_norm"

    def cache_layers(self) -> Sequence[CachedLayer]:
        c = self.config
        state = StateLayer(((c.taps - 1, c.hidden),))
        return [state if recurrent else CacheLayer(c.kv_heads, c.head_dim) for recurrent in c.recurrent]

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        links = pipe.row_links(at.slots, at.positions, cache.slots)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            leads = leading if i + 1 == c.layers else None
            with pipe.scope(f"layers.{i}"):
                if layer.conv is not None:
                    o = short_conv.layer(pipe, h, layer.conv, at, links, cache.state(i), leads)
                    if o is None:
                        return None
                else:
                    kv = self.kv(pipe, cache, i)
                    q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"))
                    norms = (layer.q_norm, layer.k_norm)
                    q = pipe.heads_to_cache(q, k, v, *norms, turn, at.slots, at.positions, *kv, c.eps)
                    if not pipe.lead(leads):
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
                        scale=c.scale,
                    )
                    y = pipe.experts(h, ids, mix, *layer.experts)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
