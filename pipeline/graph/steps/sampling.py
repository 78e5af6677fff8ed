"""Sampling: from logits to a token and its log-probability."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from ...device.core import _core
from ...errors import BuildError, ShapeError
from ..step import Step
from ..tensors import Storage, Tensor

SampleArgs: TypeAlias = dict[str, int]  # the struct of that name in shaders/args.h
MASKED = 1 << 31  # of SamplePenalty.biases: the row has a mask; shaders/logits_penalty.metal has it, too


@dataclass(frozen=True)
class Penalties:
    """The tensors of the step that changes logits before a token is drawn.

    rows [R, 6] u32: struct SamplePenalty of shaders/args.h. bias_ids [R, n] u32 with bias_values [R, n]
    f32. history [slots, context] u32 has the token at each position of each row's slot; the row's
    current token is put there by the step. masks [R, vocab / 32 rounded up] u32, for rows whose number of biases has
    the bit MASKED: a bit per token, the lowest of a word first; a token whose bit is 0 cannot be drawn.
    """

    rows: Tensor
    bias_ids: Tensor
    bias_values: Tensor
    history: Tensor
    slots: Tensor
    masks: Tensor | None = None


class Sampling(Step):
    def sample(
        self,
        logits: Tensor,
        temperature: Tensor,
        seeds: Tensor,
        tokens: Tensor | None,
        positions: Tensor,
        advance: bool = True,
        name: str = "sample",
        *,
        filters: Tensor | None = None,
        penalties: Penalties | None = None,
        logprobs: int = 0,
        finite: bool = False,
        given: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Per row 8 bytes, [R, 2] u32: the token, and the bits of its f32 log-probability under
        softmax(logits).

        temperature [R] (≤ 0: argmax, lower index on a tie), seeds [R, 2] u32. The draw is Gumbel-max with
        noise that depends on the row's seed and position only. With `advance` the token goes to `tokens`
        and `positions` moves on: the next run's input. A row with a failed step gives OB_NONE and the
        step's number; with `finite` so does a row with a logit of +inf, which only a model that is damaged
        gives. logits [1, vocab] are every row's.

        In this order, where given: `penalties` (mask, bias, repetition, presence, frequency), temperature, and
        `filters` [R, 3] u32, struct SampleFilter (top-k, top-p, min-p). `logprobs` = n gives (result, top)
        with top [R, n, 2] u32: the n largest of softmax(logits) and their log-probabilities' bits. A row of
        `given` [R] u32 that is not OB_NONE is that row's token: its log-probability is wanted, and no draw.
        """
        args, shared = self._sampling(logits, temperature, name)
        self.check_rows(seeds, name, 2, dtype="u32")
        self.check_rows(positions, name, dtype="u32")
        args.update(advance=int(advance), filtered=int(filters is not None), tempered=int(filters is not None))
        args["finite"], args["given"] = int(finite), int(given is not None)
        if given is not None:
            self.check_rows(given, name, dtype="u32")
        if tokens is None:
            if advance or penalties:
                raise BuildError(f"{self.named(name)}: there are no tokens to advance or to penalise")
            tokens = self.state(self.named(name + ".tokens"), Storage.zeros((self.rows,), "u32"))
        result = self.scratch(name, (self.rows, 2), "u32")
        last, ends = (self._bound(given, temperature), self.status()), ((tokens, positions, result), args)
        parts = math.ceil(args["vocab"] / _core.SAMPLE_PART)
        draws = self.scratch(name + ".draws", (self.rows, parts, 2), "u32")
        if filters is None and penalties is None and not logprobs and not shared:
            if parts == 1:
                self.add(name, "sample", (logits, temperature, seeds, *last), *ends)
                return result
            stats = self.scratch(name + ".stats", (self.rows, parts, 3))
            self.add(
                name + ".parts",
                "sample_part",
                (logits, temperature, seeds, positions),
                (stats, draws),
                args,
                columns=parts,
            )
            self.add(
                name, "sample_merge", (logits, logits, temperature, stats, stats, draws, temperature, *last), *ends
            )
            return result
        if filters is not None:
            self.check_rows(filters, name, 3, dtype="u32")
        stats, maxima = self._parts(logits, temperature, filters, args, name)
        top = self._top_logprobs(logits, stats, maxima, logprobs, args, name) if logprobs else None
        adjusted, rows, totals = logits, temperature, stats  # bound but not read without penalties
        if penalties is not None:
            rows = penalties.rows
            args["adjusted"] = 1
            adjusted, totals = self._penalties(logits, penalties, stats, tokens, positions, args, name)
            self.add(
                name + ".adjusted",
                "logits_part",
                (adjusted, temperature, self._bound(filters, temperature), rows),
                (stats, maxima),
                args,
                columns=parts,
            )
        limits = temperature
        if filters is not None:
            limits = self.scratch(name + ".limits", (self.rows, 2), "u32")
            self.add(
                name + ".limits",
                "filter_limit",
                (logits, adjusted, rows, stats, maxima, temperature, filters),
                (*self._list(name), limits),
                args,
            )
        self.add(
            name + ".draws",
            "draw_part",
            (logits, adjusted, rows, stats, maxima, limits, temperature, seeds, positions),
            (draws,),
            args,
            columns=parts,
        )
        self.add(name, "sample_merge", (logits, adjusted, rows, totals, stats, draws, temperature, *last), *ends)
        return result if top is None else (result, top)

    def gumbel_sample(
        self,
        logits: Tensor,
        temperature: Tensor,
        seeds: Tensor,
        steps: Tensor,
        filters: Tensor | None = None,
        name: str = "gumbel_sample",
    ) -> Tensor:
        """The draw alone, [R, 2] u32 as of `sample`: noise of seeds [R, 2] u32 at steps [R] u32."""
        result = self.sample(logits, temperature, seeds, None, steps, False, name, filters=filters)
        assert isinstance(result, Tensor)  # no log-probabilities were asked for
        return result

    def softmax_sample(
        self, logits: Tensor, temperature: Tensor, uniform: Tensor, name: str = "softmax_sample"
    ) -> Tensor:
        """[R, 2] u32 as of `sample`, by inverse CDF: the first token up to which the probabilities at the
        row's temperature add up to more than uniform [R], a number in [0, 1)."""
        args, _ = self._sampling(logits, temperature, name)
        self.check_rows(uniform, name)
        args["tempered"] = 2
        stats, _ = self._parts(logits, temperature, None, args, name)
        result = self.scratch(name, (self.rows, 2), "u32")
        self.add(name, "softmax_pick", (logits, stats, temperature, uniform, self.status()), (result,), args)
        return result

    def _sampling(self, logits: Tensor, temperature: Tensor, name: str) -> tuple[SampleArgs, bool]:
        """The constants of a step, and whether one row of logits is every row's."""
        if len(logits.shape) != 2 or not 1 <= logits.shape[1] < 2**31:
            raise ShapeError(f"{self.named(name)}: {logits.name} has shape {logits.shape}, expected [rows, vocab]")
        shared = logits.shape[0] == 1 and self.rows > 1
        if shared:
            self.check_shape(logits, name, 1, logits.shape[1])
        else:
            self.check_rows(logits, name, logits.shape[1])
        self.check_rows(temperature, name)
        return {
            "rows": self.rows,
            "vocab": logits.shape[1],
            "shared": int(shared),
            "adjusted": 0,
            "filtered": 0,
            "tempered": 0,
            "logprobs": 0,
            "slots": 0,
            "context": 0,
            "biases": 0,
            "step": self.failing_step(name),
            "advance": 0,
            "finite": 0,
            "given": 0,
        }, shared

    @staticmethod
    def _bound(tensor: Tensor | None, other: Tensor) -> Tensor:
        """`tensor`; without it `other`, for a buffer that the kernel will not read."""
        return other if tensor is None else tensor

    def _parts(
        self, logits: Tensor, temperature: Tensor, filters: Tensor | None, args: SampleArgs, name: str
    ) -> tuple[Tensor, Tensor]:
        """Statistics of the parts of each row, and the maxima of its blocks."""
        rows, vocab, sizes = logits.shape[0], args["vocab"], _core
        parts = math.ceil(vocab / sizes.SAMPLE_PART)
        stats = self.scratch(name + ".stats", (rows, parts, 3))
        maxima = self.scratch(name + ".maxima", (rows, math.ceil(vocab / sizes.SAMPLE_BLOCK)))
        self.add(
            name + ".parts",
            "logits_part",
            (logits, temperature, self._bound(filters, temperature), temperature),
            (stats, maxima),
            args,
            columns=parts,
            row_tile=self.rows if args["shared"] else 1,
        )
        return stats, maxima

    def _list(self, name: str) -> tuple[Tensor, Tensor]:
        size = _core.SAMPLE_LIST
        return self.scratch(name + ".values", (self.rows, size)), self.scratch(name + ".ids", (self.rows, size), "u32")

    def _top_logprobs(
        self, logits: Tensor, stats: Tensor, maxima: Tensor, count: int, args: SampleArgs, name: str
    ) -> Tensor:
        if not 1 <= count <= _core.MAX_LOGPROBS:
            raise BuildError(f"{self.named(name)}: logprobs = {count}; choose 0 to {_core.MAX_LOGPROBS}")
        if args["shared"]:
            raise BuildError(f"{self.named(name)}: logprobs are of rows with logits of their own")
        top = self.scratch(name + ".logprobs", (self.rows, count, 2), "u32")
        self.add(
            name + ".logprobs",
            "top_logprobs",
            (logits, stats, maxima),
            (*self._list(name + ".logprobs"), top),
            {**args, "logprobs": count},
        )
        return top

    def _penalties(
        self,
        logits: Tensor,
        penalties: Penalties,
        stats: Tensor,
        tokens: Tensor,
        positions: Tensor,
        args: SampleArgs,
        name: str,
    ) -> tuple[Tensor, Tensor]:
        """The logits of rows with penalties, changed; and the statistics of the unchanged ones."""
        if args["shared"]:
            raise BuildError(f"{self.named(name)}: penalties are of rows with logits of their own")
        self.check_rows(penalties.rows, name, 6, dtype="u32")
        self.check_rows(penalties.slots, name, dtype="u32")
        biases = penalties.bias_ids.shape[1]
        self.check_rows(penalties.bias_ids, name, biases, dtype="u32")
        self.check_rows(penalties.bias_values, name, biases)
        slots, context = penalties.history.shape
        args.update(slots=slots, context=context, biases=biases)
        adjusted = self.scratch(name + ".adjusted", logits.shape)
        totals = self.scratch(name + ".totals", (self.rows, 3))
        marks = self.state(self.named(name + ".marks"), Storage.zeros(logits.shape, "u32"))
        masks = penalties.masks
        if masks is not None:
            self.check_rows(masks, name, math.ceil(args["vocab"] / 32), dtype="u32")
        self.add(
            name + ".copy",
            "penalty_copy",
            (logits, penalties.rows, self._bound(masks, penalties.rows)),
            (adjusted,),
            args,
            columns=math.ceil(args["vocab"] / _core.SAMPLE_PART),
        )
        self.add(
            name + ".penalties",
            "penalty_apply",
            (penalties.rows, penalties.bias_ids, penalties.bias_values, stats, tokens, positions, penalties.slots),
            (penalties.history, marks, adjusted, totals, self.status()),
            args,
        )
        return adjusted, totals
