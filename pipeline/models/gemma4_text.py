"""Gemma 4 (Google DeepMind 2026; transformers' Gemma4ForCausalLM), mixture of experts: a dense branch beside the
experts, norms before and after all of them, windows in most layers, heads of another size in the others."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import SLIDING, Fields, Shape
from .loading import Loader
from .rope import Rope
from .row_state import Rows


@dataclass(frozen=True)
class Config(Shape):
    experts: int
    top_k: int
    expert_hidden: int
    mlp_hidden: int
    windows: tuple[int, ...]  # one per layer; 0: all positions
    global_kv_heads: int  # layers that see all positions have these
    global_head_dim: int
    keys_are_values: bool  # in those layers
    logit_softcap: float
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(enable_moe_block=True, hidden_size_per_layer_input=0, num_kv_shared_layers=0, use_double_wide_mlp=False)
        f.choice("use_bidirectional_attention", "vision")  # among the tokens of an image
        f.choice("hidden_activation", "gelu_pytorch_tanh")
        shape, same = f.shape(tied=True, head_dim=256), f.flag("attention_k_eq_v")
        windows = f.windows(shape["layers"], lambda layer: (layer + 1) % 6 != 0)
        windows = (*windows[:-1], 0)  # the last layer sees all positions, whatever is said
        f.check(0 in windows and any(windows), "layer_types must have layers with a window and layers without")
        own = f.part("per_layer_config").part(str(windows.index(0)))  # as transformers writes it since 5.20
        heads = own.whole("num_key_value_heads", f.whole("num_global_key_value_heads", shape["kv_heads"]))
        return cls(
            **shape,
            **f.mixture(top_k="top_k_experts"),
            **f.biases(),
            expert_hidden=f.whole("moe_intermediate_size"),
            mlp_hidden=f.whole("intermediate_size"),
            windows=windows,
            keys_are_values=same,
            global_kv_heads=heads if same else shape["kv_heads"],
            global_head_dim=own.dim("head_dim", f.dim("global_head_dim", 512)),
            logit_softcap=f.number("final_logit_softcapping", 0.0),
        )

    def heads_of(self, layer: int) -> tuple[int, int]:
        """(key-value heads, head_dim)."""
        return (self.kv_heads, self.head_dim) if self.windows[layer] else (self.global_kv_heads, self.global_head_dim)


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, (kv_heads, dim) = f"{prefix}.self_attn", c.heads_of(number)
        shared = c.keys_are_values and not c.windows[number]
        q, k = (
            load.matrix(f"{attention}.{part}_proj", (n * dim, c.hidden))
            for part, n in (("q", c.heads), ("k", kv_heads))
        )
        self.qkv = (q, k, k if shared else load.matrix(f"{attention}.v_proj", (kv_heads * dim, c.hidden)))
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, kv_heads, dim, value=not shared)
        self.q_norm, self.k_norm = weights.head_norms(load, attention, dim, dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * dim))
        self.mlp = weights.dense(load, f"{prefix}.mlp", c.hidden, c.mlp_hidden)
        self.experts = weights.experts(load, prefix, c.experts, c.hidden, c.expert_hidden)
        self.router_scale = load.array(f"{prefix}.router.scale", (c.hidden,))
        self.router = load.matrix(f"{prefix}.router.proj", (c.experts, c.hidden))
        self.expert_scale = load.array(f"{prefix}.router.per_expert_scale", (c.experts,))
        names = ("input", "post_attention", "pre_feedforward", "post_feedforward")
        (self.input_norm, self.post_attention_norm, self.pre_mlp_norm, self.post_norm) = (
            load.array(f"{prefix}.{name}_layernorm.weight", (c.hidden,)) for name in names
        )
        more = ("post_feedforward_layernorm_1", "pre_feedforward_layernorm_2", "post_feedforward_layernorm_2")
        (self.post_mlp_norm, self.pre_experts_norm, self.post_experts_norm) = (
            load.array(f"{prefix}.{name}.weight", (c.hidden,)) for name in more
        )
        self.scalar = load.array(f"{prefix}.layer_scalar", (1,))


class Gemma4(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(*c.heads_of(i), window=window) for i, window in enumerate(c.windows)]

    def prepare(self, fields: Fields) -> None:
        c, config = self.config, fields.config | {"rope_scaling": None}  # transformers does not look at it here
        self.ropes = (
            Rope.read(config, c.global_head_dim, fields.source, "full_attention", theta=1e6),
            Rope.read(config, c.head_dim, fields.source, SLIDING),
        )

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed, c.hidden**0.5)
        turns = [
            pipe.rope_table(at.positions, rope, name) for rope, name in zip(self.ropes, ("rope_full", "rope_sliding"))
        ]
        for i, layer in enumerate(self.layers):
            last, window = i + 1 == c.layers, c.windows[i]
            with pipe.scope(f"layers.{i}"):
                kv, turn = self.kv(pipe, cache, i), turns[window > 0]
                h = pipe.rms_norm(x, layer.input_norm, c.eps, name="input_norm")
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                q = pipe.heads_to_cache(
                    q,
                    k,
                    v,
                    layer.q_norm,
                    layer.k_norm,
                    turn,
                    at.slots,
                    at.positions,
                    *kv,
                    c.eps,
                    v_norm=True,
                    window=window,
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, 1.0, window=window)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x = pipe.fused_norm_add(x, o, layer.post_attention_norm, c.eps, "post_attention_norm")
                h, r, e = pipe.rms_norm3(
                    x,
                    (layer.pre_mlp_norm, layer.router_scale, layer.pre_experts_norm),
                    ("pre_mlp_norm", "router_norm", "pre_experts_norm"),
                    c.eps,
                )
                h = pipe.mlp(h, *layer.mlp, activation="gelu_tanh")
                h = pipe.rms_norm(h, layer.post_mlp_norm, c.eps, "post_mlp_norm")
                logits = pipe.linear(r, layer.router, name="router.logits", scale=c.hidden**-0.5)
                ids, mix = pipe.fused_moe_routing(
                    logits, c.top_k, True, self.count(pipe, i), "router", per_expert_scale=layer.expert_scale
                )
                y = pipe.experts(e, ids, mix, *layer.experts, activation="gelu_tanh")
                y = pipe.fused_norm_add(h, y, layer.post_experts_norm, c.eps, "post_experts_norm")
                x = pipe.fused_norm_add_scalar(x, y, layer.post_norm, layer.scalar, c.eps, "post_norm")
        h = pipe.rms_norm(x, self.final_norm, c.eps, "final_norm")
        return pipe.linear(h, self.head, name="logits", softcap=c.logit_softcap)
