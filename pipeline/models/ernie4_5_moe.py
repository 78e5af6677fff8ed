"""Ernie 4.5, mixture (Baidu 2025; transformers' Ernie4_5_MoeForCausalLM): neighbouring numbers of a head turn; mixtures
of experts in a range of layers, with softmax scores, a correction for choosing, and experts that every token takes."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.steps.expert_layer import Mlp
from ..graph.tensors import Storage, Tensor
from . import weights
from .cache import Cache
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .rope import Rope
from .row_state import Rows

SMALLEST_SUM = 1e-6  # of the weights of a row's experts; below it transformers would divide by moe_norm_min


@dataclass(frozen=True)
class Config(Shape):
    experts: int
    top_k: int
    expert_hidden: int
    shared_hidden: int  # 0: no expert that every token takes
    mlp_hidden: int
    dense: tuple[bool, ...]  # per layer: without experts
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        shape, hidden = f.shape(eps=1e-5, tied=True), f.whole("moe_intermediate_size")
        layers, smallest = shape["layers"], f.number("moe_norm_min", 1e-12)
        if smallest > SMALLEST_SUM:
            raise f.unsupported(f"moe_norm_min = {smallest:g}", f"; it must be at most {SMALLEST_SUM:g}")
        first, every = f.whole("moe_layer_start_index", 1, least=0), f.whole("moe_layer_interval", 1)
        last = f.whole("moe_layer_end_index", -1, least=-1)
        last = layers - 1 if last == -1 else last
        dense = tuple((i + 1) % every != 0 or not first <= i <= last for i in range(layers))
        return cls(
            **shape,
            **f.mixture("moe_num_experts", "moe_k"),
            expert_hidden=hidden,
            shared_hidden=hidden * f.whole("moe_num_shared_experts", 0, least=0),
            mlp_hidden=f.whole("intermediate_size") if any(dense) else 0,
            dense=dense,
            **f.biases("use_bias"),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.dense = self._mlp(load, mlp, c, c.mlp_hidden) if c.dense[number] else None
        if self.dense is None:
            self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
            self.correction = self._correction(load, mlp, c)
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)
            self.shared = self._mlp(load, f"{mlp}.shared_experts", c, c.shared_hidden) if c.shared_hidden else None

    @staticmethod
    def _correction(load: Loader, mlp: str, c: Config) -> Storage | None:
        """What is added to the scores where experts are chosen; mlx-lm leaves it out."""
        name = f"{mlp}.moe_statics.e_score_correction_bias"
        if not load.has(name) and weights.has(load, f"{mlp}.switch_mlp.gate_proj"):
            return None
        stored = load.checkpoint.tensors.get(name)
        flat = stored is not None and len(stored.shape) == 1  # in GGUF files
        return load.array(name, (c.experts,), stored=None if flat else (1, c.experts))

    @staticmethod
    def _mlp(load: Loader, mlp: str, c: Config, hidden: int) -> Mlp:
        biases = weights.dense_biases(load, mlp, c.hidden, hidden, c.biased)
        return Mlp(*weights.dense(load, mlp, c.hidden, hidden), biases=biases)


class Ernie45Moe(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def prepare(self, fields: Fields) -> None:
        self.rope = Rope.read(
            fields.config, self.config.head_dim, fields.source, interleaved=True, partial=self.partial_rope
        )

    def load_more(self, load: Loader) -> None:
        self.head_bias = load.array("lm_head.bias", (self.config.vocab,)) if self.config.biased else None

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
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
                a = pipe.attention(q, *kv, at.slots, at.positions)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                if layer.dense is not None:
                    y = pipe.mlp(h, *layer.dense[:3], biases=layer.dense.biases)
                else:
                    ids, mix = pipe.moe_router(
                        h, layer.gate, c.top_k, counts=self.count(pipe, i), correction=layer.correction
                    )
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=layer.shared)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, self.head_bias, name="logits")
