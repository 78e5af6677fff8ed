"""Gemma 4 (Google DeepMind 2026; transformers' Gemma4ForCausalLM and the text part of Gemma4Unified): norms before and
after all branches, windows in most layers, heads of another size in the others. A mixture has experts beside the dense
branch. E2B and E4B have inputs of each layer, and their last layers attend to the keys and values of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    experts: int  # 0: no layer has any
    top_k: int
    expert_hidden: int
    mlp_hidden: int
    windows: tuple[int, ...]  # one per layer; 0: all positions
    sources: tuple[int, ...]  # one per layer: the layer whose keys and values it attends to
    wide: bool  # whether the MLP of layers without keys and values is twice as wide
    layer_dim: int  # numbers of the input that each layer has; 0: none
    layer_vocab: int
    global_kv_heads: int  # layers that see all positions have these
    global_head_dim: int
    keys_are_values: bool  # in those layers
    logit_softcap: float
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.choice("use_bidirectional_attention", "vision")  # among the tokens of an image
        f.choice("hidden_activation", "gelu_pytorch_tanh")
        shape, same = f.shape(tied=True, head_dim=256), f.flag("attention_k_eq_v")
        windows = f.windows(shape["layers"], lambda layer: (layer + 1) % 6 != 0)
        windows = (*windows[:-1], 0)  # the last layer sees all positions, whatever is said
        global_heads, global_dim = cls._global(f, str(windows.index(0)), shape["kv_heads"], shape["head_dim"])
        plain = f.config["model_type"] == "gemma4_unified_text"  # whose class has neither experts nor inputs of layers
        layer_dim = 0 if plain else f.whole("hidden_size_per_layer_input", 0, least=0)
        return cls(
            **shape,
            **cls._mixture(f, plain),
            **f.biases(),
            mlp_hidden=f.whole("intermediate_size"),
            windows=windows,
            sources=cls._sources(f, windows),
            wide=f.flag("use_double_wide_mlp"),
            layer_dim=layer_dim,
            layer_vocab=f.whole("vocab_size_per_layer_input", shape["vocab"]) if layer_dim else 0,
            keys_are_values=same,
            global_kv_heads=global_heads,
            global_head_dim=global_dim,
            logit_softcap=f.number("final_logit_softcapping", 0.0),
        )

    @staticmethod
    def _global(f: Fields, layer: str, kv_heads: int, head_dim: int) -> tuple[int, int]:
        """(key-value heads, head_dim) of layers that see all positions: what `per_layer_config`, which transformers
        writes since 5.20, says otherwise of such a `layer`; else by the keys of published files."""
        if f.config.get("per_layer_config") is not None:
            own = f.part("per_layer_config").part(layer)
            return own.whole("num_key_value_heads", kv_heads), own.dim("head_dim", head_dim)
        heads = f.whole("num_global_key_value_heads", kv_heads) if f.flag("attention_k_eq_v") else kv_heads
        return heads, f.dim("global_head_dim", 512)

    @staticmethod
    def _mixture(f: Fields, plain: bool) -> dict[str, Any]:
        if plain or not f.flag("enable_moe_block", not f.class_defaults and f.config.get("num_experts") is not None):
            return {"experts": 0, "top_k": 0, "expert_hidden": 0}
        return {**f.mixture(top_k="top_k_experts"), "expert_hidden": f.whole("moe_intermediate_size")}

    @staticmethod
    def _sources(f: Fields, windows: tuple[int, ...]) -> tuple[int, ...]:
        """Layers from the first of the last `num_kv_shared_layers` on take keys and values of the last layer before
        them that sees as much."""
        first = len(windows) - f.whole("num_kv_shared_layers", 0, least=0)
        missing = set(windows) - set(windows[: max(first, 0)])
        f.check(not missing, "num_kv_shared_layers leaves no layer of one type that has keys and values")
        last = {window: i for i, window in enumerate(windows[:first])}
        return tuple(i if i < first else last[window] for i, window in enumerate(windows))

    def heads_of(self, layer: int) -> tuple[int, int]:
        """(key-value heads, head_dim)."""
        return (self.kv_heads, self.head_dim) if self.windows[layer] else (self.global_kv_heads, self.global_head_dim)


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, (kv_heads, dim) = f"{prefix}.self_attn", c.heads_of(number)
        shared, own = c.keys_are_values and not c.windows[number], c.sources[number] == number
        self.q_proj = load.matrix(f"{attention}.q_proj", (c.heads * dim, c.hidden))
        if own:
            k = load.matrix(f"{attention}.k_proj", (kv_heads * dim, c.hidden))
            v = k if shared else load.matrix(f"{attention}.v_proj", (kv_heads * dim, c.hidden))
            self.qkv = (self.q_proj, k, v)
            self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, kv_heads, dim, value=not shared)
            self.q_norm, self.k_norm = weights.head_norms(load, attention, dim, dim)
        else:
            self.q_norm = load.array(f"{attention}.q_norm.weight", (dim,))
            self.q_bias = load.array(f"{attention}.q_proj.bias", (c.heads * dim,)) if c.biased else None
            self.o_bias = load.array(f"{attention}.o_proj.bias", (c.hidden,)) if c.output_biased else None
            for part in ("k_proj.", "v_proj.", "k_norm."):  # which some files have all the same
                load.checkpoint.pass_over(f"{attention}.{part}")
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * dim))
        self.mlp = weights.dense(load, f"{prefix}.mlp", c.hidden, c.mlp_hidden * (1 if own or not c.wide else 2))
        if c.experts:
            self._take_experts(load, prefix, c)
        if c.layer_dim:
            self.layer_gate = load.matrix(f"{prefix}.per_layer_input_gate", (c.layer_dim, c.hidden))
            self.layer_projection = load.matrix(f"{prefix}.per_layer_projection", (c.hidden, c.layer_dim))
            self.layer_norm = load.array(f"{prefix}.post_per_layer_input_norm.weight", (c.hidden,))
        names = ("input", "post_attention", "pre_feedforward", "post_feedforward")
        (self.input_norm, self.post_attention_norm, self.pre_mlp_norm, self.post_norm) = (
            load.array(f"{prefix}.{name}_layernorm.weight", (c.hidden,)) for name in names
        )
        self.scalar = load.array(f"{prefix}.layer_scalar", (1,))

    def _take_experts(self, load: Loader, prefix: str, c: Config) -> None:
        self.experts = weights.experts(load, prefix, c.experts, c.hidden, c.expert_hidden)
        self.router_scale = load.array(f"{prefix}.router.scale", (c.hidden,))
        self.router = load.matrix(f"{prefix}.router.proj", (c.experts, c.hidden))
        self.expert_scale = load.array(f"{prefix}.router.per_expert_scale", (c.experts,))
        more = ("post_feedforward_layernorm_1", "pre_feedforward_layernorm_2", "post_feedforward_layernorm_2")
        (self.post_mlp_norm, self.pre_experts_norm, self.post_experts_norm) = (
            load.array(f"{prefix}.{name}.weight", (c.hidden,)) for name in more
        )


class Gemma4(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        own = [i for i, source in enumerate(c.sources) if i == source]  # the first layers
        return [CacheLayer(*c.heads_of(i), window=c.windows[i]) for i in own]

    def load_more(self, load: Loader) -> None:
        c = self.config
        if c.layer_dim:
            width = c.layers * c.layer_dim
            self.layer_embed = load.matrix("model.embed_tokens_per_layer", (c.layer_vocab, width))
            self.layer_model = load.matrix("model.per_layer_model_projection", (width, c.hidden))
            self.layer_inputs_norm = load.array("model.per_layer_projection_norm.weight", (c.layer_dim,))

    def prepare(self, fields: Fields) -> None:
        c, config = self.config, fields.config | {"rope_scaling": None}  # transformers does not look at it here
        self.ropes = (
            Rope.read(config, c.global_head_dim, fields.source, "full_attention", theta=1e6, partial=False),
            Rope.read(config, c.head_dim, fields.source, SLIDING, partial=False),
        )

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed, c.hidden**0.5)
        turns = [
            pipe.rope_table(at.positions, rope, name) for rope, name in zip(self.ropes, ("rope_full", "rope_sliding"))
        ]
        inputs = self.layer_inputs(pipe, at.tokens, x) if c.layer_dim else []
        end = max(c.sources)  # behind it no layer has keys and values of its own
        for i, layer in enumerate(self.layers):
            window = c.windows[i]
            with pipe.scope(f"layers.{i}"):
                kv, turn = self.kv(pipe, cache, c.sources[i]), turns[window > 0]
                h = pipe.rms_norm(x, layer.input_norm, c.eps, name="input_norm")
                if c.sources[i] == i:
                    q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                    norms = (layer.q_norm, layer.k_norm)
                    q = pipe.heads_to_cache(
                        q, k, v, *norms, turn, at.slots, at.positions, *kv, c.eps, v_norm=True, window=window
                    )
                else:
                    q = pipe.linear(h, layer.q_proj, layer.q_bias, name="q_proj")
                    q = pipe.heads(q, c.heads, layer.q_norm, turn, c.eps)
                if i == end and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, 1.0, window=window)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x = pipe.fused_norm_add(x, o, layer.post_attention_norm, c.eps, "post_attention_norm")
                if c.experts:
                    y = self.mixture(pipe, x, layer, i)
                else:
                    h = pipe.rms_norm(x, layer.pre_mlp_norm, c.eps, "pre_mlp_norm")
                    y = pipe.mlp(h, *layer.mlp, activation="gelu_tanh")
                if not c.layer_dim:
                    x = pipe.fused_norm_add_scalar(x, y, layer.post_norm, layer.scalar, c.eps, "post_norm")
                    continue
                x = pipe.fused_norm_add(x, y, layer.post_norm, c.eps, "post_norm")
                y = pipe.gated_input(x, layer.layer_gate, inputs[i], layer.layer_projection, c.layers)
                # The inputs lack a factor of 1/√2, by which a norm changes nothing but its eps.
                x = pipe.fused_norm_add_scalar(x, y, layer.layer_norm, layer.scalar, 2 * c.eps, "layer_norm")
        h = pipe.rms_norm(x, self.final_norm, c.eps, "final_norm")
        return pipe.linear(h, self.head, name="logits", softcap=c.logit_softcap)

    def layer_inputs(self, pipe: Pipeline, tokens: Tensor, x: Tensor) -> list[Tensor]:
        """The input of each layer: an embedding of the token, and a projection of the first one."""
        c = self.config
        embedded = pipe.embed(tokens, self.layer_embed, c.layer_dim**0.5, name="embed_per_layer")
        projected = pipe.linear(x, self.layer_model, name="per_layer_projection", scale=c.hidden**-0.5)
        return pipe.layer_inputs(embedded, projected, self.layer_inputs_norm, c.layers, c.eps)

    def mixture(self, pipe: Pipeline, x: Tensor, layer: Layer, number: int) -> Tensor:
        """The dense branch and the experts, each between norms of its own."""
        c = self.config
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
            logits, c.top_k, True, self.count(pipe, number), "router", per_expert_scale=layer.expert_scale
        )
        y = pipe.experts(e, ids, mix, *layer.experts, activation="gelu_tanh")
        return pipe.fused_norm_add(h, y, layer.post_experts_norm, c.eps, "post_experts_norm")
