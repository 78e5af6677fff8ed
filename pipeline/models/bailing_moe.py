"""Ling and Ring 2.0 (inclusionAI 2025; BailingMoeV2ForCausalLM, whose code lies beside the published weights): one
matrix for query, key and value, which are normed by head, rope of a part of each head; leading dense layers, then
mixtures of experts: sigmoid scores with a correction for choosing, groups, and experts that every token takes."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Storage, Tensor
from . import weights
from .cache import Cache
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .routing import route
from .row_state import Rows


@dataclass(frozen=True)
class Config(Shape):
    experts: int
    top_k: int
    expert_hidden: int
    shared_hidden: int  # 0: no expert that every token takes
    mlp_hidden: int
    dense: tuple[bool, ...]  # per layer: without experts
    scoring: str
    corrected: bool
    groups: int
    top_groups: int
    norm_topk_prob: bool
    scale: float
    head_norms: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu", use_bias=False, use_qkv_bias=False, norm_head=False, norm_softmax=False)
        f.only(moe_router_enable_shared_expert=True, use_sliding_window=False)
        shape, hidden = f.shape(), f.whole("moe_intermediate_size")
        mixture, dense = f.mixture(), f.leading_dense(shape["layers"], listed=False)
        groups = f.whole("n_group", 1)
        return cls(
            **shape,
            **mixture,
            expert_hidden=hidden,
            shared_hidden=f.whole("moe_shared_expert_intermediate_size", hidden)
            * f.whole("num_shared_experts", 0, least=0),
            mlp_hidden=f.whole("intermediate_size") if any(dense) else 0,
            dense=dense,
            scoring=f.choice("score_function", "softmax", "sigmoid"),
            corrected=f.flag("moe_router_enable_expert_bias"),
            groups=groups,
            top_groups=f.whole("topk_group", 1) if groups > 1 else 1,
            norm_topk_prob=f.flag("norm_topk_prob", True) and mixture["top_k"] > 1,
            scale=f.number("routed_scaling_factor", 1.0),
            head_norms=f.flag("use_qk_norm"),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.attention", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.fused_qkv(load, attention, c, "query_key_value")
        self.q_norm: Storage | None = None
        self.k_norm: Storage | None = None
        if c.head_norms:
            names = [(f"{attention}.{name}_layernorm.weight", (c.head_dim,)) for name in ("query", "key")]
            self.q_norm, self.k_norm = load.alike(names)
        self.o_proj = load.matrix(f"{attention}.dense", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden) if c.dense[number] else None
        if self.dense is None:
            gate = (
                f"{mlp}.gate.gate_proj" if weights.has(load, f"{mlp}.gate.gate_proj") else f"{mlp}.gate"
            )  # MLX's name
            self.gate = load.matrix(gate, (c.experts, c.hidden))
            self.correction = weights.correction(load, mlp, c.experts) if c.corrected else None
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)
            self.shared = None
            if c.shared_hidden:
                self.shared = weights.dense(load, f"{mlp}.shared_experts", c.hidden, c.shared_hidden)


class BailingMoe(Decoder[Config, Layer]):
    config_class, layer_class, partial_rope = Config, Layer, True
    embedding = "model.word_embeddings"

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last = i + 1 == c.layers
            with pipe.scope(f"layers.{i}"):
                kv, norms = self.kv(pipe, cache, i), (layer.q_norm, layer.k_norm)
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"))
                q = pipe.heads_to_cache(q, k, v, *norms, turn, at.slots, at.positions, *kv, c.eps)
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions)
                o = pipe.linear(a, layer.o_proj, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                if layer.dense is not None:
                    y = pipe.mlp(h, *layer.dense)
                else:
                    ids, mix = route(pipe, h, layer, c, self.count(pipe, i), c.scoring)
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=layer.shared)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
