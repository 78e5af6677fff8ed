"""GLM-4-MoE (Zhipu AI 2025; transformers' Glm4MoeForCausalLM): leading dense layers, then mixtures of experts: sigmoid
scores with a correction for choosing, groups, and an expert that every token takes; and the families that differ from
it in settings, each of which has a line in KINDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Storage, Tensor
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .rope import Rope
from .routing import route
from .row_state import Rows


def _none(f: Fields, layers: int) -> tuple[int, ...]:
    return (0,) * layers


def _last_layers(f: Fields, layers: int) -> tuple[int, ...]:
    first = f.whole("max_window_layers", 62, least=0)
    return f.windows(layers, lambda layer: layer >= first)


def _by_pattern(f: Fields, layers: int) -> tuple[int, ...]:
    every = f.whole("sliding_window_pattern", 4)
    return f.windows(layers, lambda layer: (layer + 1) % every != 0)


@dataclass(frozen=True)
class Kind:
    """How a family differs from GLM-4-MoE.

    head_norms     whether queries and keys are normed by head; None: use_qk_norm says it
    partial        whether partial_rotary_factor says that a part of each head turns
    output_biased  whether attention_bias is one of the output, too
    windows        of the layers
    local_rope     whether rope is in layers with a window alone, where any layer has one
    layer_types    whether mlp_layer_types says which layers are without experts
    experts        the keys of the number of experts, and of those that every token takes
    """

    head_norms: bool | None = False
    partial: bool = False
    output_biased: bool = False
    windows: Callable[[Fields, int], tuple[int, ...]] = _none
    local_rope: bool = False
    layer_types: bool = False
    experts: tuple[str, str] = ("n_routed_experts", "n_shared_experts")


KINDS = {
    "glm4_moe": Kind(head_norms=None, partial=True),
    "glm4v_moe_text": Kind(partial=True),
    "solar_open": Kind(),
    "dots1": Kind(head_norms=True, output_biased=True, windows=_last_layers),
    "exaone_moe": Kind(
        head_norms=True,
        windows=_by_pattern,
        local_rope=True,
        layer_types=True,
        experts=("num_experts", "num_shared_experts"),
    ),
}


@dataclass(frozen=True)
class Config(Shape):
    kind: Kind
    experts: int
    top_k: int
    expert_hidden: int
    shared_hidden: int
    mlp_hidden: int
    dense: tuple[bool, ...]  # per layer: without experts
    groups: int
    top_groups: int
    norm_topk_prob: bool
    scale: float
    biased: bool
    output_biased: bool
    head_norms: bool
    windows: tuple[int, ...]  # one per layer; 0: all positions
    turning: tuple[bool, ...]  # one per layer: whether it has rope

    @classmethod
    def read(cls, f: Fields) -> Config:
        kind = KINDS[f.config["model_type"]]
        f.only(hidden_act="silu", scoring_func="sigmoid", topk_method="noaux_tc")
        shape, hidden = f.shape(eps=1e-5), f.whole("moe_intermediate_size")
        experts, shared = kind.experts
        windows, dense = kind.windows(f, shape["layers"]), f.leading_dense(shape["layers"], listed=kind.layer_types)
        local = kind.local_rope and f.config.get("sliding_window") is not None
        return cls(
            **shape,
            kind=kind,
            **f.mixture(experts),
            expert_hidden=hidden,
            shared_hidden=hidden * f.whole(shared, 1),
            mlp_hidden=f.whole("intermediate_size") if any(dense) else 0,
            dense=dense,
            groups=f.whole("n_group", 1),
            top_groups=f.whole("topk_group", 1),
            norm_topk_prob=f.flag("norm_topk_prob", True),
            scale=f.number("routed_scaling_factor", 1.0),
            **f.biases(output=kind.output_biased),
            head_norms=f.flag("use_qk_norm") if kind.head_norms is None else kind.head_norms,
            windows=windows,
            turning=tuple(window > 0 for window in windows) if local else (True,) * shape["layers"],
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.q_norm: Storage | None = None
        self.k_norm: Storage | None = None
        if c.head_norms:
            self.q_norm, self.k_norm = weights.head_norms(load, attention, c.head_dim, c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden) if c.dense[number] else None
        if self.dense is None:
            self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
            self.correction = weights.correction(load, mlp, c.experts)
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)
            self.shared = weights.dense(load, f"{mlp}.shared_experts", c.hidden, c.shared_hidden)


class Glm4Moe(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=window) for window in c.windows]

    def prepare(self, fields: Fields) -> None:
        pairs, c = self.checkpoint.layout.rope_pairs, self.config
        self.rope = Rope.read(
            fields.config, c.head_dim, fields.source, interleaved=pairs or None, partial=c.kind.partial
        )

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last, window = i + 1 == c.layers, c.windows[i]
            with pipe.scope(f"layers.{i}"):
                kv = self.kv(pipe, cache, i)
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                q = pipe.heads_to_cache(
                    q,
                    k,
                    v,
                    layer.q_norm,
                    layer.k_norm,
                    turn if c.turning[i] else None,
                    at.slots,
                    at.positions,
                    *kv,
                    c.eps,
                    window=window,
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=window)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                if layer.dense is not None:
                    y = pipe.mlp(h, *layer.dense)
                else:
                    ids, mix = route(pipe, h, layer, c, self.count(pipe, i))
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=layer.shared)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
