"""Phi-3.5-MoE (Microsoft 2024; transformers' PhimoeForCausalLM): layer norms with biases, longrope, and the routing of
SparseMixer, which chooses two experts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..graph.builder import Pipeline
from ..graph.tensors import Storage, Tensor
from ..printing import brief
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .rope import parameters, rope_type
from .row_state import Rows

LONG = ("longrope", "su")


@dataclass(frozen=True)
class Config(Shape):
    experts: int
    top_k: int  # SparseMixer's, whatever is said
    expert_hidden: int
    distance: float  # up to which a logit is near another one, relative to them
    window: int  # positions that a row sees; 0: all
    biased: bool
    output_biased: bool
    head_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        mixture = f.mixture("num_local_experts") | {"top_k": 2}
        f.check(mixture["experts"] > 1, "num_local_experts = 1, but two experts are chosen; it must be at least 2")
        jitter = 0.0 if f.config.get("router_jitter_noise") == 0 else f.number("router_jitter_noise", 0.01)
        return cls(
            **f.shape(eps=1e-5),
            **mixture,
            **f.biases(),
            expert_hidden=f.whole("intermediate_size"),
            distance=2 * jitter,
            window=f.window(),
            head_biased=f.flag("lm_head_bias"),
        )


class LayerNorm:
    """The weight and the bias of a layer norm, in f32."""

    def __init__(self, load: Loader, name: str, dim: int) -> None:
        self.weight, self.bias = (load.copied(f"{name}.{part}", (dim,)) for part in ("weight", "bias"))

    @property
    def parts(self) -> tuple[Storage, Storage]:
        return self.weight, self.bias


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention = f"{prefix}.self_attn"
        mlp = f"{prefix}.mlp" if weights.has(load, f"{prefix}.mlp.router") else f"{prefix}.block_sparse_moe"
        router = "router" if weights.has(load, f"{mlp}.router") else "gate"  # of published files
        self.first_norm = LayerNorm(load, f"{prefix}.input_layernorm", c.hidden)
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = LayerNorm(load, f"{prefix}.post_attention_layernorm", c.hidden)
        self.router = load.matrix(f"{mlp}.{router}", (c.experts, c.hidden))
        self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden, names=("w1", "w3", "w2"))


class Phimoe(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=c.window)] * c.layers

    def prepare(self, fields: Fields) -> None:
        super().prepare(fields)
        rope = parameters(fields.config, fields.source)
        if rope_type(rope) == "default":
            return
        if rope_type(rope) not in LONG:
            raise fields.unsupported(f"rope_type {brief(rope_type(rope))}", "; supported: default, longrope")
        trained = self.rope.positions or self.config.context
        missing = [key for key in ("short_mscale", "long_mscale") if rope.get(key) is None]
        fields.check(not missing, f"rope_parameters has no {' and no '.join(missing)}, which longrope needs here")
        self.rope = replace(self.rope, scale=Fields(rope, fields.source).number("short_mscale"), positions=trained)

    def load_more(self, load: Loader) -> None:
        c = self.config
        self.last_norm = LayerNorm(load, self.final_norm_name, c.hidden)
        self.head_bias = load.array("lm_head.bias", (c.vocab,)) if c.head_biased else None

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        h = pipe.layer_norm(x, *self.layers[0].first_norm.parts, c.eps, "layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            with pipe.scope(f"layers.{i}"):
                kv = self.kv(pipe, cache, i)
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
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
                    window=c.window,
                    interleaved=self.rope.interleaved,
                )
                if i + 1 == c.layers and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=c.window)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.residual_layer_norm(x, o, *layer.post_norm.parts, c.eps, "post_norm")
                logits = pipe.linear(h, layer.router, name="router.logits")
                ids, mix = pipe.mixer_routing(logits, c.distance, self.count(pipe, i), "router")
                y = pipe.experts(h, ids, mix, *layer.experts)
            behind = self.layers[i + 1].first_norm if i + 1 < c.layers else self.last_norm
            x, h = pipe.residual_layer_norm(x, y, *behind.parts, c.eps, f"layers.{i + 1}.input_norm")
        return pipe.linear(h, self.head, self.head_bias, name="logits")
