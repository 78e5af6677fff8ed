"""The results as tables for people and as one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ..cli.console import is_live
from ..graph.plan import human
from .bandwidth import Bandwidth
from .steps import GROUPS, StepTimes
from .traffic import Traffic
from .workloads import Result, Workload

__all__ = ["Report", "hardware_line", "heading", "results_table", "show", "steps_table", "subtitle", "to_json"]

STEPS_NOTE = (
    "time by step: each dispatch in a command buffer of its own; the last rows compare them "
    "with the same step as one command buffer"
)


@dataclass
class Report:
    """All that was measured. `results` come workload by workload, Onebuf first; `peer` describes the peer's build."""

    model: dict[str, Any]
    device: dict[str, Any]
    settings: dict[str, Any]
    bandwidth: Bandwidth
    traffic: Traffic
    results: list[Result]
    steps: list[StepTimes]
    peer: dict[str, Any] | None = None

    def active_bytes(self, result: Result) -> float | None:
        """The least bytes that a generated token reads; None for anything but Onebuf's text generation."""
        work = result.work
        if work.kind != "tg" or result.side != "onebuf":
            return None
        return self.traffic.per_token(work.batch, self.traffic.cache(work.context, work.tokens))

    def share(self, result: Result) -> float | None:
        """The share of the machine's best read bandwidth that the median speed uses."""
        active = self.active_bytes(result)
        return None if active is None else active * result.median / self.bandwidth.best

    def ratio(self, result: Result) -> float | None:
        """Onebuf's median over the peer's, for the same workload."""
        if result.side != "onebuf":
            return None
        other = next((each for each in self.results if each.work == result.work and each.side != "onebuf"), None)
        return None if other is None else result.median / other.median


def to_json(report: Report) -> str:
    """The report as one JSON object, which docs/benchmarks.md describes."""
    bandwidth, traffic = report.bandwidth, report.traffic
    return json.dumps(
        {
            "model": report.model,
            "device": report.device,
            "settings": report.settings,
            "peer": report.peer,
            "bandwidth": {
                "best_bytes_per_second": bandwidth.best,
                "median_bytes_per_second": bandwidth.median,
                "passes": bandwidth.passes,
                "buffer_bytes": bandwidth.nbytes,
                "how": bandwidth.how,
            },
            "active": {
                "shared_bytes": traffic.shared,
                "expert_bytes": traffic.expert,
                "embedding_row_bytes": traffic.row,
                "position_bytes": traffic.position,
                "experts": traffic.experts,
                "top_k": traffic.top_k,
                "state_bytes": traffic.state,
                "windows": [
                    {"positions": window, "position_bytes": nbytes} for window, nbytes in traffic.windows.items()
                ],
            },
            "results": [_result_json(report, result) for result in report.results],
            "steps": [_steps_json(steps) for steps in report.steps],
        },
        indent=2,
        allow_nan=False,
    )


def _work_json(work: Workload) -> dict[str, Any]:
    return {"kind": work.kind, "tokens": work.tokens, "batch": work.batch, "context": work.context}


def _result_json(report: Report, result: Result) -> dict[str, Any]:
    return {
        "side": result.side,
        **_work_json(result.work),
        "seconds": result.seconds,
        "mean_tokens_per_second": result.mean,
        "sigma_tokens_per_second": result.sigma,
        "median_tokens_per_second": result.median,
        "active_bytes_per_token": report.active_bytes(result),
        "share_of_bandwidth": report.share(result),
        "ratio_to_peer": report.ratio(result),
    }


def _steps_json(steps: StepTimes) -> dict[str, Any]:
    return {
        **_work_json(steps.work),
        "seconds": steps.groups,
        "dispatches_seconds": steps.dispatches,
        "whole_seconds": steps.whole,
        "between_seconds": steps.between,
        "between_share": steps.share(steps.between),
    }


