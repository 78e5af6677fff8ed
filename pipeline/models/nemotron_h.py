"""Nemotron-H and Nemotron 3 (NVIDIA 2025; transformers' NemotronHForCausalLM): a layer is one branch behind one norm.
It is Mamba-2, attention without positions, an MLP, or a mixture of experts. MLPs have no gate: down(relu(up(x))²)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..graph.builder import Pipeline
from ..graph.steps.expert_layer import Mlp
from ..graph.tensors import Tensor
from ..printing import brief
from . import delta, mamba2, routing, weights
from .cache import Cache, CacheLayer, StateLayer
from .cache import Layer as CachedLayer
from .decoder import Decoder, DecoderLayer
from .fields import FULL, MOST_HEADS, Fields, Shape
from .loading import Loader, Stored
from .row_state import Rows, RowTensors

MAMBA, SPARSE, DENSE = "linear_attention", "moe", "mlp"
WORDS = {"mamba": MAMBA, "attention": FULL}  # of older files
SIGNS = {"M": MAMBA, "E": SPARSE, "*": FULL, "-": DENSE}  # of published ones
RELU = "relu"  # of gate and up that are one matrix: relu²


@dataclass(frozen=True)
class Config(Shape):
    kinds: tuple[str, ...]  # per layer
    mamba: mamba2.Sizes
    mlp_hidden: int
    mlp_biased: bool
    biased: bool
    output_biased: bool
    experts: int
    top_k: int
    expert_hidden: int
    shared_hidden: int
    latent: int  # numbers of an expert's input and output; 0: those of a row
    norm_topk_prob: bool
    groups: int
    top_groups: int
    scale: float

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(mlp_hidden_act="relu2", mamba_hidden_act="silu", sliding_window=None)
        kinds = _kinds(f)
        shape = f.with_values(num_hidden_layers=len(kinds), rms_norm_eps=f.number("layer_norm_epsilon", 1e-5)).shape()
        sparse = SPARSE in kinds
        if sparse:
            f.only(n_shared_experts=1)
        return cls(
            **shape | {"tied": False},  # its head is never the embedding, whatever is said
            **(f.mixture("n_routed_experts") if sparse else {"experts": 1, "top_k": 1}),
            **f.biases(),
            kinds=kinds,
            mamba=_mamba(f, shape),
            mlp_hidden=f.whole("intermediate_size") if DENSE in kinds else 0,
            mlp_biased=f.flag("mlp_bias"),
            expert_hidden=f.whole("moe_intermediate_size") if sparse else 0,
            shared_hidden=f.whole("moe_shared_expert_intermediate_size") if sparse else 0,
            latent=f.whole("moe_latent_size", 0, least=0) if sparse else 0,
            norm_topk_prob=f.flag("norm_topk_prob", True),
            groups=f.whole("n_group", 1),
            top_groups=f.whole("topk_group", 1),
            scale=f.number("routed_scaling_factor", 1.0),
        )


def _kinds(f: Fields) -> tuple[str, ...]:
    """What each layer is: by a list of words, else by a sign for each."""
    key = "layers_block_type" if f.config.get("layers_block_type") else "layer_types"
    listed, pattern = f.config.get(key), f.config.get("hybrid_override_pattern")
    signs = [SIGNS.get(sign, sign) for sign in pattern] if isinstance(pattern, (str, list)) else pattern
    if listed is None and signs is None:
        listed = list(SIGNS.values())
    kinds = _words(f, key, signs if listed is None else listed)
    if signs is not None:
        same = _words(f, "hybrid_override_pattern", signs) == kinds
        f.check(same, f"hybrid_override_pattern = {brief(pattern)} contradicts {key}; they must name the same layers")
        said = f.whole("num_hidden_layers", len(kinds))
        f.check(said == len(kinds), f"num_hidden_layers = {said}, but hybrid_override_pattern names {len(kinds)}")
    f.check(FULL in kinds, f"layers_block_type has no {FULL} among {len(kinds)} layers; at least one is needed")
    return tuple(kinds)


def _words(f: Fields, key: str, listed: object) -> list[str]:
    """The kinds that a list at `key` names."""
    kinds = [WORDS.get(kind, kind) for kind in listed if isinstance(kind, str)] if isinstance(listed, list) else []
    if not isinstance(listed, list) or not kinds or len(kinds) != len(listed) or not set(kinds) <= set(SIGNS.values()):
        names = ", ".join(sorted(SIGNS.values()))
        f.check(False, f"{key} = {brief(listed)} must name one of {names} for each layer")
    return kinds


def _mamba(f: Fields, shape: dict[str, Any]) -> mamba2.Sizes:
    heads, groups = f.whole("mamba_num_heads", 128, most=MOST_HEADS), f.whole("n_groups", 8, most=MOST_HEADS)
    f.check(heads % groups == 0, f"mamba_num_heads = {heads} do not divide over n_groups = {groups}; they must")
    if mamba2.limits_of(f) != mamba2.NO_LIMITS:  # the published code has them, transformers' has not
        raise f.unsupported(f"time_step_limit = {brief(f.config['time_step_limit'])}", "; use [0, Infinity]")
    return mamba2.Sizes(
        shape["hidden"],
        heads,
        f.dim("mamba_head_dim", 64),
        groups,
        f.dim("ssm_state_size", 128),
        delta.taps_of(f, "conv_kernel", 4),
        shape["eps"],
        f.flag("use_conv_bias", True),
        f.flag("use_bias"),
        (f.number("time_step_min", 0.0) if f.config.get("time_step_min") else 0.0, math.inf),
    )


@dataclass(frozen=True, eq=False)
class Ungated:
    """The weights of an MLP without a gate, or of a stack of them."""

    up: Any  # a StackLike
    down: Any
    up_bias: Any = None
    down_bias: Any = None

    @classmethod
    def read(cls, load: Loader, mlp: str, dim: int, hidden: int, *, biased: bool) -> Ungated:
        up, down = f"{mlp}.up_proj", f"{mlp}.down_proj"
        parts = load.matrix(up, (hidden, dim)), load.matrix(down, (dim, hidden))
        if not biased:
            return cls(*parts)
        return cls(*parts, load.array(f"{up}.bias", (hidden,)), load.array(f"{down}.bias", (dim,)))

    @classmethod
    def stacks(cls, load: Loader, mixer: str, count: int, dim: int, hidden: int) -> Ungated:
        """Those of experts: stacks as transformers or MLX has them, or matrices one by one."""
        for up, down in (("experts.up_proj", "experts.down_proj"), ("switch_mlp.fc1", "switch_mlp.fc2")):
            if weights.has(load, f"{mixer}.{up}"):
                shapes = (count, hidden, dim), (count, dim, hidden)
                return cls(load.matrix(f"{mixer}.{up}", shapes[0]), load.matrix(f"{mixer}.{down}", shapes[1]))
        weights.check_count(load, count)
        up, down = (f"{mixer}.experts.{{}}.{part}_proj" for part in ("up", "down"))
        names = [[part.format(e) for e in range(count)] for part in (up, down)]
        return cls(*load.stacks(names, ((hidden, dim), (dim, hidden))))

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        """Gate, up and down: relu(up(x)) · up(x) is relu²."""
        return self.up, self.up, self.down

    @property
    def mlp(self) -> Mlp:
        return Mlp(*self.parts, biases=(self.up_bias, self.up_bias, self.down_bias))


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        mixer, kind = f"{prefix}.mixer", c.kinds[number]
        self.input_norm = load.array(f"{prefix}.norm.weight", (c.hidden,))
        if kind == MAMBA:
            self.mamba = mamba2.Weights(load, mixer, c.mamba)
        elif kind == FULL:
            self.qkv = weights.qkv(load, mixer, c)
            self.o_proj = load.matrix(f"{mixer}.o_proj", (c.hidden, c.heads * c.head_dim))
            self.qkv_bias, self.o_bias = weights.attention_biases(load, mixer, c, c.kv_heads, c.head_dim)
        elif kind == DENSE:
            self.mlp = Ungated.read(load, mixer, c.hidden, c.mlp_hidden, biased=c.mlp_biased)
        else:
            self._take_experts(load, mixer, c)

    def _take_experts(self, load: Loader, mixer: str, c: Config) -> None:
        self.gate = load.matrix(f"{mixer}.gate", (c.experts, c.hidden))
        self.correction = weights.correction(load, mixer, c.experts)
        self.experts = Ungated.stacks(load, mixer, c.experts, c.latent or c.hidden, c.expert_hidden)
        self.shared = Ungated.read(load, f"{mixer}.shared_experts", c.hidden, c.shared_hidden, biased=c.mlp_biased)
        self.to_latent, self.from_latent = None, None
        if c.latent:
            self.to_latent = _projection(load, f"{mixer}.fc1_latent_proj", c.latent, c.hidden, c.mlp_biased)
            self.from_latent = _projection(load, f"{mixer}.fc2_latent_proj", c.hidden, c.latent, c.mlp_biased)


def _projection(load: Loader, name: str, outputs: int, inputs: int, biased: bool) -> tuple[Stored, Any]:
    return load.matrix(name, (outputs, inputs)), load.array(f"{name}.bias", (outputs,)) if biased else None


class NemotronH(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def prepare(self, fields: Fields) -> None:
        """Nothing turns."""

    def cache_layers(self) -> Sequence[CachedLayer]:
        c, without = self.config, StateLayer(())
        of_kind: dict[str, CachedLayer] = {MAMBA: StateLayer(c.mamba.states), FULL: CacheLayer(c.kv_heads, c.head_dim)}
        return [of_kind.get(kind, without) for kind in c.kinds]

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        links = pipe.row_links(at.slots, at.positions, cache.slots)
        last = max(i for i, kind in enumerate(c.kinds) if kind in (MAMBA, FULL))  # that leaves something behind
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            leads = leading if i == last else None
            with pipe.scope(f"layers.{i}"):
                if c.kinds[i] == MAMBA:
                    y = mamba2.layer(pipe, h, layer.mamba, c.mamba, at, links, cache.state(i), leads)
                elif c.kinds[i] == FULL:
                    y = self._attention(pipe, h, layer, at, self.kv(pipe, cache, i), leads)
                elif c.kinds[i] == DENSE:
                    w = layer.mlp
                    y = pipe.mlp(h, *w.parts, RELU, biases=w.mlp.biases)
                else:
                    y = self._mixture(pipe, h, layer, self.count(pipe, i))
                if y is None:
                    return None
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")

    def _attention(
        self,
        pipe: Pipeline,
        h: Tensor,
        layer: Layer,
        at: RowTensors,
        kv: tuple[Tensor, Tensor, Tensor],
        leading: int | None,
    ) -> Tensor | None:
        q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
        q = pipe.heads_to_cache(q, k, v, None, None, None, at.slots, at.positions, *kv)
        if not pipe.lead(leading):
            return None
        a = pipe.attention(q, *kv, at.slots, at.positions)
        return pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")

    def _mixture(self, pipe: Pipeline, h: Tensor, layer: Layer, counts: Tensor) -> Tensor:
        ids, mix = routing.route(pipe, h, layer, self.config, counts)
        if layer.to_latent is None or layer.from_latent is None:
            return pipe.experts(h, ids, mix, *layer.experts.parts, activation=RELU, shared=layer.shared.mlp)
        inner = pipe.linear(h, *layer.to_latent, name="fc1_latent_proj")
        y = pipe.experts(inner, ids, mix, *layer.experts.parts, activation=RELU)
        shared = layer.shared.mlp
        s = pipe.mlp(h, *layer.shared.parts, RELU, "shared", biases=shared.biases)
        return pipe.linear(y, *layer.from_latent, name="fc2_latent_proj", add=s)
