"""The sampling end of a chain, with no more in it than its rows may use, and the rows' settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..device.core import _core
from ..graph.builder import Pipeline
from ..graph.steps.sampling import MASKED, Penalties
from ..graph.tensors import Storage, Tensor
from ..graph.transfers import Writes
from ..models.row_state import Rows
from .settings import Sampling


@dataclass(frozen=True)
class Features:
    """The features that some row may use: filters, penalties with up to `biases` logit biases, `logprobs` per token,
    `scores`, the log-probabilities of prompts, and `masks` of the tokens that a grammar allows."""

    filters: bool = False
    penalties: bool = False
    biases: int = 0
    logprobs: int = 0
    scores: bool = False
    masks: bool = False

    @classmethod
    def of(cls, settings: Iterable[Sampling], masks: bool = False) -> Features:
        """The features that rows with these settings use. A mask goes the way of the penalties."""
        settings = list(settings)
        return cls(
            any(each.filters for each in settings),
            masks or any(each.penalises for each in settings),
            max((len(each.logit_bias) for each in settings), default=0),
            max((max(each.logprobs, each.prompt_logprobs or 0) for each in settings), default=0),
            any(each.prompt_logprobs is not None for each in settings),
            masks,
        )

    def also(self, other: Features) -> Features:
        """These and those of `other`."""
        return Features(
            self.filters or other.filters,
            self.penalties or other.penalties,
            max(self.biases, other.biases),
            max(self.logprobs, other.logprobs),
            self.scores or other.scores,
            self.masks or other.masks,
        )


class Sampler:
    """The state of up to `rows` rows on a device, and the steps that use it.

    given: the next token of each row that is scored, which is not drawn then.
    history: the tokens of each slot, as penalties need them; without penalties there is none.
    masks: of the rows' next tokens, where the host sees them and writes them before each step.
    """

    def __init__(self, features: Features, rows: int, slots: int, context: int, vocab: int = 0) -> None:
        self.features = features
        self._storages: dict[str, Storage] = {}
        if features.filters:
            self._storages["filters"] = Storage.zeros((rows, 3), "u32")
        if features.penalties:
            self._storages["penalties"] = Storage.zeros((rows, 6), "u32")
            self._storages["bias_ids"] = Storage.zeros((rows, max(features.biases, 1)), "u32")
            self._storages["bias_values"] = Storage.zeros((rows, max(features.biases, 1)))
            self._history = Storage.zeros((slots, context), "u32")
        self._given = Storage.zeros((rows,), "u32")
        self.masks = Storage.zeros((rows, -(-vocab // 32)), "u32", shared=True) if features.masks else None

    @property
    def state(self) -> tuple[Storage, ...]:
        """What each row has of its own, rows first."""
        return tuple(self._storages.values())

    def add(
        self, pipe: Pipeline, logits: Tensor, rows: Rows, *, finite: bool = False, scores: bool = False
    ) -> tuple[Tensor, ...]:
        """Adds the steps; `rows` is the rows' other state. Gives the chain's outputs: the result, and where
        log-probabilities are asked for, the largest ones. finite: a row fails whose logits hold +inf. scores: rows may
        be given their tokens."""
        count = rows.tokens.shape[0]
        state = {name: pipe.state(name, _first(storage, count)) for name, storage in self._storages.items()}
        penalties = None
        if self.features.penalties:
            penalties = Penalties(
                state["penalties"],
                state["bias_ids"],
                state["bias_values"],
                pipe.state("history", self._history),
                pipe.state("slots", rows.slots),
                pipe.state("masks", _first(self.masks, count)) if self.masks is not None else None,
            )
        result = pipe.sample(
            logits,
            pipe.state("temperatures", rows.temperatures),
            pipe.state("seeds", rows.seeds),
            pipe.state("tokens", rows.tokens),
            pipe.state("positions", rows.positions),
            filters=state.get("filters"),
            penalties=penalties,
            logprobs=self.features.logprobs,
            finite=finite,
            given=pipe.state("given", _first(self._given, count)) if scores else None,
        )
        return result if isinstance(result, tuple) else (result,)

    def seat(
        self,
        writes: Writes,
        row: int,
        settings: Sampling,
        text: Sequence[int],
        prompt: int,
        slot: int,
        masked: bool = False,
    ) -> None:
        """Puts a row's settings in place, and its tokens, of which the first `prompt` are the prompt's, into the
        history of its slot. masked: whether it has a mask."""
        if self.features.filters:
            filters = settings.top_k, _bits(settings.top_p), _bits(settings.min_p)
            writes.add(self._storages["filters"], filters, row)
        if not self.features.penalties:
            return
        writes.add(self._storages["penalties"], _penalties(settings, prompt, masked), row)
        writes.add(self._storages["bias_ids"], list(settings.logit_bias), row)
        writes.add(self._storages["bias_values"], list(settings.logit_bias.values()), row)
        writes.add(self._history, text, slot)

    def give(self, writes: Writes, row: int, tokens: Sequence[int]) -> None:
        """The rows before `row` draw their tokens, those from it on are given these."""
        writes.add(self._given, [_core.NONE] * row + list(tokens), 0)
        if tokens and self.features.penalties:
            writes.add(self._storages["penalties"], [_penalties(Sampling(), 0)] * len(tokens), row)


def _first(storage: Storage, rows: int) -> Storage:
    return storage.slice(0, min(rows, storage.shape[0]))


def _penalties(settings: Sampling, prompt: int, masked: bool = False) -> tuple[int, ...]:
    """What the struct SamplePenalty has of a row."""
    return (
        _bits(settings.repetition_penalty),
        _bits(settings.presence_penalty),
        _bits(settings.frequency_penalty),
        settings.repetition_window,
        prompt,
        len(settings.logit_bias) | (MASKED if masked else 0),
    )


def _bits(value: float) -> int:
    """The bits of a float32, as the row structs hold it beside integers."""
    return int(np.float32(value).view(np.uint32))