def show(report: Report, out: IO[str] | None = None) -> None:
    """Prints the tables: by rich on a terminal, as plain text otherwise."""
    out = sys.stdout if out is None else out
    table = _plain_table
    if is_live(out):
        from .terminal import rich_table  # brings rich along, which only a terminal needs

        table = rich_table
    for line in heading(report):
        print(line, file=out)
    table(out, *results_table(report))
    if report.steps:
        print(f"\n{STEPS_NOTE}", file=out)
        table(out, *steps_table(report))


def subtitle(report: Report) -> str:
    """The subtitle of a plot: the workloads, the machine, the number of repeats."""
    tests = sorted({result.work.tokens for result in report.results if result.work.kind == "tg"})
    return hardware_line(
        report.device, report.settings["repeats"], f"text generation ({', '.join(f'tg{tokens}' for tokens in tests)})"
    )


def hardware_line(device: dict[str, Any], repeats: int, what: str) -> str:
    """`what` was measured, on which machine, and how often."""
    return f"{what}, {_hardware(device)}{_threads(device)}, mean and σ of {repeats}"


def _hardware(device: dict[str, Any]) -> str:
    return f"{device['hardware']}, {device['isa']}" if device["isa"] else str(device["hardware"])


def _threads(device: dict[str, Any]) -> str:
    return f", {device['threads']} threads" if device["threads"] else ""  # a GPU has none of its own


def heading(report: Report) -> list[str]:
    """The lines above the tables."""
    model, device, bandwidth = report.model, report.device, report.bandwidth
    lines = [
        f"{model['name']}: {model['layers']} layers, vocabulary {model['vocab']:,}, {human(model['bytes'])}; "
        f"device {device['name']} ({_hardware(device)}){_threads(device)}",
        f"read bandwidth: best {bandwidth.best / 1e9:.1f} GB/s, median {bandwidth.median / 1e9:.1f} GB/s "
        f"({bandwidth.how}, {human(bandwidth.nbytes)}, {len(bandwidth.passes)} passes)",
    ]
    return lines + ([_peer_line(report.peer)] if report.peer else [])


def _peer_line(peer: dict[str, Any]) -> str:
    return f"{peer['name']} {peer['version']}" + (f": {peer['how']}" if "how" in peer else "")


def results_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """(headings, rows) of all results."""
    header = ["side", "test", "batch", "tok/s", "median", "MB per token", "bandwidth"]
    header += ["× peer"] if report.peer else []
    rows = []
    for result in report.results:
        active, share, ratio = report.active_bytes(result), report.share(result), report.ratio(result)
        row = [
            result.side,
            result.work.label,
            str(result.work.batch),
            f"{_rate(result.mean)} ± {_rate(result.sigma)}",
            _rate(result.median),
            "" if active is None else f"{active / 1e6:.1f}",
            "" if share is None else f"{share:.1%}",
        ]
        rows.append(row + (["" if ratio is None else f"{ratio:.2f}"] if report.peer else []))
    return header, rows


def steps_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """(headings, rows) of the time by step."""
    header = ["step"] + [f"{steps.work.label} batch {steps.work.batch}" for steps in report.steps]

    def row(name: str, seconds_of: Callable[[StepTimes], float]) -> list[str]:
        return [name] + [
            f"{seconds_of(steps) * 1e6:,.0f} µs {steps.share(seconds_of(steps)):6.1%}" for steps in report.steps
        ]

    def seconds_of_group(name: str) -> Callable[[StepTimes], float]:
        return lambda steps: steps.groups[name]

    rows = [row(name, seconds_of_group(name)) for name in GROUPS if any(steps.groups[name] for steps in report.steps)]
    rows.append(row("all dispatches", lambda steps: steps.dispatches))
    rows.append(row("between them", lambda steps: steps.between))
    rows.append(row("whole step", lambda steps: steps.whole))
    return header, rows


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _plain_table(out: IO[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        cells = [
            cell.ljust(width) if i < 2 and len(header) > 5 or i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ]
        print("  ".join(cells).rstrip(), file=out)
