"""Prefill: tokens of prompts but for their last ones go through a chain without the head, many at a time."""

from __future__ import annotations

from ..graph.builder import Pipeline
from ..graph.plan import Plan
from .prompt_chain import PromptChain


class Prefill(PromptChain):
    """The chain for steps in which no row decodes. Its rows stand behind those that do."""

    def run(self, rows: int) -> None:
        """One step of `rows` rows. Waits for it."""
        self.chain.commit(rows).wait()

    def plan_of(self, rows: int) -> Plan:
        first = self.seats.decoding
        pipe = Pipeline(self.model.device, rows=rows, label="prefill", shows_status=False)
        self.model.forward(pipe, self.seats.rows.slice(first, first + rows), self.cache, leading=0)
        return pipe.plan(())
