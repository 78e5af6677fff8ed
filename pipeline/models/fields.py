"""config.json as a family reads it: messages name the file and the key that is missing, impossible or not supported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ..checkpoints.config import boolean, integer, number
from ..device.core import _core
from ..errors import CheckpointError, UnsupportedError
from ..printing import brief
from .defaults import with_defaults
from .key_types import check_types

SLIDING, FULL = "sliding_attention", "full_attention"
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")

# The most that is taken of numbers from which memory or time follows before a tensor is compared with them. The largest
# published models have less than a tenth of it.
MOST_LAYERS, MOST_HEADS, MOST_HEAD_DIM = 4096, 1 << 14, 1 << 14

# Of GGUF files, whose tensors say it: the configurations of transformers have no such key.
OUTPUT_BIAS = "_attention_output_bias"


@dataclass(frozen=True)
class Shape:
    """The fields that every decoder's configuration has; a family's own adds to them."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    eps: float
    tied: bool

    @classmethod
    def read(cls, f: Fields) -> Self:
        """The configuration from config.json; each family has its own."""
        raise NotImplementedError


class Fields:
    """The keys of one configuration. CheckpointError for a value that cannot be, UnsupportedError for a feature."""

    def __init__(self, config: dict[str, Any], source: str, *, class_defaults: bool = False) -> None:
        """class_defaults: whether keys that are absent have the values of transformers' configuration class."""
        self.given = config
        self.class_defaults = class_defaults
        self.config = with_defaults(config) if class_defaults else config
        self.source = source
        if class_defaults:
            check_types(config, source)

    def whole(self, key: str, *default: int, least: int = 1, most: int = 2**31 - 1) -> int:
        value = integer(self.config, key, *default, least=least, source=self.source)
        self.check(value <= most, f"{key} = {value:,}, but {most:,} is the most that is possible")
        return value

    def number(self, key: str, *default: float) -> float:
        return number(self.config, key, *default, source=self.source)

    def flag(self, key: str, default: bool = False) -> bool:
        return boolean(self.config, key, default, source=self.source)

    def with_values(self, **values: object) -> Fields:
        """The same configuration with other values."""
        made = Fields(self.given, self.source)
        made.config = self.config | values
        return made

    def part(self, key: str) -> Fields:
        """The object at `key`; an empty one where there is none."""
        value = self.config.get(key)
        self.check(value is None or isinstance(value, dict), f"{key} = {brief(value)} is no object; it is needed")
        return Fields(value or {}, self.source)

    def choice(self, key: str, default: str, *others: str) -> str:
        """One of the words that the family knows; UnsupportedError for another one."""
        value = self.config.get(key)
        value = default if value is None else value
        if value not in (default, *others):
            raise self.unsupported(f"{key} = {brief(value)}", f"; supported: {', '.join((default, *others))}")
        return value

    def only(self, **values: object) -> None:
        """Demands that each key, where it is present, has this value: the family knows no other."""
        for key, value in values.items():
            found = self.config.get(key)
            if found is not None and found != value and (found or value):  # False, 0 and [] all say "no"
                raise self.unsupported(f"{key} = {brief(found)}")

    def unsupported(self, what: str, more: str = "") -> UnsupportedError:
        return UnsupportedError(f"{self.source}: {what} is not supported for {self.config.get('model_type')}{more}")

    def check(self, right: bool, message: str) -> None:
        if not right:
            raise CheckpointError(f"{self.source}: {message}")

    def shape(self, *, tied: bool = False, head_dim: int = 0, eps: float = 1e-6) -> dict[str, Any]:
        """The fields of Shape, with the family's defaults; head_dim 0 stands for hidden / heads."""
        heads, hidden = self.whole("num_attention_heads", most=MOST_HEADS), self.whole("hidden_size")
        kv_heads = self.whole("num_key_value_heads", heads)
        head_dim = self.dim("head_dim", head_dim or max(hidden // heads, 1))
        self.check(
            heads % kv_heads == 0 and head_dim % 2 == 0,
            f"{heads} heads of {head_dim} do not go with {kv_heads} key-value heads; heads must be a multiple, "
            "head_dim even",
        )
        return {
            "layers": self.whole("num_hidden_layers", most=MOST_LAYERS),
            "hidden": hidden,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "vocab": self.whole("vocab_size"),
            "context": self.whole("max_position_embeddings"),
            "eps": self.number("rms_norm_eps", eps),
            "tied": self.flag("tie_word_embeddings", tied),
        }

    def dim(self, key: str, *default: int) -> int:
        """The numbers of a head."""
        return self.whole(key, *default, most=MOST_HEAD_DIM)

    def biases(self, key: str = "attention_bias", default: bool = False, *, output: bool = True) -> dict[str, bool]:
        """Whether query, key and value have a bias (`biased`), and the output projection (`output_biased`), which has
        one where the family gives it `output` and the file, if it is GGUF, holds it."""
        biased = self.flag(key, default)
        return {"biased": biased, "output_biased": biased and output and self.has_output_bias}

    @property
    def has_output_bias(self) -> bool:
        """False for a GGUF file without that tensor."""
        return self.flag(OUTPUT_BIAS, True)

    def turning(self, layers: int) -> tuple[bool, ...]:
        """Whether each layer has rope: by `no_rope_layers`, which has 1 for yes, else all but one of
        `no_rope_layer_interval`."""
        given, every = self.config.get("no_rope_layers") or [], self.whole("no_rope_layer_interval", 4)
        self.check(
            isinstance(given, list) and (not given or len(given) >= layers) and all(each in (0, 1) for each in given),
            f"no_rope_layers must be 0 or 1 for each of {layers} layers",
        )
        return tuple(bool(each) for each in given[:layers]) or tuple((i + 1) % every != 0 for i in range(layers))

    def windows(self, layers: int, slides: Callable[[int], bool], window: int | None = None) -> tuple[int, ...]:
        """The positions that each layer sees, 0 for all: by `layer_types`, else `window` where the layer `slides`."""
        kinds = self.kinds("layer_types", layers, (SLIDING, FULL)) or [
            SLIDING if slides(i) else FULL for i in range(layers)
        ]
        if SLIDING not in kinds:
            return (0,) * layers
        window = self.window() if window is None else window
        return tuple(window if kind == SLIDING else 0 for kind in kinds)

    def window(self) -> int:
        """`sliding_window` of layers that have one; 0 for null. With 0 positions transformers would see none."""
        none = self.class_defaults and self.config.get("sliding_window") == 0
        self.check(not none, "sliding_window = 0 leaves no position to see; null stands for all of them")
        return self.whole("sliding_window", 0, least=0)

    def switched_window(self) -> int | None:
        """0 where `use_sliding_window` turns windows off (Qwen), else None: `sliding_window` says it."""
        return None if self.flag("use_sliding_window") else 0

    def kinds(self, key: str, layers: int, names: Sequence[str]) -> list[str]:
        """The list at `key`, which has one of `names` for each layer; an empty one where there is none."""
        kinds = self.config.get(key) or []
        self.check(
            isinstance(kinds, list) and (not kinds or len(kinds) >= layers) and all(kind in names for kind in kinds),
            f"{key} must name {' or '.join(names)} for each of {layers} layers",
        )
        return kinds[:layers]

    def dense_layers(self, layers: int) -> tuple[bool, ...]:
        """Whether each layer of a Qwen mixture is without experts: those that `mlp_only_layers` lists, and all but one
        of `decoder_sparse_step`."""
        listed, step = self.config.get("mlp_only_layers") or [], self.whole("decoder_sparse_step", 1)
        self.check(
            isinstance(listed, list) and all(type(number) is int for number in listed),
            f"mlp_only_layers = {brief(listed)} is no list of layers; it is needed",
        )
        dense = set(listed)
        return tuple(number in dense or (number + 1) % step != 0 for number in range(layers))

    def leading_dense(self, layers: int, default: int = 0, *, listed: bool) -> tuple[bool, ...]:
        """Whether each layer is without experts: by `mlp_layer_types` where the family has it (`listed`), else the
        first `first_k_dense_replace`."""
        kinds = self.kinds("mlp_layer_types", layers, ("dense", "sparse")) if listed else []
        leading = self.whole("first_k_dense_replace", default, least=0)
        return tuple(kind == "dense" for kind in kinds) or tuple(layer < leading for layer in range(layers))

    def mixture(self, experts: str = "num_experts", top_k: str = "num_experts_per_tok") -> dict[str, Any]:
        """experts and top_k, by the keys that the family has for them; versions of transformers differ in the first."""
        if self.given.get(experts) is None:
            experts = next((key for key in EXPERTS if self.given.get(key) is not None), experts)
        count, chosen = self.whole(experts), self.whole(top_k)
        self.check(
            chosen <= min(count, _core.MAX_TOP_K),
            f"{top_k} = {chosen} of {experts} = {count}; it must be at most that, and at most {_core.MAX_TOP_K}",
        )
        return {"experts": count, "top_k": chosen}
