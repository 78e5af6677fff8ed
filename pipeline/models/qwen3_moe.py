"""Qwen3-MoE (Qwen Team 2025; transformers' Qwen3MoeForCausalLM): norms before attention and experts,
queries and keys normed per head, every layer a mixture of experts with softmax routing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..builder import Pipeline
from ..config import boolean, integer, number
from ..errors import CheckpointError, UnsupportedError
from ..tensors import CACHE_DTYPES, Storage
from .loading import Loader
from .state import Cache, Rows


@dataclass(frozen=True)
class Config:
    """What the forward pass needs of config.json."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    top_k: int
    expert_hidden: int
    vocab: int
    context: int
    eps: float
    rope_theta: float
    renormalise: bool
    tied: bool

    @classmethod
    def read(cls, config: dict, file: str) -> Config:
        """From config.json. CheckpointError names a missing key, UnsupportedError a feature."""

        whole = partial(integer, config, source=file)
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(rope, dict):
            raise CheckpointError(f"{file}: rope_parameters = {rope!r} is no object; it is needed")
        kind = rope.get("rope_type", rope.get("type", "default"))
        refused = {
            "rope type": kind if kind != "default" else None,
            "hidden_act": config.get("hidden_act", "silu") if config.get("hidden_act", "silu") != "silu" else None,
            "attention_bias": config.get("attention_bias") or None,
            "use_sliding_window": config.get("use_sliding_window") or None,
            "mlp_only_layers": config.get("mlp_only_layers") or None,
            "decoder_sparse_step": config.get("decoder_sparse_step", 1) if config.get("decoder_sparse_step", 1) != 1 else None,
        }
        for feature, value in refused.items():
            if value is not None:
                raise UnsupportedError(f"{file}: {feature} = {value!r} is not supported for qwen3_moe")
        heads, hidden = whole("num_attention_heads"), whole("hidden_size")
        theta = number(rope, "rope_theta", 10000.0, source=file)
        result = cls(
            layers=whole("num_hidden_layers"), hidden=hidden, heads=heads,
            kv_heads=whole("num_key_value_heads", heads), head_dim=whole("head_dim", max(hidden // heads, 1)),
            experts=whole("num_experts"), top_k=whole("num_experts_per_tok"),
            expert_hidden=whole("moe_intermediate_size"), vocab=whole("vocab_size"),
            context=whole("max_position_embeddings"), eps=number(config, "rms_norm_eps", 1e-6, source=file),
            rope_theta=number(config, "rope_theta", theta, source=file),
            renormalise=boolean(config, "norm_topk_prob", False, source=file),
            tied=boolean(config, "tie_word_embeddings", False, source=file),
        )
        if result.heads % result.kv_heads or result.head_dim % 2:
            raise CheckpointError(f"{file}: {result.heads} heads of {result.head_dim} do not go with "
                                  f"{result.kv_heads} key-value heads; heads must be a multiple, head_dim even")
        if result.top_k > min(result.experts, 64):
            raise CheckpointError(f"{file}: num_experts_per_tok = {result.top_k} of num_experts = {result.experts}; "
                                  "it must be at most that, and at most 64")
        return result


class Layer:
    """Weights of one layer: shapes are [outputs, inputs], experts in front."""

    def __init__(self, load: Loader, prefix: str, c: Config):
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = (load.matrix(f"{attention}.q_proj", (c.heads * c.head_dim, c.hidden)),
                    load.matrix(f"{attention}.k_proj", (c.kv_heads * c.head_dim, c.hidden)),
                    load.matrix(f"{attention}.v_proj", (c.kv_heads * c.head_dim, c.hidden)))
        self.q_norm = load.array(f"{attention}.q_norm.weight", (c.head_dim,))
        self.k_norm = load.array(f"{attention}.k_norm.weight", (c.head_dim,))
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
        self.gate_proj = self._experts(load, mlp, "gate_proj", c.experts, (c.expert_hidden, c.hidden))
        self.up_proj = self._experts(load, mlp, "up_proj", c.experts, (c.expert_hidden, c.hidden))
        self.down_proj = self._experts(load, mlp, "down_proj", c.experts, (c.hidden, c.expert_hidden))

    @staticmethod
    def _experts(load: Loader, mlp: str, name: str, experts: int, shape):
        """MLX stores the experts as one stack, transformers one by one."""
        if load.has(f"{mlp}.switch_mlp.{name}.weight"):
            return load.matrix(f"{mlp}.switch_mlp.{name}", (experts, *shape))
        return load.stack([f"{mlp}.experts.{e}.{name}" for e in range(experts)], shape)


class Qwen3Moe:
    """A loaded model: weights in place, chains made on demand."""

    def __init__(self, checkpoint, device):
        import numpy as np

        self.config = c = Config.read(checkpoint.config, checkpoint.source)
        self.checkpoint = checkpoint
        self.device = device
        load = Loader(checkpoint, device)
        self.embed = load.matrix("model.embed_tokens", (c.vocab, c.hidden))
        self.layers = [Layer(load, f"model.layers.{i}", c) for i in range(c.layers)]
        self.final_norm = load.array("model.norm.weight", (c.hidden,))
        self.head = self.embed if c.tied else load.matrix("lm_head", (c.vocab, c.hidden))
        half = np.arange(c.head_dim // 2, dtype=np.float64)
        self.inv_freq = Storage.of((c.rope_theta ** (-2 * half / c.head_dim)).astype(np.float32))
        self.counts = Storage.zeros((c.layers, c.experts), "u32")
        self.mapped_bytes, self.repacked_bytes = load.mapped_bytes, load.repacked_bytes
        self.end_tokens = checkpoint.end_tokens
        self.vocab_size, self.context = c.vocab, c.context

    @property
    def dispatches_per_layer(self) -> int:
        """What every layer takes at decode."""
        pipe = Pipeline(self.device, rows=1)
        self.forward(pipe, Rows.zeros(1), self.cache(1, 1))
        return sum(dispatch.step.startswith("layers.0.") for dispatch in pipe.dispatches)

    def cache(self, slots: int, context: int, dtype: str = CACHE_DTYPES[0]) -> Cache:
        c = self.config
        return Cache.empty(c.layers, slots, c.kv_heads, context, c.head_dim, dtype)

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, head: bool = True):
        """The forward pass in model order. Gives the logits [R, vocab], or without `head` None: then it
        ends where the last keys and values are in the cache, which is all a prompt's earlier tokens
        leave behind."""
        c = self.config
        tokens, positions = pipe.state("tokens", rows.tokens), pipe.state("positions", rows.positions)
        slots = pipe.state("slots", rows.slots)
        x = pipe.embed(tokens, self.embed)
        turn = pipe.rope_table(positions, self.inv_freq)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last = i + 1 == c.layers
            with pipe.scope(f"layers.{i}"):
                k_cache, v_cache = pipe.state("k_cache", cache.keys[i]), pipe.state("v_cache", cache.values[i])
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"))
                q = pipe.heads_to_cache(q, k, v, layer.q_norm, layer.k_norm, turn, slots, positions, k_cache, v_cache, c.eps)
                if last and not head:
                    return None
                a = pipe.attention(q, k_cache, v_cache, slots, positions)
                o = pipe.linear(a, layer.o_proj, name="o_proj")
                x, h = pipe.residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                counts = pipe.state("counts", self.counts.part(i))
                ids, weights = pipe.route(h, layer.gate, c.top_k, c.renormalise, counts)
                y = pipe.experts(h, ids, weights, layer.gate_proj, layer.up_proj, layer.down_proj)
            norm = self.final_norm if last else self.layers[i + 1].input_norm
            x, h = pipe.residual_norm(x, y, norm, c.eps, name="final_norm" if last else f"layers.{i + 1}.input_norm")
        return pipe.linear(h, self.head, name="logits")

    def logits(self, tokens, rows: int = 64, kv_cache: str = CACHE_DTYPES[0]):
        """Logits [len(tokens), vocab] after each token of one sequence, `rows` at a time: for scoring."""
        import numpy as np

        rows = min(rows, len(tokens))
        state, pipe = Rows.zeros(rows), Pipeline(self.device, rows=rows, label="score")
        logits = self.forward(pipe, state, self.cache(1, len(tokens), kv_cache))
        chain, result = pipe.build(logits), np.empty((len(tokens), self.vocab_size), np.float32)
        for first in range(0, len(tokens), rows):
            chunk = np.asarray(tokens[first : first + rows], np.uint32)
            state.tokens.numpy(self.device)[: len(chunk)] = chunk
            state.positions.numpy(self.device)[: len(chunk)] = np.arange(first, first + len(chunk))
            chain.commit(len(chunk)).wait()
            chain.check_status(len(chunk))
            result[first : first + len(chunk)] = chain.view(logits)[: len(chunk)]
        return result
