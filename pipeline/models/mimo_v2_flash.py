"""MiMo-V2-Flash (Xiaomi 2025; transformers' MiMoV2FlashForCausalLM): windows in most layers, which have sinks, twice as
many key-value heads and a rotary embedding of their own; values of another size than keys, and scaled; mixtures of
experts: sigmoid scores with a correction for choosing, and groups."""

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
from .routing import route
from .row_state import Rows

TURNING = 0.334  # of a head, where nothing says it


@dataclass(frozen=True)
class Config(Shape):
    v_dim: int
    experts: int
    top_k: int
    expert_hidden: int
    mlp_hidden: int
    dense: tuple[bool, ...]  # per layer: without experts
    groups: int
    top_groups: int
    norm_topk_prob: bool
    scale: float
    value_scale: float
    biased: bool
    output_biased: bool
    windows: tuple[int, ...]  # one per layer; 0: all positions

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu", scoring_func="sigmoid", topk_method="noaux_tc")
        shape = f.shape(eps=1e-5, head_dim=192)
        layers = shape["layers"]
        seen = f.whole("sliding_window_size", 0) if f.config.get("sliding_window_size") is not None else 0
        window = seen + 1 if seen else f.whole("sliding_window")
        kinds = f.kinds("mlp_layer_types", layers, ("dense", "sparse")) or ["dense", *["sparse"] * (layers - 1)]
        dense = tuple(kind == "dense" for kind in kinds)
        windows = f.windows(layers, lambda layer: layer > 0 and (layer + 1) % 6 != 0, window)
        f.check(
            not any(windows) or shape["heads"] % (2 * shape["kv_heads"]) == 0,
            f"num_attention_heads = {shape['heads']} must be a multiple of twice num_key_value_heads = "
            f"{shape['kv_heads']}, which layers with a window have",
        )
        return cls(
            **shape,
            **f.mixture("n_routed_experts"),
            **f.biases(output=False),
            v_dim=f.dim("v_head_dim", 128),
            expert_hidden=f.whole("moe_intermediate_size"),
            mlp_hidden=f.whole("intermediate_size") if any(dense) else 0,
            dense=dense,
            groups=f.whole("n_group", 1),
            top_groups=f.whole("topk_group", 1),
            norm_topk_prob=f.flag("norm_topk_prob", True),
            scale=f.number("routed_scaling_factor", 1.0),
            value_scale=f.number("attention_value_scale", 1.0),
            windows=windows,
        )

    def kv_heads_of(self, layer: int) -> int:
        return self.kv_heads * 2 if self.windows[layer] else self.kv_heads


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp, kv_heads = f"{prefix}.self_attn", f"{prefix}.mlp", c.kv_heads_of(number)
        sizes = {"q": c.heads * c.head_dim, "k": kv_heads * c.head_dim, "v": kv_heads * c.v_dim}
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = [load.matrix(f"{attention}.{part}_proj", (n, c.hidden)) for part, n in sizes.items()]
        self.qkv_bias = [
            load.array(f"{attention}.{part}_proj.bias", (n,)) if c.biased else None for part, n in sizes.items()
        ]
        self.sinks = None
        if c.windows[number]:
            names = (f"{attention}.attention_sink_bias", f"{attention}.sinks")
            self.sinks = load.array(next((name for name in names if load.has(name)), names[0]), (c.heads,))
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.v_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden) if c.dense[number] else None
        if self.dense is None:
            self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
            self.correction = weights.correction(load, mlp, c.experts)
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)


class MiMoV2Flash(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads_of(i), c.head_dim, c.v_dim, window) for i, window in enumerate(c.windows)]

    def prepare(self, fields: Fields) -> None:
        """A rotary embedding for each type of layer; nothing outside of these parts says anything of it."""
        given, parts = fields.part("rope_parameters"), {}
        for kind, theta in ((FULL, 5e6), (SLIDING, 1e4)):
            part = dict(given.part(kind).config)
            if given.config:
                fields.check(bool(part), f"rope_parameters has no entry for {kind}; it is needed")
            elif not part:
                part = {"rope_theta": theta}
            if part.get("rope_type", part.get("type", "default")) == "default":
                part.setdefault("partial_rotary_factor", TURNING)
            parts[kind] = part
        config = {"rope_parameters": parts, "max_position_embeddings": self.config.context}
        self.ropes = tuple(Rope.read(config, self.config.head_dim, fields.source, kind) for kind in parts)

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turns = [
            pipe.rope_table(at.positions, rope, name) for rope, name in zip(self.ropes, ("rope_full", "rope_sliding"))
        ]
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last, window = i + 1 == c.layers, c.windows[i]
            with pipe.scope(f"layers.{i}"):
                kv, turn = self.kv(pipe, cache, i), turns[window > 0]
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                q = pipe.heads_to_cache(q, k, v, None, None, turn, at.slots, at.positions, *kv, window=window)
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=window, sinks=layer.sinks)
                o = pipe.linear(a, layer.o_proj, name="o_proj", scale=c.value_scale)  # as if values were scaled
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                if layer.dense is not None:
                    y = pipe.mlp(h, *layer.dense)
                else:
                    ids, mix = route(pipe, h, layer, c, self.count(pipe, i))
                    y = pipe.experts(h, ids, mix, *layer.experts)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
