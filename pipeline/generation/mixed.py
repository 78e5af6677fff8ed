"""Steps in which tokens of prompts go through beside rows that decode, in one command buffer."""

from __future__ import annotations

import functools

from ..graph.builder import Pipeline
from ..graph.plan import Plan
from .prompt_chain import PromptChain
from .results import Results


class Mixed(PromptChain):
    """The chain in which the rows that decode lead, and tokens of prompts follow. The experts of the last layer and the
    head see the leading rows alone."""

    def run(self, leading: int, prompts: int) -> None:
        """One step of the first `leading` rows, which decode, and of `prompts` rows behind them. Waits for it."""
        self.chain.commit(leading + prompts, leading=leading).wait()

    @functools.cached_property
    def results(self) -> Results:
        return Results(self.chain, self.model.end_tokens)

    def plan_of(self, rows: int) -> Plan:
        leading = self.seats.decoding
        pipe = Pipeline(self.model.device, rows=leading + rows, label="mixed", shows_status=False)
        state = self.seats.rows.slice(0, leading + rows)
        logits = self.model.forward(pipe, state, self.cache, leading=leading)
        assert logits is not None
        return pipe.plan(self.seats.sampler.add(pipe, logits, state, finite=True))
