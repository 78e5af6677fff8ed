"""The figures of a run in the text format of Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..generation.usage import Blocks
from ..host import write_whole

__all__ = ["Figures", "check_metrics", "to_text", "write_metrics"]

_BEGIN = "# HELP onebuf_"


@dataclass(frozen=True)
class Figures:
    """A run so far.

    prefix_tokens   those of `prompt_tokens` whose keys and values were in the cache already
    left            seconds that the rest may take; None where nobody knows
    rates           tokens of prompts and generated ones per second, since the figures before these
    """

    finished: int
    failed: int
    running: int
    prompt_tokens: int
    generated_tokens: int
    seconds: float
    left: float | None
    prefix_tokens: int = 0
    preemptions: int = 0
    blocks: Blocks = Blocks()
    rates: tuple[float, float] = (0.0, 0.0)


def to_text(figures: Figures) -> str:
    """The figures as metrics, each with what it is."""
    lines: list[str] = []

    def add(name: str, kind: str, what: str, *samples: tuple[str, float]) -> None:
        lines.extend((f"# HELP onebuf_{name} {what}", f"# TYPE onebuf_{name} {kind}"))
        lines.extend(f"onebuf_{name}{labels} {value:.15g}" for labels, value in samples)

    rows = (('{state="finished"}', figures.finished), ('{state="failed"}', figures.failed))
    add("rows_total", "counter", "Rows that this run wrote.", *rows)
    add("prompts_running", "gauge", "Prompts that are on their way.", ("", figures.running))
    tokens = (('{kind="prompt"}', figures.prompt_tokens), ('{kind="generated"}', figures.generated_tokens))
    add("tokens_total", "counter", "Tokens of prompts that went through the model, and generated ones.", *tokens)
    rates = (('{kind="prompt"}', figures.rates[0]), ('{kind="generated"}', figures.rates[1]))
    add("tokens_per_second", "gauge", "The same, per second since the last version of this file.", *rates)
    add(
        "prefix_tokens_total",
        "counter",
        "Tokens of prompts that were in the cache already.",
        ("", figures.prefix_tokens),
    )
    what = "Prompts that gave up their part of a full cache and were computed again."
    add("preemptions_total", "counter", what, ("", figures.preemptions))
    blocks = [(f'{{state="{state}"}}', count) for state, count in figures.blocks._asdict().items()]
    add("cache_blocks", "gauge", "Blocks of the KV cache: of texts that run, kept for beginnings, and free.", *blocks)
    add("run_seconds", "gauge", "Time since the first prompt could run.", ("", round(figures.seconds, 3)))
    if figures.left is not None:
        add("left_seconds", "gauge", "Time that the rest may take.", ("", round(figures.left, 3)))
    return "\n".join(lines) + "\n"


def write_metrics(path: Path, figures: Figures) -> None:
    """Puts a new version of the file in the place of the last one."""
    try:
        write_whole(path, to_text(figures))
    except OSError as error:
        raise UsageError(f"--metrics {path}: cannot be written: {error.strerror or error}") from error


def check_metrics(path: Path) -> None:
    """Raises UsageError where the place of the metrics has something else: a pipe, which nobody may read, or a file."""
    if not path.exists():
        return
    if not path.is_file():
        raise UsageError(f"--metrics {path}: is no regular file, which it must be to be renewed; give another name")
    with open(path, "rb") as file:
        begin = file.read(len(_BEGIN))
    if begin and begin != _BEGIN.encode():
        raise UsageError(f"--metrics {path}: is a file of something else; give another name")
