"""Trinity (Arcee 2025; transformers' AfmoeForCausalLM): a gate on attention's output, norms before and after both
branches, windows in most layers, no rope in the others; leading dense layers, then mixtures of experts: sigmoid scores
with a correction for choosing, and experts that every token takes."""

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
    shared_hidden: int  # 0: no expert that every token takes
    mlp_hidden: int
    leading_dense: int
    scale: float
    embedding: float
    biased: bool
    output_biased: bool
    windows: tuple[int, ...]  # one per layer; 0: all positions
    turning: tuple[bool, ...]  # one per layer: whether it has rope

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu", score_func="sigmoid", route_norm=True)
        shape, hidden = f.shape(eps=1e-5), f.whole("moe_intermediate_size")
        leading, every = f.whole("num_dense_layers", 0, least=0), f.whole("global_attn_every_n_layers", 4)
        windows, local = (
            f.windows(shape["layers"], lambda layer: (layer + 1) % every != 0, window) for window in (None, 1)
        )
        return cls(
            **shape,
            **f.mixture(),
            **f.biases(),
            expert_hidden=hidden,
            shared_hidden=hidden * f.whole("num_shared_experts", 0, least=0),
            mlp_hidden=f.whole("intermediate_size") if leading else 0,
            leading_dense=leading,
            scale=f.number("route_scale", 1.0),
            embedding=shape["hidden"] ** 0.5 if f.flag("mup_enabled") else 1.0,
            windows=windows,
            turning=tuple(each > 0 for each in local),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        names = ("input", "post_attention", "pre_mlp", "post_mlp")
        (self.input_norm, self.attention_norm, self.pre_mlp_norm, self.mlp_norm) = (
            load.array(f"{prefix}.{name}_layernorm.weight", (c.hidden,)) for name in names
        )
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.q_norm, self.k_norm = weights.head_norms(load, attention, c.head_dim, c.head_dim)
        self.gate_proj = load.matrix(f"{attention}.gate_proj", (c.heads * c.head_dim, c.hidden))
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden) if number < c.leading_dense else None
        if self.dense is None:
            self.router = load.matrix(f"{mlp}.router.gate", (c.experts, c.hidden))
            self.correction = weights.correction(load, mlp, c.experts)
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)
            self.shared = None
            if c.shared_hidden:
                self.shared = weights.dense(load, f"{mlp}.shared_experts", c.hidden, c.shared_hidden)


class Afmoe(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=window) for window in c.windows]

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed, c.embedding)
        turn = pipe.rope_table(at.positions, self.rope)
        for i, layer in enumerate(self.layers):
            last, window = i + 1 == c.layers, c.windows[i]
            with pipe.scope(f"layers.{i}"):
                kv, norms = self.kv(pipe, cache, i), (layer.q_norm, layer.k_norm)
                h = pipe.rms_norm(x, layer.input_norm, c.eps, "input_norm")
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                table = turn if c.turning[i] else None
                q = pipe.heads_to_cache(q, k, v, *norms, table, at.slots, at.positions, *kv, c.eps, window=window)
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=window)
                gate = pipe.linear(h, layer.gate_proj, name="gate_proj")
                a = pipe.sigmoid_gate(a, gate, c.heads, name="gate")
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x = pipe.fused_norm_add(x, o, layer.attention_norm, c.eps, "attention_norm")
                h = pipe.rms_norm(x, layer.pre_mlp_norm, c.eps, "pre_mlp_norm")
                if layer.dense is not None:
                    y = pipe.mlp(h, *layer.dense)
                else:
                    ids, mix = pipe.moe_router(
                        h,
                        layer.router,
                        c.top_k,
                        counts=self.count(pipe, i),
                        scoring="sigmoid",
                        correction=layer.correction,
                        scale=c.scale,
                    )
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=layer.shared)
                x = pipe.fused_norm_add(x, y, layer.mlp_norm, c.eps, "mlp_norm")
        h = pipe.rms_norm(x, self.final_norm, c.eps, "final_norm")
        return pipe.linear(h, self.head, name="logits")
