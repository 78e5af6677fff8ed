"""Llama (Touvron et al. 2023; transformers' LlamaForCausalLM), dense: norms before attention and the gated MLP; and the
families that differ from it in settings, each of which has a line in KINDS.

Granite multiplies a branch by m before it is added to x. Here x / m is carried instead, as in granitemoe.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from ..printing import brief
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .query_scale import QueryScale
from .rope import Rope, parameters, rope_type
from .row_state import Rows

Windows: TypeAlias = Callable[[Fields, int], tuple[int, ...]]  # of each layer, 0 for all positions


def _none(f: Fields, layers: int) -> tuple[int, ...]:
    return (0,) * layers


def _everywhere(f: Fields, layers: int) -> tuple[int, ...]:
    return (f.window(),) * layers


def _by_type(f: Fields, layers: int) -> tuple[int, ...]:
    return f.windows(layers, lambda layer: True)


def _last_layers(f: Fields, layers: int) -> tuple[int, ...]:
    first = f.whole("max_window_layers", 28, least=0)
    return f.windows(layers, lambda layer: layer >= first, f.switched_window())


def _without_rope(f: Fields, layers: int) -> tuple[int, ...]:
    turning, listed = f.turning(layers), bool(f.config.get("layer_types"))
    window = None if listed else f.switched_window()  # a list asks no switch
    return f.windows(layers, lambda layer: not turning[layer], window)


@dataclass(frozen=True)
class Kind:
    """How a family differs from Llama.

    biases          the keys that say whether query, key and value, the output and the MLP have a bias; or a constant
    windows         of the layers
    rope_by_layer   layers without rope
    interleaved     whether rope turns neighbours; None: rope_interleave says it
    partial         whether partial_rotary_factor says that a part of each head turns
    fused           query, key and value in one matrix, gate and up in another
    multipliers     constants that scale embedding, attention, branches and logits
    alike           whether the biases of attention and of the MLP must be the same
    only            settings that the family has, but not here
    ropes           the types of rope that it has, where these are not all
    """

    biases: tuple[str | bool, str | bool, str | bool] = ("attention_bias", "attention_bias", "mlp_bias")
    windows: Windows = _none
    rope_by_layer: bool = False
    interleaved: bool | None = None
    partial: bool = False
    fused: bool = False
    multipliers: bool = False
    alike: bool = False
    only: tuple[str, ...] = ()
    ropes: tuple[str, ...] = ()


UNBIASED = (False, False, False)
KINDS = {
    "llama": Kind(),
    "mistral": Kind(UNBIASED, _everywhere),
    "ministral": Kind(UNBIASED, _by_type),
    "ministral3": Kind(UNBIASED, _everywhere),
    "qwen2": Kind((True, False, False), _last_layers),
    "seed_oss": Kind(("attention_bias", "attention_out_bias", "mlp_bias")),
    "internlm3": Kind(alike=True),
    "iquestcoder": Kind(only=("clip_qkv", "use_sliding_window")),
    "ernie4_5": Kind(("use_bias", "use_bias", "use_bias"), interleaved=True),
    "smollm3": Kind(windows=_without_rope, rope_by_layer=True),
    "phi3": Kind(UNBIASED, _everywhere, partial=True, fused=True, ropes=("default", "longrope", "su")),
    "granite": Kind(multipliers=True),
}


@dataclass(frozen=True)
class Config(Shape):
    kind: Kind
    mlp_hidden: int
    biased: bool
    output_biased: bool
    mlp_biased: bool
    windows: tuple[int, ...]  # one per layer; 0: all positions
    turning: tuple[bool, ...]  # one per layer: whether it has rope
    embedding: float
    attention: float
    residual: float
    logits: float

    @classmethod
    def read(cls, f: Fields) -> Config:
        kind = KINDS[f.config["model_type"]]
        f.only(hidden_act="silu", **dict.fromkeys(kind.only))
        shape = f.shape()
        layers = shape["layers"]
        inner, output, mlp = (key if isinstance(key, bool) else f.flag(key) for key in kind.biases)
        if kind.alike and len({inner, output, mlp}) > 1:
            raise f.unsupported(f"attention_bias = {inner} beside mlp_bias = {mlp}".lower(), "; they must be the same")
        embedding, attention, residual, logits = (
            f.number(f"{name}", 1.0) if kind.multipliers else default
            for name, default in (
                ("embedding_multiplier", 1.0),
                ("attention_multiplier", shape["head_dim"] ** -0.5),
                ("residual_multiplier", 1.0),
                ("logits_scaling", 1.0),
            )
        )
        return cls(
            **shape,
            kind=kind,
            mlp_hidden=f.whole("intermediate_size"),
            biased=inner,
            output_biased=output and f.has_output_bias,
            mlp_biased=mlp,
            windows=kind.windows(f, layers),
            turning=f.turning(layers) if kind.rope_by_layer else (True,) * layers,
            embedding=embedding,
            attention=attention,
            residual=residual,
            logits=logits,
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.fused_qkv(load, attention, c) if c.kind.fused else weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.mlp = (
            weights.halves(load, f"{mlp}.gate_up_proj", f"{mlp}.down_proj", 0, c.hidden, c.mlp_hidden)
            if c.kind.fused
            else weights.dense(load, mlp, c.hidden, c.mlp_hidden)
        )
        self.mlp_biases = weights.dense_biases(load, mlp, c.hidden, c.mlp_hidden, c.mlp_biased)


class Llama(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=window) for window in c.windows]

    def prepare(self, fields: Fields) -> None:
        kind, pairs = self.config.kind, self.checkpoint.layout.rope_pairs
        if kind.ropes and rope_type(parameters(fields.config, fields.source)) not in kind.ropes:
            found = brief(rope_type(parameters(fields.config, fields.source)))
            raise fields.unsupported(f"rope_type {found}", f"; supported: {', '.join(kind.ropes)}")
        self.rope = Rope.read(
            fields.config,
            self.config.head_dim,
            fields.source,
            interleaved=pairs or kind.interleaved,
            partial=kind.partial,
        )
        self.query_scale = QueryScale.read(fields) if fields.config["model_type"] == "ministral3" else None

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at, eps = self.config, rows.tensors(pipe), self.config.eps / self.config.residual**2
        x = pipe.embed(at.tokens, self.embed, c.embedding / c.residual)
        turn = pipe.rope_table(at.positions, self.rope)
        scaled = None if self.query_scale is None else self.query_scale.gate(pipe, at.positions)
        h = pipe.rms_norm(x, self.layers[0].input_norm, eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last, window = i + 1 == c.layers, c.windows[i]
            with pipe.scope(f"layers.{i}"):
                kv = self.kv(pipe, cache, i)
                names = ("q_proj", "k_proj", "v_proj")
                if self.query_scale is None or scaled is None:
                    q, k, v = pipe.linear3(h, layer.qkv, names, layer.qkv_bias)
                else:
                    q, k, v = self.query_scale.linear3(pipe, scaled, h, layer.qkv, names)
                q = pipe.heads_to_cache(
                    q,
                    k,
                    v,
                    None,
                    None,
                    turn if c.turning[i] else None,
                    at.slots,
                    at.positions,
                    *kv,
                    interleaved=self.rope.interleaved,
                    window=window,
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, c.attention, window=window)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, eps, name="post_norm")
                y = pipe.mlp(h, *layer.mlp, biases=layer.mlp_biases)
            x, h = self.next_norm(pipe, x, y, i, eps)
        return pipe.linear(h, self.head, name="logits", scale=1 / c.logits)
