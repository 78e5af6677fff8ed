"""OLMo 2 and 3 (Ai2 2024, 2025; transformers' Olmo2ForCausalLM and Olmo3ForCausalLM), dense: norms behind both branches
in place of norms before them, queries and keys normed over all heads together. OLMo 3 has windows in most layers, and
scales the rotary embedding of the others alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    biased: bool
    output_biased: bool
    windows: tuple[int, ...]  # one per layer; 0: all positions

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        shape, third = f.shape(eps=1e-5), f.config["model_type"] == "olmo3"
        layers = shape["layers"]
        return cls(
            **shape,
            **f.biases(),
            mlp_hidden=f.whole("intermediate_size"),
            windows=f.windows(layers, lambda layer: (layer + 1) % 4 != 0) if third else (0,) * layers,
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention = f"{prefix}.self_attn"
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.q_norm, self.k_norm = weights.head_norms(load, attention, c.heads * c.head_dim, c.kv_heads * c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.attention_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.mlp = weights.dense(load, f"{prefix}.mlp", c.hidden, c.mlp_hidden)
        self.mlp_norm = load.array(f"{prefix}.post_feedforward_layernorm.weight", (c.hidden,))


class Olmo2(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=window) for window in c.windows]

    def prepare(self, fields: Fields) -> None:
        if fields.config["model_type"] == "olmo2":
            super().prepare(fields)
            self.ropes: tuple[Rope, ...] = (self.rope,)
            return
        config, dim = (
            fields.config | {"rope_parameters": self._parts(fields), "rope_scaling": None},
            self.config.head_dim,
        )
        self.ropes = (
            Rope.read(config, dim, fields.source, FULL, partial=False),
            Rope.read(config, dim, fields.source, SLIDING, partial=False),
        )

    @staticmethod
    def _parts(f: Fields) -> dict[str, dict[str, Any]]:
        """The rotary embedding of each type of layer, as OLMo 3's class concludes it: it gives a common `rope_theta` to
        the first type that has none."""
        given, scaling, made = f.part("rope_parameters"), f.part("rope_scaling").config, {}
        common = [f.given["rope_theta"]] if f.given.get("rope_theta") is not None else []
        for kind, more in ((FULL, scaling), (SLIDING, {})):
            part = (given.part(kind).config or {"rope_type": "default"}) | more
            part.setdefault("rope_type", part.get("type", "default"))
            if part.get("rope_theta") is None:
                part["rope_theta"] = common.pop() if common else 500000.0
            made[kind] = part
        return made

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turns = [
            pipe.rope_table(at.positions, rope, name) for rope, name in zip(self.ropes, ("rope_full", "rope_sliding"))
        ]
        for i, layer in enumerate(self.layers):
            last, window = i + 1 == c.layers, c.windows[i]
            with pipe.scope(f"layers.{i}"):
                kv, norms = self.kv(pipe, cache, i), (layer.q_norm, layer.k_norm)
                q, k, v = pipe.linear3(x, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                turn = turns[window > 0]
                q = pipe.heads_to_cache(
                    q, k, v, *norms, turn, at.slots, at.positions, *kv, c.eps, norm="all", window=window
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=window)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x = pipe.fused_norm_add(x, o, layer.attention_norm, c.eps, "attention_norm")
                y = pipe.mlp(x, *layer.mlp)
                x = pipe.fused_norm_add(x, y, layer.mlp_norm, c.eps, "mlp_norm")
        h = pipe.rms_norm(x, self.final_norm, c.eps, "final_norm")
        return pipe.linear(h, self.head, name="logits")
