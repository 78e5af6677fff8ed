"""The settings by which the tokens of one row are chosen, and their ranges. docs/sampling.md has the order."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from ..graph.formats import LARGEST_F32

# Tokens of prompts that go through in a step beside rows that decode, where nothing else is asked for.
PROMPT_ROWS = 256
# Sequences on a device that has memory of its own, where nobody says.
OWN_MEMORY_BATCH = 32
SEEDS = 2**64  # there are so many


@dataclass(frozen=True)
class Range:
    """The range of a setting: whole numbers or numbers, from `low` to `high`, ends left out where open."""

    kind: type
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    note: str = ""

    def holds(self, value: Any) -> Any:  # a number gives a bool, an array an array of bools
        """Whether a number is within the range; for an array, whether each element is. NaN never is."""
        above = value > self.low if self.open_low else value >= self.low
        return above & (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        what = "a whole number" if self.kind is int else "a number"
        if self.low == -LARGEST_F32:
            return f"{what} that is not NaN or inf{self.note}"
        text = f"{what} above {self.low}" if self.open_low else f"{what} of at least {self.low}"
        if self.high not in (math.inf, LARGEST_F32):
            text += f" and below {self.high}" if self.open_high else f" and at most {self.high}"
        return text + self.note


RANGES = {
    "temperature": Range(float, -LARGEST_F32, LARGEST_F32, note="; 0 or less is greedy"),
    "top_k": Range(int, 0, 2**31 - 1, note="; 0 is off"),
    "top_p": Range(float, 0, 1, open_low=True, note="; 1 is off"),
    "min_p": Range(float, 0, 1, note="; 0 is off"),
    "repetition_penalty": Range(float, 0, LARGEST_F32, open_low=True, note="; 1 is off"),
    "repetition_window": Range(int, 0, 2**31 - 1, note="; 0 is the whole text"),
    "presence_penalty": Range(float, -LARGEST_F32, LARGEST_F32, note="; 0 is off"),
    "frequency_penalty": Range(float, -LARGEST_F32, LARGEST_F32, note="; 0 is off"),
    "logprobs": Range(int, 0, 64, note="; 0 is off"),
    "prompt_logprobs": Range(int, 0, 64),
    "uniform": Range(float, 0, 1, open_high=True),
    "seed": Range(int, 0, SEEDS - 1),
    "max_tokens": Range(int, 1),
    "score_from": Range(int, 1),
    "step": Range(int, 0, 2**32 - 1),
}


@dataclass(frozen=True)
class Sampling:
    """The settings of one row beside temperature and seed; the defaults are all off.

    top_k          the k largest logits, of equal ones the lower index
    top_p          tokens while the probability before them, in descending order, is below p
    min_p          tokens with at least this share of the largest probability
    repetition_penalty   divides positive and multiplies negative logits of tokens among the last
                   `repetition_window` of prompt and text (0: all of it)
    presence_penalty     is subtracted from the logits of tokens generated before
    frequency_penalty    the same, times how often each was generated
    logit_bias     token → what is added to its logit; -inf forbids it
    logprobs       how many of the largest log-probabilities come with each token
    prompt_logprobs      None, or the same for the prompt's tokens, each of which then has its log-probability

    Raises UsageError naming the setting and what it may be.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int = 0
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if name != "logit_bias" and (name, getattr(self, name)) != ("prompt_logprobs", None):
                check(name, getattr(self, name))
        if not isinstance(self.logit_bias, Mapping):
            raise UsageError(f"logit_bias {self.logit_bias!r}: impossible; give a mapping from token ids to numbers")
        for token, bias in self.logit_bias.items():
            if not isinstance(token, numbers.Integral) or isinstance(token, bool) or token < 0:
                raise UsageError(f"logit_bias of {token!r}: impossible; tokens are whole numbers of at least 0")
            if not isinstance(bias, numbers.Real) or isinstance(bias, bool) or not bias <= LARGEST_F32:
                raise UsageError(
                    f"logit_bias {bias!r} of token {token}: impossible; give a number, or -inf to forbid the token"
                )

    @property
    def filters(self) -> bool:
        """Whether fewer tokens than all may be drawn."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    @property
    def penalises(self) -> bool:
        """Whether logits are changed before the draw."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0) or bool(
            self.logit_bias
        )


def check(name: str, value: object, label: str | None = None) -> None:
    """Raises UsageError, naming `label` or the setting, where its value is outside of its range."""
    allowed = RANGES[name]
    kind = numbers.Integral if allowed.kind is int else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind) or not allowed.holds(value):
        raise UsageError(f"{label or name} {value!r:.60}: impossible; give {allowed}")


def row_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among the keys of a prompt's line, as Sampling has them, and temperature, seed and max_tokens.

    Null leaves a setting as the run has it. In JSON the tokens of logit_bias are strings. Raises UsageError.
    """
    found = {name: values[name] for name in ROW_KEYS if values.get(name) is not None}
    bias = found.get("logit_bias")
    if isinstance(bias, Mapping):
        try:
            found["logit_bias"] = {int(token): value for token, value in bias.items()}
        except ValueError:
            raise UsageError('logit_bias: its keys are token ids, such as "17"') from None
    for name in ("temperature", "seed", "max_tokens"):
        if name in found and not (name == "max_tokens" and type(found[name]) is int and found[name] == 0):
            check(name, found[name])  # whether 0 tokens are possible depends on what else is wanted
    Sampling(**{name: value for name, value in found.items() if name in Sampling.__dataclass_fields__})
    return found


ROW_KEYS = (*Sampling.__dataclass_fields__, "temperature", "seed", "max_tokens")


def row_seed(seed: int, index: int) -> int:
    """The seed of prompt `index`. It does not depend on the batch, and its neighbours' seeds are unrelated to it.

    SplitMix64 (Steele, Lea, Flood 2014) at position index + 1 of the stream that starts at `seed`.
    """
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) % SEEDS
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % SEEDS
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % SEEDS
    return z ^ (z >> 31)
