"""Steps in which tokens of prompts go through beside rows that decode, in one command buffer."""

from __future__ import annotations

import functools

from ..graph.builder import Pipeline
from ..graph.plan import Plan
from .prompt_chain import PromptChain
from .results import Results


class Mixed(PromptChain):
    """The chain in which the rows that decode lead, and tokens of prompts follow. The experts of the last layer and the
    head see the leading rows alone. Tokens of prompts that are scored lead, too, behind the rows that decode."""

    def run(self, leading: int, rows: int) -> None:
        """One step of `rows` rows, of which the first `leading` ones decode or are scored. Waits for it."""
        self.chain.commit(rows, leading=leading).wait()

    @functools.cached_property
    def results(self) -> Results:
        return Results(self.chain, self.model.end_tokens)

    def plan_of(self, rows: int) -> Plan:
        scores, decoding = self.seats.features.scores, self.seats.decoding
        leading = decoding + rows if scores else decoding
        pipe = Pipeline(self.model.device, rows=decoding + rows, label="mixed", shows_status=False)
        state = self.seats.rows.slice(0, decoding + rows)
        logits = self.model.forward(pipe, state, self.cache, leading=leading)
        assert logits is not None
        return pipe.plan(self.seats.sampler.add(pipe, logits, state, finite=True, scores=scores))
