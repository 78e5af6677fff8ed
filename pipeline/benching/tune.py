"""`python -m pipeline.bench --tune`: the device's time for real chains with each variant of a choice, and its table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ..checkpoints.opening import open_checkpoint
from ..device.choices import Choices, default_choices
from ..device.device import Device, open_device
from ..device.tuning import check_place, table_path, write_table
from ..errors import UsageError
from ..graph.builder import Pipeline
from ..graph.chain import Chain
from ..graph.plan import Plan
from ..models.cache import Cache
from ..models.decoder import Decoder
from ..models.families import load_model
from ..models.row_state import Rows

__all__ = ["VARIANTS", "Finding", "Task", "Timer", "best", "choose", "tasks", "tune"]

ROWS = (1, 2, 4, 8, 32, 128)  # of decode
PROMPT = 512  # rows of prefill
CONTEXTS = (128, 4096)  # positions of a row that decodes
# The values that are tried, besides the one that is the default.
VARIANTS: dict[str, tuple[int, ...]] = {
    "grouped_rows": (2, 4, 8, 16, 64),
    "staged_rows": (4, 8, 16, 32, 64),
    "split_parts": (1, 2, 4, 8, 16),
    "tensor_split_parts": (1, 2, 4, 8),
    "split_threadgroups": (32, 64, 128, 256, 512, 1024),
    "few_heads": (1, 64, 128, 256, 512, 1024),
}
LEAST_GAIN = 0.01  # of the time of all chains that a choice changes; less is not worth a table


@dataclass(frozen=True)
class Task:
    """One chain: `rows` rows that decode at the position `context`, or a prompt of that many rows."""

    rows: int
    context: int
    prompt: bool = False

    @property
    def label(self) -> str:
        return f"prefill {self.rows}" if self.prompt else f"{self.rows} × {self.context}"


@dataclass
class Finding:
    """The measurement of one variant of a choice, against the choices so far.

    ratios: per task where some variant has another chain, seconds of the variant over those of the choices so far,
    pair by pair; 1 where this one has the same chain."""

    name: str
    value: int
    ratios: dict[Task, list[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The geometric mean over the tasks of the medians: below 1 where the variant is faster."""
        return math.exp(statistics.fmean(math.log(statistics.median(ratios)) for ratios in self.ratios.values()))

    @property
    def noise(self) -> float:
        """How far the ratio may be off: the standard errors of the medians, twice their root mean square."""
        errors = [_error(ratios) for ratios in self.ratios.values()]
        return 2 * math.sqrt(math.fsum(error * error for error in errors)) / len(errors)

    @property
    def gains(self) -> bool:
        """Whether the variant is faster by more than noise."""
        return bool(self.ratios) and 1 - self.ratio > max(LEAST_GAIN, self.noise)


def _error(ratios: Sequence[float]) -> float:
    """The standard error of a median, from the median deviation, as of a normal distribution."""
    middle = statistics.median(ratios)
    return 1.2533 * 1.4826 * statistics.median(abs(ratio - middle) for ratio in ratios) / math.sqrt(len(ratios))


def best(findings: Iterable[Finding]) -> Finding | None:
    """The fastest of the variants that gain; None where none does."""
    return min((each for each in findings if each.gains), key=lambda each: each.ratio, default=None)


class Timer:
    """Chains of a model under any choices, and the device's seconds for a run of each."""

    def __init__(self, model: Decoder, kv_cache: str) -> None:
        self.model = model
        self._kv_cache = kv_cache

    def cache(self, task: Task) -> Cache | None:
        """The cache that all chains of a task share; None where it takes more than half of what the device has left."""
        slots, positions = (1, max(task.rows, task.context)) if task.prompt else (task.rows, task.context)
        cache = self.model.cache(slots, positions, self._kv_cache, rows=task.rows if task.prompt else 1)
        return cache if cache.nbytes <= self.model.device.free_bytes() / 2 else None

    def chain(self, task: Task, choices: Choices, cache: Cache) -> Chain:
        """The chain of a task. Its rows hold random tokens; the cache holds zeros, and what chains before left."""
        model, device, count = self.model, self.model.device, task.rows
        last = task.context - 1
        before, device.choices = device.choices, choices
        try:
            pipe = Pipeline(device, rows=count, label=task.label, own_slots=not task.prompt)
            rows = Rows.zeros(count)
            logits = model.forward(pipe, rows, cache, leading=1 if task.prompt else None)
            assert logits is not None
            chain = pipe.build(logits)
        finally:
            device.choices = before
        tokens = np.random.default_rng(count).integers(0, model.vocab_size, count)
        rows.tokens.write(device, tokens.astype(np.uint32))
        rows.slots.write(device, np.zeros(count, np.uint32) if task.prompt else np.arange(count, dtype=np.uint32))
        at = np.arange(count, dtype=np.uint32) if task.prompt else np.full(count, last, np.uint32)
        rows.positions.write(device, at)
        return chain

    def seconds(self, chain: Chain) -> float:
        """The device's time for one run."""
        run = chain.commit(leading=1 if any(each.leading for each in chain.plan.dispatches) else 0)
        run.wait()
        begin, end = run.device_seconds
        return end - begin


def tasks(model: Decoder) -> list[Task]:
    """The tasks that the context of the model is long enough for."""
    decode = [Task(rows, context) for context in CONTEXTS for rows in ROWS if context <= model.context]
    return decode + ([Task(PROMPT, PROMPT, prompt=True)] if model.context >= PROMPT else [])


