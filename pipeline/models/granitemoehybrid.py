"""Granite 4 hybrid (IBM 2025; transformers' GraniteMoeHybridForCausalLM): Granite-MoE in which most layers are those of
Mamba-2, the others have attention, with rope or without positions. The branches are scaled as in granitemoe.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import granitemoe, mamba2, weights
from .cache import Cache, CacheLayer, StateLayer
from .cache import Layer as CachedLayer
from .decoder import Decoder, DecoderLayer
from .fields import FULL, Fields, Shape
from .loading import Loader
from .row_state import Rows

MAMBA = ("mamba", "linear_attention")  # transformers writes the second words since its version 5
ATTENTION = ("attention", FULL)


@dataclass(frozen=True)
class Config(Shape):
    recurrent: tuple[bool, ...]  # per layer
    mamba: mamba2.Sizes
    turning: bool  # whether heads turn by their position
    sparse: bool  # whether there are experts
    experts: int
    top_k: int
    expert_hidden: int
    shared_hidden: int
    embedding: float
    attention: float
    residual: float
    logits: float
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        f.choice("position_embedding_type", "rope", "nope")
        shape = f.shape()
        layers, sparse = shape["layers"], f.whole("num_local_experts", 8, least=0) > 0
        kinds = f.kinds("layer_types", layers, (*MAMBA, *ATTENTION)) or f.kinds(
            "layers_block_type", layers, (*MAMBA, *ATTENTION)
        )
        f.check(
            any(kind in ATTENTION for kind in kinds),
            f"layer_types has no attention among {layers} layers; at least one is needed",
        )
        return cls(
            **shape,
            **(f.mixture("num_local_experts") if sparse else {"experts": 1, "top_k": 1}),
            **f.biases(),
            recurrent=tuple(kind in MAMBA for kind in kinds),
            mamba=mamba2.Sizes.read(f, shape["hidden"], shape["eps"]),
            turning=f.config.get("position_embedding_type") == "rope",
            sparse=sparse,
            expert_hidden=f.whole("intermediate_size") if sparse else 0,
            shared_hidden=f.whole("shared_intermediate_size", 1024),
            embedding=f.number("embedding_multiplier", 1.0),
            attention=f.number("attention_multiplier", 1.0),
            residual=f.number("residual_multiplier", 1.0),
            logits=f.number("logits_scaling", 1.0),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        mlp, attention = f"{prefix}.block_sparse_moe", f"{prefix}.self_attn"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.mamba = mamba2.Weights(load, f"{prefix}.mamba", c.mamba) if c.recurrent[number] else None
        if self.mamba is None:
            self.qkv = weights.qkv(load, attention, c)
            self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
            self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        plain = weights.has(load, f"{prefix}.mlp.gate_proj")  # as MLX has it where there are no experts
        shared = f"{prefix}.mlp" if plain else f"{prefix}.shared_mlp"
        self.shared = granitemoe.shared_mlp(load, shared, c.hidden, c.shared_hidden)
        if c.sparse:
            self.gate = load.matrix(f"{mlp}.router.layer", (c.experts, c.hidden))
            self.experts = granitemoe.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)


class GraniteMoeHybrid(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> Sequence[CachedLayer]:
        c = self.config
        return [
            StateLayer(c.mamba.states) if recurrent else CacheLayer(c.kv_heads, c.head_dim) for recurrent in c.recurrent
        ]

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at, eps = self.config, rows.tensors(pipe), self.config.eps / self.config.residual**2
        x = pipe.embed(at.tokens, self.embed, c.embedding / c.residual)
        turn = pipe.rope_table(at.positions, self.rope) if c.turning else None
        links = pipe.row_links(at.slots, at.positions, cache.slots)
        h = pipe.rms_norm(x, self.layers[0].input_norm, eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            leads = leading if i + 1 == c.layers else None
            with pipe.scope(f"layers.{i}"):
                if layer.mamba is not None:
                    o = mamba2.layer(pipe, h, layer.mamba, c.mamba, at, links, cache.state(i), leads)
                    if o is None:
                        return None
                else:
                    kv = self.kv(pipe, cache, i)
                    q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                    q = pipe.heads_to_cache(
                        q, k, v, None, None, turn, at.slots, at.positions, *kv, interleaved=self.rope.interleaved
                    )
                    if not pipe.lead(leads):
                        return None
                    a = pipe.attention(q, *kv, at.slots, at.positions, c.attention)
                    o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, eps, name="post_norm")
                if c.sparse:
                    counts = self.count(pipe, i)
                    ids, mix = pipe.moe_router(h, layer.gate, c.top_k, counts=counts, softmax_after_topk=True)
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=layer.shared)
                else:
                    y = pipe.mlp(h, *layer.shared)
            x, h = self.next_norm(pipe, x, y, i, eps)
        return pipe.linear(h, self.head, name="logits", scale=1 / c.logits)
