"""Granite-MoE (IBM 2024; transformers' GraniteMoeForCausalLM and GraniteMoeSharedForCausalLM): Llama's attention, a
softmax over the chosen experts alone, and constants that scale embedding, attention, residual branches and logits.

A branch is multiplied by m before it is added to x. Here x / m is carried instead, so that branches are added as they
are: norms do not see the factor but for their eps, which is divided by m².
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import weights
from .cache import Cache
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
    embedding: float
    attention: float
    residual: float
    logits: float
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu", position_embedding_type="rope")
        shared = (
            f.config.get("model_type") == "granitemoeshared"
        )  # the other class has no such expert, whatever is said
        return cls(
            **f.shape(),
            **f.mixture("num_local_experts"),
            **f.biases(),
            expert_hidden=f.whole("intermediate_size"),
            shared_hidden=f.whole("shared_intermediate_size", 0, least=0) if shared else 0,
            embedding=f.number("embedding_multiplier", 1.0),
            attention=f.number("attention_multiplier", 1.0),
            residual=f.number("residual_multiplier", 1.0),
            logits=f.number("logits_scaling", 1.0),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        mlp = f"{prefix}.block_sparse_moe"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, f"{prefix}.self_attn", c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, f"{prefix}.self_attn", c, c.kv_heads, c.head_dim)
        self.o_proj = load.matrix(f"{prefix}.self_attn.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.gate = load.matrix(f"{mlp}.router.layer", (c.experts, c.hidden))
        self.experts = experts(load, mlp, c.experts, c.hidden, c.expert_hidden)
        self.shared = shared_mlp(load, f"{prefix}.shared_mlp", c.hidden, c.shared_hidden) if c.shared_hidden else None


def experts(load: Loader, mlp: str, count: int, dim: int, hidden: int) -> weights.Stacks:
    """gate, up and down of the experts, gate and up in one stack as transformers has them."""
    if weights.has(load, f"{mlp}.input_linear"):
        return weights.halves(load, f"{mlp}.input_linear", f"{mlp}.output_linear", count, dim, hidden)
    return weights.experts(load, mlp, count, dim, hidden)


def shared_mlp(load: Loader, mlp: str, dim: int, hidden: int) -> weights.GateUpDown:
    """gate, up and down of the MLP that every row takes."""
    if weights.has(load, f"{mlp}.gate_proj"):  # GGUF
        return weights.dense(load, mlp, dim, hidden)
    return weights.halves(load, f"{mlp}.input_linear", f"{mlp}.output_linear", 0, dim, hidden)


class GraniteMoe(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at, eps = self.config, rows.tensors(pipe), self.config.eps / self.config.residual**2
        x = pipe.embed(at.tokens, self.embed, c.embedding / c.residual)
        turn = pipe.rope_table(at.positions, self.rope)
        h = pipe.rms_norm(x, self.layers[0].input_norm, eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last = i + 1 == c.layers
            with pipe.scope(f"layers.{i}"):
                kv = self.kv(pipe, cache, i)
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                q = pipe.heads_to_cache(
                    q, k, v, None, None, turn, at.slots, at.positions, *kv, interleaved=self.rope.interleaved
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, c.attention)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, eps, name="post_norm")
                ids, mix = pipe.moe_router(h, layer.gate, c.top_k, counts=self.count(pipe, i), softmax_after_topk=True)
                y = pipe.experts(h, ids, mix, *layer.experts, shared=layer.shared)
            x, h = self.next_norm(pipe, x, y, i, eps)
        return pipe.linear(h, self.head, name="logits", scale=1 / c.logits)