def shape_of(plan: Plan) -> tuple[object, ...]:
    """The parts of a plan that choices can change: kernels, grids and constants."""
    return tuple((each.kernel, each.threadgroups, tuple(each.constants.items())) for each in plan.dispatches)


def choose(
    timer: Timer, works: Sequence[Task], start: Choices, repeats: int, progress: Callable[[str], None]
) -> tuple[Choices, list[Finding]]:
    """The best choices, one after another, each measured with those that were chosen before it; and all that was
    measured. A variant that changes no chain is not measured. The best one is measured once more and must gain again,
    because the luckiest of several looks better than it is; what counts is what the second time says."""
    chosen = start
    found: list[Finding] = []
    for name, values in VARIANTS.items():
        findings = [Finding(name, value) for value in values if value != getattr(chosen, name)]
        _measure(timer, works, chosen, findings, repeats, progress)
        findings = [finding for finding in findings if any(set(each) != {1.0} for each in finding.ratios.values())]
        found += findings
        winner = best(findings)
        if winner is None:
            continue
        tasks_of_all = list(winner.ratios)
        winner.ratios.clear()
        _measure(timer, tasks_of_all, chosen, [winner], repeats, progress)
        for task in tasks_of_all:  # the same chains count both times, those too that the winner leaves as they are
            winner.ratios.setdefault(task, [1.0] * repeats)
        if winner.gains:
            chosen = replace(chosen, **{name: winner.value})
    progress("")
    return chosen, found


def _measure(
    timer: Timer,
    works: Sequence[Task],
    chosen: Choices,
    findings: Sequence[Finding],
    repeats: int,
    progress: Callable[[str], None],
) -> None:
    """Measures variants of one choice in all tasks whose caches fit."""
    for work in works:
        cache = timer.cache(work)
        if cache is None or not findings:
            continue
        progress(f"{findings[0].name}: {work.label}")
        for finding, ratios in _compare(timer, work, cache, chosen, findings, repeats):
            finding.ratios[work] = ratios


def _compare(
    timer: Timer, work: Task, cache: Cache, chosen: Choices, findings: Sequence[Finding], repeats: int
) -> Iterator[tuple[Finding, list[float]]]:
    """Each variant whose chain is another one, with the ratios of its time to that of the choices so far. Variants of
    the same chain share their measurement; they alternate, after a run of each that warms up."""
    base = timer.chain(work, chosen, cache)
    chains = {shape_of(base.plan): base}
    of_finding: dict[int, tuple[object, ...]] = {}
    for finding in findings:
        chain = timer.chain(work, replace(chosen, **{finding.name: finding.value}), cache)
        key = shape_of(chain.plan)
        chains.setdefault(key, chain)
        of_finding[finding.value] = key
    if len(chains) == 1:
        return
    times: dict[tuple[object, ...], list[float]] = {key: [] for key in chains}
    for repeat in range(-1, repeats):
        for key, chain in chains.items():
            seconds = timer.seconds(chain)
            if repeat >= 0:
                times[key].append(seconds)
    own = shape_of(base.plan)
    for finding in findings:
        key = of_finding[finding.value]
        same = key == own
        yield finding, [1.0 if same else other / mine for other, mine in zip(times[key], times[own])]


def tune(
    device_name: str,
    threads: int,
    isa: str | None,
    model_path: Path,
    kv_cache: str,
    repeats: int,
    progress: Callable[[str], None],
) -> None:
    """Measures, prints a table, and writes the device's file where something gains."""
    with ExitStack() as stack:
        device = open_device(device_name, threads=threads, isa=isa)
        checkpoint = stack.enter_context(open_checkpoint(model_path))
        model = load_model(checkpoint, device=device)
        start = default_choices(device.name.partition(":")[0], device.core.hardware)
        works = tasks(model)
        if not works:
            raise UsageError(f"{checkpoint.source}: its context of {model.context} is too short to tune with")
        check_place(table_path(device.described))
        timer = Timer(model, kv_cache)
        skipped = [work for work in works if timer.cache(work) is None]
        if skipped:
            names = ", ".join(work.label for work in skipped)
            print(f"not measured, because a cache takes more than half of the memory that is left: {names}")
        if len(skipped) == len(works):
            raise UsageError(f"{checkpoint.source}: nothing could be measured; free memory, or choose a smaller model")
        chosen, found = choose(timer, works, start, repeats, progress)
        show(device, start, chosen, found)


def show(device: Device, start: Choices, chosen: Choices, found: Sequence[Finding]) -> None:
    """Prints what was chosen, and writes it or says why not."""
    table = Table(title=f"choices of {device.described}")
    for title in ("choice", "default", "chosen", "gain", "tried"):
        table.add_column(title, justify="left" if title in ("choice", "tried") else "right")
    for each in fields(Choices):
        own = [finding for finding in found if finding.name == each.name]
        value = getattr(chosen, each.name)
        winner = next((finding for finding in own if finding.value == value), None)
        tried = ", ".join(f"{finding.value}: {1 - finding.ratio:+.1%} ± {finding.noise:.1%}" for finding in own)
        gain = f"{1 - winner.ratio:.1%}" if winner else ""
        table.add_row(each.name, str(getattr(start, each.name)), str(value), gain, tried or "changes no chain")
    Console(highlight=False, markup=False, emoji=False).print(table)
    path = table_path(device.described)
    if chosen == start:
        kept = f"the table from before stays; remove {path} to go back to the defaults" if path.exists() else ""
        print(f"nothing gains more than noise: nothing is written{'; ' + kept if kept else ''}")
        return
    write_table(path, device.described, device.shaders_key(), chosen)
    print(f"written: {path}")
