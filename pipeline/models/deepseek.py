"""DeepSeek-V2 and -V3 (DeepSeek-AI 2024; transformers' DeepseekV2ForCausalLM, DeepseekV3ForCausalLM): latent attention,
leading dense layers, then mixtures of experts with groups and experts that every token takes; and the families that
differ from V3 in settings, each of which has a line in KINDS.

DeepSeek-V3.2 and GLM-5 attend to the `index_topk` positions that an indexer chooses. It chooses all of them up to that
length, and longer texts are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..graph.builder import Pipeline
from ..graph.steps.expert_layer import Mlp
from ..graph.steps.latent import KeysValues
from ..graph.tensors import Tensor
from ..graph.weights import WeightLike, as_weight
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .query_scale import QueryScale
from .rope import Rope, parameters
from .routing import route
from .row_state import Rows


@dataclass(frozen=True)
class Kind:
    """How a family differs from DeepSeek-V3.

    second       V2: weights of experts are not renormalised, biases of the MLPs
    softmax      whether scores are that, and nothing corrects them; else they are sigmoids
    scaled       whether queries grow with their position beyond the trained context
    layer_types  whether mlp_layer_types says which layers are without experts
    leading      the number of layers without experts where nothing says it
    mixture      False: no layer has experts
    indexed      whether an indexer chooses positions
    interleaved  whether rope_interleave says that neighbours turn; else they always do
    eps, scale   of norms and of the experts' weights, where nothing says it
    """

    second: bool = False
    softmax: bool = False
    scaled: bool = False
    layer_types: bool = False
    leading: int = 3
    mixture: bool = True
    indexed: bool = False
    interleaved: bool = True
    eps: float = 1e-6
    scale: float = 1.0


KINDS = {
    "deepseek_v2": Kind(second=True, softmax=True, leading=0),
    "deepseek_v3": Kind(),
    "deepseek_v32": Kind(layer_types=True, indexed=True, interleaved=False, scale=2.5),
    "glm4_moe_lite": Kind(layer_types=True, leading=1, eps=1e-5, scale=1.8),
    "glm_moe_dsa": Kind(layer_types=True, indexed=True, interleaved=False, eps=1e-5, scale=2.5),
    "joyai_llm_flash": Kind(),
    "kimi_k2": Kind(),
    "mistral4": Kind(softmax=True, scaled=True, leading=0),
    "youtu": Kind(mixture=False),
}


@dataclass(frozen=True)
class Config(Shape):
    kind: Kind
    seen: int  # positions up to which all are seen; 0: any number
    experts: int
    top_k: int
    expert_hidden: int
    shared_hidden: int
    mlp_hidden: int
    dense: tuple[bool, ...]  # per layer: without experts
    q_rank: int  # 0: queries are not compressed
    rank: int  # numbers to which a position's keys and values are compressed
    nope: int  # numbers of a head that do not turn
    turning: int
    v_dim: int
    scoring: str  # "softmax" for V2, "sigmoid" for V3
    groups: int
    top_groups: int
    norm_topk_prob: bool
    scale: float
    biased: bool  # the compressed query, the compressed row and the output
    mlp_biased: bool

    @classmethod
    def read(cls, f: Fields) -> Config:
        kind = KINDS[f.config["model_type"]]
        shape = f.with_values(head_dim=f.dim("qk_rope_head_dim")).shape(eps=kind.eps)  # other keys say the rest
        f.only(hidden_act="silu")
        if kind.indexed:
            f.check(f.config.get("q_lora_rank") is not None, "q_lora_rank = null; the indexer needs compressed queries")
            f.kinds("layer_types", shape["layers"], ("indexed_attention",))
        return cls(
            **shape,
            kind=kind,
            seen=f.whole("index_topk") if kind.indexed else 0,
            **(cls._mixture if kind.mixture else cls._dense)(f, kind, shape["layers"]),
            mlp_hidden=f.whole("intermediate_size"),
            q_rank=f.whole("q_lora_rank", 0),
            rank=f.whole("kv_lora_rank"),
            nope=f.dim("qk_nope_head_dim"),
            turning=f.dim("qk_rope_head_dim"),
            v_dim=f.dim("v_head_dim"),
            scoring="softmax" if kind.softmax else "sigmoid",
            biased=f.flag("attention_bias"),
            mlp_biased=kind.second and f.flag("mlp_bias"),
        )

    @staticmethod
    def _dense(f: Fields, kind: Kind, layers: int) -> dict[str, Any]:
        return NO_MIXTURE | {"dense": (True,) * layers}

    @staticmethod
    def _mixture(f: Fields, kind: Kind, layers: int) -> dict[str, Any]:
        f.only(moe_layer_freq=1, scoring_func="softmax" if kind.softmax else "sigmoid")
        if kind.second:
            method = f.choice("topk_method", "greedy", "group_limited_greedy")
            f.only(norm_topk_prob=False)
        else:
            method = f.choice("topk_method", "noaux_tc")
        hidden, grouped = f.whole("moe_intermediate_size"), method != "greedy"
        return {
            **f.mixture("n_routed_experts"),
            "expert_hidden": hidden,
            "shared_hidden": hidden * f.whole("n_shared_experts", 1),
            "dense": f.leading_dense(layers, kind.leading, listed=kind.layer_types),
            "groups": f.whole("n_group", 1) if grouped else 1,
            "top_groups": f.whole("topk_group", 1) if grouped else 1,
            "norm_topk_prob": not kind.second and f.flag("norm_topk_prob", True),
            "scale": f.number("routed_scaling_factor", kind.scale),
        }


NO_MIXTURE: dict[str, Any] = {
    "experts": 1,
    "top_k": 1,
    "expert_hidden": 0,
    "shared_hidden": 0,
    "groups": 1,
    "top_groups": 1,
    "norm_topk_prob": False,
    "scale": 1.0,
}


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention, mlp, queries = f"{prefix}.self_attn", f"{prefix}.mlp", c.heads * (c.nope + c.turning)
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.q_a = load.matrix(f"{attention}.q_a_proj", (c.q_rank, c.hidden)) if c.q_rank else None
        self.q_a_bias = load.array(f"{attention}.q_a_proj.bias", (c.q_rank,)) if c.q_rank and c.biased else None
        self.q_norm = load.array(f"{attention}.q_a_layernorm.weight", (c.q_rank,)) if c.q_rank else None
        self.q_b = load.matrix(
            f"{attention}.q_b_proj" if c.q_rank else f"{attention}.q_proj", (queries, c.q_rank or c.hidden)
        )
        self.kv_a = load.matrix(f"{attention}.kv_a_proj_with_mqa", (c.rank + c.turning, c.hidden))
        self.kv_a_bias = load.array(f"{attention}.kv_a_proj_with_mqa.bias", (c.rank + c.turning,)) if c.biased else None
        self.kv_norm = load.array(f"{attention}.kv_a_layernorm.weight", (c.rank,))
        self.kv_b = self._kv_b(load, attention, c)
        if c.kind.indexed:
            load.checkpoint.pass_over(f"{attention}.indexer.")
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.v_dim))
        self.o_bias = load.array(f"{attention}.o_proj.bias", (c.hidden,)) if c.biased else None
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.dense = weights.dense(load, mlp, c.hidden, c.mlp_hidden) if c.dense[number] else None
        if self.dense is not None:
            self.biases = weights.dense_biases(load, mlp, c.hidden, c.mlp_hidden, c.mlp_biased)
        else:
            corrected = c.scoring == "sigmoid"
            self.gate = load.matrix(f"{mlp}.gate", (c.experts, c.hidden))
            self.correction = weights.correction(load, mlp, c.experts) if corrected else None
            self.experts = weights.experts(load, mlp, c.experts, c.hidden, c.expert_hidden)
            self.shared = weights.dense(load, f"{mlp}.shared_experts", c.hidden, c.shared_hidden)
            self.biases = weights.dense_biases(load, f"{mlp}.shared_experts", c.hidden, c.shared_hidden, c.mlp_biased)

    @staticmethod
    def _kv_b(load: Loader, attention: str, c: Config) -> WeightLike | KeysValues:
        """The matrix from a compressed row to keys and values; MLX and GGUF have two stacks, keys (transposed) and
        values."""
        if not weights.has(load, f"{attention}.embed_q"):
            return load.matrix(f"{attention}.kv_b_proj", (c.heads * (c.nope + c.v_dim), c.rank))
        keys = as_weight(load.matrix(f"{attention}.embed_q", (c.heads, c.rank, c.nope)), "embed_q")
        values = as_weight(load.matrix(f"{attention}.unembed_out", (c.heads, c.v_dim, c.rank)), "unembed_out")
        return KeysValues(
            replace(keys, shape=(c.heads * c.rank, c.nope)), replace(values, shape=(c.heads * c.v_dim, c.rank))
        )


class Deepseek(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        return [CacheLayer(1, self.config.rank + self.config.turning, v_dim=0)] * self.config.layers

    def prepare(self, fields: Fields) -> None:
        if self.config.kind.scaled:
            fields = self._without_share(fields)
        self.query_scale = QueryScale.read(fields) if self.config.kind.scaled else None
        self.rope = Rope.read(
            fields.config,
            self.config.turning,
            fields.source,
            interleaved=not self.config.kind.interleaved or fields.flag("rope_interleave", True),
            partial=False,
        )

    def _without_share(self, f: Fields) -> Fields:
        """Mistral 4 states the turning numbers as a share of a head besides."""
        c, rope = self.config, parameters(f.config, f.source)
        share = f.part("rope_parameters").number("partial_rotary_factor", c.turning / (c.nope + c.turning))
        f.check(
            int((c.nope + c.turning) * share) == c.turning,
            f"partial_rotary_factor = {share:g} does not go with qk_rope_head_dim = {c.turning}",
        )
        rest = {key: value for key, value in rope.items() if key != "partial_rotary_factor"}
        return f.with_values(rope_parameters=rest, rope_scaling=None, partial_rotary_factor=None)

    def longest(self) -> int:
        return min(super().longest(), self.config.seen or self.config.context)

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        scale = (c.nope + c.turning) ** -0.5 * self.rope.score_scale
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        scaled: dict[str, Any] = {}
        if self.query_scale is not None:
            scaled = {"scale": self.query_scale.most, "gate": self.query_scale.gate(pipe, at.positions)}
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last = i + 1 == c.layers
            with pipe.scope(f"layers.{i}"):
                kv, _, blocks = self.kv(pipe, cache, i)
                q = (
                    h
                    if layer.q_a is None
                    else pipe.rms_norm(
                        pipe.linear(h, layer.q_a, layer.q_a_bias, name="q_a_proj"), layer.q_norm, name="q_norm"
                    )
                )
                q = pipe.linear(q, layer.q_b, name="q_proj", **scaled)
                latent = pipe.linear(h, layer.kv_a, layer.kv_a_bias, name="kv_a_proj")
                turned = pipe.latent_to_cache(
                    q,
                    latent,
                    layer.kv_norm,
                    turn,
                    at.slots,
                    at.positions,
                    kv,
                    blocks,
                    heads=c.heads,
                    interleaved=self.rope.interleaved,
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.latent_attention(
                    q, turned, layer.kv_b, kv, blocks, at.slots, at.positions, scale, v_dim=c.v_dim
                )
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                if layer.dense is not None:
                    y = pipe.mlp(h, *layer.dense, biases=layer.biases)
                else:
                    ids, mix = route(
                        pipe, h, layer, c, self.count(pipe, i), c.scoring, "max" if c.kind.second else "top2"
                    )
                    y = pipe.experts(h, ids, mix, *layer.experts, shared=Mlp(*layer.shared, biases=layer.biases))
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
