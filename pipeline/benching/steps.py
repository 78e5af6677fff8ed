"""The time of a decode step, divided among its dispatches, from a traced run: each has a command buffer of its own."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, replace

from ..generation.generator import Generator
from .workloads import Onebuf, Prompts, Workload, run

__all__ = ["GROUPS", "StepTimes", "group_of", "time_steps"]

STEPS = 16  # traced decode steps, after one that warms up
GROUPS = ("router", "experts", "mlp", "projections", "attention", "recurrent", "norms", "head", "sampling", "other")
_GROUP_OF_STEP = {  # by the name's first two parts, or its first one
    "router": "router",
    "experts": "experts",
    "experts.shared": "mlp",
    "mlp": "mlp",
    "attention.absorb": "projections",
    "attention.values": "projections",  # latent attention's matrices
    "heads_to_cache": "attention",
    "latent_to_cache": "attention",
    "attention": "attention",
    "attention.merge": "attention",
    "gate": "attention",
    "row_links": "recurrent",
    "causal_conv": "recurrent",
    "gated_delta": "recurrent",
    "gated_norm": "recurrent",
    "ssm_scan": "recurrent",
    "conv_input": "recurrent",
    "conv_output": "recurrent",
    "rope_table": "attention",
    "rope_full": "attention",
    "rope_sliding": "attention",
    "logits": "head",
    "sample": "sampling",
}
_GROUP_OF_SUFFIX = {"norm": "norms", "proj": "projections"}  # of a first part: "post_norm", "q_proj+k_proj+v_proj"


@dataclass(frozen=True)
class StepTimes:
    """Median seconds of a decode step.

    groups   of the traced dispatches, by group
    whole    of the same step as one command buffer, with the host's part, from the measured repeats
    """

    work: Workload
    groups: dict[str, float]
    whole: float

    @property
    def dispatches(self) -> float:
        return sum(self.groups.values())

    @property
    def between(self) -> float:
        """The whole less its dispatches: barriers, hand-over between threads, encoding, reading back.

        It is below 0 where dispatches alone took longer than within the whole."""
        return self.whole - self.dispatches

    def share(self, seconds: float) -> float:
        return seconds / self.whole


def group_of(step: str) -> str:
    """The group of a step's name, such as "layers.3.experts.gate_up"."""
    first, *rest = re.sub(r"^layers\.\d+\.", "", step).split(".")
    found = _GROUP_OF_STEP.get(".".join([first, *rest[:1]])) or _GROUP_OF_STEP.get(first)
    if found is None and first.startswith("in_proj"):
        return "projections"
    return found or _GROUP_OF_SUFFIX.get(first.rpartition("_")[2], "other")


def time_steps(side: Onebuf, work: Workload, prompts: Prompts, whole: float) -> StepTimes:
    """Traces a few decode steps of a "tg" workload. whole: seconds of an untraced step."""
    short = replace(work, tokens=min(work.tokens, STEPS + 1))
    generator = Generator(side.model, batch_size=work.batch, context=work.positions, kv_cache=side.kv_cache, trace=True)
    run(generator, side.requests(short, prompts))
    steps: dict[int, dict[str, float]] = {}
    for event in generator.trace():
        groups = steps.setdefault(event.command_buffer, dict.fromkeys(GROUPS, 0.0))
        groups[group_of(event.step)] += event.end_seconds - event.start_seconds
    kept = list(steps.values())[1:] or list(steps.values())
    return StepTimes(work, {name: statistics.median(groups[name] for groups in kept) for name in GROUPS}, whole)
