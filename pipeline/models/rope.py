"""Rotary positions as configurations state them: frequencies, and the factor of cos and sin.

The variants are those of transformers' `modeling_rope_utils`, by the same names and keys: default (Su et al. 2021),
linear (Chen et al. 2023), dynamic, llama3, yarn (Peng et al. 2023), longrope (Ding et al. 2024), proportional
(Gemma 4). "factors" divides each frequency by a factor of its own, as GGUF files state llama3's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..checkpoints.config import boolean, integer, is_positive, number
from ..errors import CheckpointError, UnsupportedError
from ..printing import brief


@dataclass(frozen=True, eq=False)
class Rope:
    """A rotary embedding, as `pipeline.Pipeline.rope_table` takes it.

    inv_freq: radians per position, f32 [rotary_dim / 2]. scale: of cos and sin (yarn's attention factor). rotary_dim:
    numbers of a head that turn, from the first on. interleaved: number 2i turns with 2i + 1, else i with
    i + rotary_dim / 2. score_scale: by which DeepSeek multiplies the scores besides (yarn's mscale_all_dim, squared).
    positions: as far as these frequencies hold; 0 for any number of them.
    """

    inv_freq: np.ndarray
    scale: float = 1.0
    rotary_dim: int = 0
    interleaved: bool = False
    score_scale: float = 1.0
    positions: int = 0

    @classmethod
    def read(
        cls,
        config: dict[str, Any],
        head_dim: int,
        source: str,
        layer_type: str | None = None,
        *,
        theta: float = 10000.0,
        interleaved: bool | None = None,
        partial: bool = True,
    ) -> Rope:
        """From config.json, for a head of `head_dim`, of layers of `layer_type` where these differ.

        theta: the family's base, where the configuration has none. interleaved: the family's order of pairs, where
        the configuration (`rope_interleave`) has no say. partial: whether the family knows heads of which only a part
        turns; transformers ignores `partial_rotary_factor` with those that do not. CheckpointError names a key that is
        missing or impossible, UnsupportedError a variant.
        """
        rope = parameters(config, source, layer_type)
        kind = rope_type(rope)
        if not isinstance(kind, str) or kind not in _VARIANTS:
            raise UnsupportedError(
                f"{source}: rope_type {brief(kind)} is not supported; use one of: {', '.join(_VARIANTS)}"
            )
        common = (
            config if layer_type is None else {}
        )  # beside parts for each type of layer it says nothing of all of them
        share = number(
            rope, "partial_rotary_factor", number(common, "partial_rotary_factor", 1.0, source=source), source=source
        )
        if share > 1:
            raise CheckpointError(f"{source}: partial_rotary_factor = {share:g}, but no more than 1 of a head can turn")
        if layer_type is not None and kind == "yarn" and rope.get("truncate") is False:
            raise UnsupportedError(
                f"{source}: truncate = false of {layer_type} alone is not supported; transformers does not look at it"
            )
        if not partial and kind != "proportional":
            if share < 1 and kind != "default":
                raise UnsupportedError(
                    f"{source}: partial_rotary_factor = {share:g} and rope_type {kind!r} together are not supported "
                    f"for {config.get('model_type')}"
                )
            share = 1.0
        theta = number(rope, "rope_theta", number(config, "rope_theta", theta, source=source), source=source)
        if theta <= 1:
            raise CheckpointError(f"{source}: rope_theta = {theta:g} must be above 1")
        values = _Values(rope, config, source, head_dim, share, theta)
        inv_freq, scale = _VARIANTS[kind](values)
        turned = _turned(inv_freq, head_dim, source)
        if interleaved is None:
            interleaved = boolean(config, "rope_interleave", False, source=source)
        positions = values.trained if kind in ("longrope", "su") else 0
        scores = _score_scale(rope, kind, source)
        return cls(inv_freq.astype(np.float32), scale, turned, interleaved, scores, positions)


def parameters(config: dict[str, Any], source: str, layer_type: str | None = None) -> dict[str, Any]:
    """The part of the configuration that is about rope, for layers of `layer_type` where these differ.

    `rope_scaling`, as older files have it and as model cards say to add it, comes before `rope_parameters`; where each
    type of layer has a part of its own, it changes that of the layers that see all positions.
    """
    scaling, given = _object(config, "rope_scaling", source), _object(config, "rope_parameters", source)
    if layer_type is None:
        return _flat(scaling or given, source, layer_type)
    part = given.get(layer_type)
    nested = isinstance(part, dict)
    if layer_type == "sliding_attention":
        rope = dict(part) if isinstance(part, dict) else {}  # without a part: Gemma 3 as first published
        if rope.get("rope_theta") is None:
            rope["rope_theta"] = number(config, "rope_local_base_freq", 10000.0, source=source)
        return rope if nested or not _parts(given) else _flat(given, source, layer_type)
    rope = dict(part) if isinstance(part, dict) else {} if scaling else _flat(given, source, layer_type)
    return rope | scaling


def rope_type(rope: dict[str, Any]) -> Any:
    """The variant that such a part names."""
    return rope.get("rope_type", rope.get("type", "default"))


def _object(config: dict[str, Any], key: str, source: str) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{source}: {key} = {brief(value)} is no object; it is needed")
    return value


def _parts(rope: dict[str, Any]) -> list[str]:
    return [key for key, value in rope.items() if isinstance(value, dict)]


def _flat(rope: dict[str, Any], source: str, layer_type: str | None) -> dict[str, Any]:
    if _parts(rope):
        has = ", ".join(_parts(rope))
        raise CheckpointError(f"{source}: rope_parameters has entries for {has}, none for {layer_type}; it is needed")
    return rope


def _turned(inv_freq: np.ndarray, head_dim: int, source: str) -> int:
    """Numbers of a head that turn. CheckpointError where they are more than it has."""
    turned = 2 * len(inv_freq)
    if not 0 < turned <= head_dim:
        raise CheckpointError(
            f"{source}: {turned} numbers of a head of {head_dim} cannot turn; "
            "head_dim or partial_rotary_factor is wrong"
        )
    return turned


@dataclass(frozen=True)
class _Values:
    """The values from which a variant is computed."""

    rope: dict[str, Any]
    config: dict[str, Any]
    source: str
    head_dim: int
    share: float
    theta: float

    def number(self, key: str, *default: float) -> float:
        return number(self.rope, key, *default, source=self.source)

    @property
    def dim(self) -> int:
        return int(self.head_dim * self.share)

    @property
    def trained(self) -> int:
        """Positions that the model was trained for before its context was extended."""
        for table in (self.config, self.rope):
            if table.get("original_max_position_embeddings") is not None:
                return integer(table, "original_max_position_embeddings", source=self.source)
        return integer(self.config, "max_position_embeddings", source=self.source)

    def frequencies(self, dim: int | None = None) -> np.ndarray:
        """theta^(-2i / dim), i < dim / 2, in f64."""
        dim = self.dim if dim is None else dim
        return self.theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)


Turning: TypeAlias = tuple[np.ndarray, float]  # frequencies, and the scale of cos and sin


def _default(v: _Values) -> Turning:
    return v.frequencies(), 1.0


def _linear(v: _Values) -> Turning:
    return v.frequencies() / v.number("factor"), 1.0


def _proportional(v: _Values) -> Turning:
    """Frequencies as if all of the head turned, and then only a share of them is not 0."""
    frequencies = v.frequencies(v.head_dim) / v.number("factor", 1.0)
    frequencies[int(v.share * v.head_dim // 2) :] = 0
    return frequencies, 1.0


def _dynamic(v: _Values) -> Turning:
    """As the default: the base grows beyond max_position_embeddings alone, and no text is longer here."""
    v.number("factor")
    return v.frequencies(), 1.0


def _factors(v: _Values, key: str = "factors") -> Turning:
    frequencies, factors = v.frequencies(), v.rope.get(key)
    given = factors if isinstance(factors, list) else []
    positive = all(type(factor) in (int, float) and is_positive(factor) for factor in given)
    if not positive or len(given) != len(frequencies):
        found = f"{len(given)} of them" if isinstance(factors, list) else brief(factors)
        raise CheckpointError(f"{v.source}: rope {key} must be {len(frequencies)} numbers above 0, found {found}")
    return frequencies / np.asarray(given, np.float64), 1.0


def _longrope(v: _Values) -> Turning:
    """The factors of texts no longer than the trained context (Ding et al. 2024). With a longer text every key changes,
    the earlier ones too, so such texts are refused: see Rope.positions."""
    longest = integer(v.config, "max_position_embeddings", source=v.source)
    factor = v.number("factor", longest / v.trained)
    if v.trained < 2:
        raise CheckpointError(f"{v.source}: original_max_position_embeddings {v.trained}: longrope needs 2 or more")
    scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(v.trained))
    short, _ = (_factors(v, key)[0] for key in ("short_factor", "long_factor"))  # a damaged file is told
    return short, v.number("attention_factor", scale)


def _llama3(v: _Values) -> Turning:
    """Long waves are slowed down by `factor`, short ones left, and between them it changes smoothly."""
    frequencies, factor = v.frequencies(), v.number("factor")
    low, high = v.number("low_freq_factor"), v.number("high_freq_factor")
    if high <= low:
        raise CheckpointError(f"{v.source}: high_freq_factor = {high:g} must be above low_freq_factor = {low:g}")
    waves = v.trained * frequencies / (2 * np.pi)  # turns within the trained context
    smooth = np.clip((waves - low) / (high - low), 0, 1)
    return frequencies * ((1 - smooth) / factor + smooth), 1.0


def _yarn(v: _Values) -> Turning:
    """Interpolates frequencies that turn less than beta_slow times in the trained context, leaves those that turn more
    than beta_fast times, and goes along a ramp between."""
    dim, trained = v.dim, v.trained
    if v.number("extrapolation_factor", 1.0) != 1:
        raise UnsupportedError(
            f"{v.source}: rope extrapolation_factor = {brief(v.rope['extrapolation_factor'])} is not supported; use 1"
        )
    longest = integer(v.config, "max_position_embeddings", source=v.source) if v.rope.get("factor") is None else 0
    factor = v.number("factor", longest / trained)
    fast, slow = v.number("beta_fast", 32.0), v.number("beta_slow", 1.0)
    low, high = (dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(v.theta)) for turns in (fast, slow))
    if boolean(v.rope, "truncate", True, source=v.source):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001  # as in transformers: no division by 0
    frequencies = v.frequencies()
    ramp = np.clip((np.arange(len(frequencies)) - low) / (high - low), 0, 1)
    scaled = frequencies / factor * ramp + frequencies * (1 - ramp)
    return scaled, v.number("attention_factor", _yarn_scale(v, factor))


def _yarn_scale(v: _Values, factor: float) -> float:
    scales = [v.rope.get(key) for key in ("mscale", "mscale_all_dim")]
    if not all(scales):
        return _mscale(factor, 1.0)
    mscale, all_dim = v.number("mscale"), v.number("mscale_all_dim")
    return _mscale(factor, mscale) / _mscale(factor, all_dim)


def _mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1


def _score_scale(rope: dict[str, Any], kind: str, source: str) -> float:
    if kind != "yarn" or not rope.get("mscale_all_dim") or rope.get("factor") is None:
        return 1.0
    return _mscale(number(rope, "factor", source=source), number(rope, "mscale_all_dim", source=source)) ** 2


_VARIANTS: dict[str, Callable[[_Values], Turning]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "proportional": _proportional,
    "factors": _factors,
    "dynamic": _dynamic,
    "longrope": _longrope,
    "su": _longrope,  # its first name
}
