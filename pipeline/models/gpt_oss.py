"""gpt-oss (OpenAI 2025; transformers' GptOssForCausalLM): biases everywhere, attention sinks, windows in every other
layer, a softmax over the chosen experts alone, clamped SwiGLU."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.steps.expert_layer import Biases
from ..graph.tensors import Tensor
from ..graph.weights import as_weight, split_rows
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader, Stored
from .row_state import Rows


@dataclass(frozen=True)
class Config(Shape):
    experts: int
    top_k: int
    expert_hidden: int
    windows: tuple[int, ...]  # one per layer; 0: all positions
    biased: bool
    output_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu", swiglu_alpha=1.702, swiglu_limit=7.0)
        shape = f.shape(head_dim=64, eps=1e-5)
        return cls(
            **shape,
            **f.mixture("num_local_experts"),
            expert_hidden=f.whole("intermediate_size"),
            windows=f.windows(shape["layers"], lambda layer: layer % 2 == 0),
            **f.biases(default=True),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.sinks = load.array(f"{attention}.sinks", (c.heads,))
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.gate = load.matrix(f"{mlp}.router", (c.experts, c.hidden))
        self.gate_bias = load.array(f"{mlp}.router.bias", (c.experts,))
        self.experts, self.biases = self._experts(load, f"{mlp}.experts", c)

    @staticmethod
    def _experts(load: Loader, experts: str, c: Config) -> tuple[weights.Stacks, Biases]:
        """(weights, biases) of gate, up and down: as MLX and GGUF have them, or as transformers does, where the rows of
        gate and up take turns: in blocks of MXFP4, or as numbers with the inputs first."""
        count, dim, hidden = c.experts, c.hidden, c.expert_hidden
        if weights.has(load, f"{experts}.gate_proj"):
            sizes = (hidden, hidden, dim)
            gate_bias, up_bias, down_bias = (
                load.array(f"{experts}.{name}.bias", (count, n)) for name, n in zip(weights.GATE_UP_DOWN, sizes)
            )
            stacks = weights.experts(load, experts.removesuffix(".experts"), count, dim, hidden)
            return stacks, (gate_bias, up_bias, down_bias)
        if load.has(f"{experts}.gate_up_proj_blocks"):
            fused = as_weight(load.blocks(f"{experts}.gate_up_proj", (count, 2 * hidden, dim)), experts)
            gate, up = split_rows(fused, (hidden, hidden), interleaved=True)
            down: Stored = load.blocks(f"{experts}.down_proj", (count, dim, hidden))
        else:
            gate, up = load.split(
                f"{experts}.gate_up_proj", (count, 2 * hidden, dim), (hidden, hidden), interleaved=True, transposed=True
            )
            down = load.transposed(f"{experts}.down_proj", (count, dim, hidden))
        gate_bias, up_bias = load.split_array(
            f"{experts}.gate_up_proj_bias", (count, 2 * hidden), (hidden, hidden), interleaved=True
        )
        return (gate, up, down), (gate_bias, up_bias, load.array(f"{experts}.down_proj_bias", (count, dim)))


class GptOss(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=window) for window in c.windows]

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
                q = pipe.heads_to_cache(q, k, v, None, None, turn, at.slots, at.positions, *kv, window=window)
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=window, sinks=layer.sinks)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                ids, mix = pipe.moe_router(
                    h, layer.gate, c.top_k, counts=self.count(pipe, i), bias=layer.gate_bias, softmax_after_topk=True
                )
                y = pipe.experts(h, ids, mix, *layer.experts, activation="swiglu_oai", biases=layer.biases)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
