"""Tokens per second against context and against batch, as SVG (https://www.w3.org/TR/SVG2/) without a library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TypeAlias

from ..host import write_whole
from .workloads import Result

__all__ = ["svg", "write_plot"]

WIDTH, HEIGHT = 460, 320  # per panel
LEFT, RIGHT, TOP, BOTTOM = 64, 104, 40, 48  # its margins; lines are labelled on the right
HEAD = 50  # height of title, subtitle and legend
COLOURS = ("#0b6e99", "#d1495b")  # of the sides, in their order
DASHES = ("", "6 3")
DIGIT, LABEL = 6.5, 13  # pixels that a digit of a tick is wide, that a label is high
DOUBLING = 8  # a batch axis that spans so many times its first value is logarithmic


_Point: TypeAlias = tuple[int, float, float]  # value on the axis, mean, σ
_Lines: TypeAlias = dict[tuple[str, int, int], list[_Point]]  # by side, tokens, value of the other axis
_Scaling: TypeAlias = Callable[[float], float]  # from a value to a pixel


def write_plot(file: Path, results: Sequence[Result], title: str, subtitle: str = "") -> None:
    """Draws the "tg" results of all sides; the file appears complete."""
    write_whole(file, svg([result for result in results if result.work.kind == "tg"], title, subtitle))


def svg(results: Sequence[Result], title: str, subtitle: str = "") -> str:
    """One panel per axis that has several values, side by side; bars are σ, points are means."""
    axes = [axis for axis in ("context", "batch") if len({getattr(each.work, axis) for each in results}) > 1] or [
        "context"
    ]
    sides = list(dict.fromkeys(result.side for result in results))
    width, height = len(axes) * WIDTH, HEAD + HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(LEFT, 20, title, bold=True),
        _text(LEFT, 37, subtitle, fill="#555555"),
    ]
    for number, side in enumerate(sides):
        x = LEFT + 110 * number
        parts += [_line(x, 52, x + 24, 52, *_style(number), 2), _text(x + 30, 56, side)]
    parts += [_panel(results, sides, axis, number * WIDTH) for number, axis in enumerate(axes)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(results: Sequence[Result], sides: list[str], axis: str, left: int) -> str:
    """One panel with `axis` of the workload across, and one line per side, length and value of the other axis."""
    lines = _lines(results, axis)
    points = [point for line in lines.values() for point in line]
    across = _Scale([x for x, _, _ in points], LEFT, WIDTH - RIGHT, logarithmic=axis == "batch")
    up = _Scale([0.0, *(y + sigma for _, y, sigma in points)], HEIGHT - BOTTOM, TOP, rounded=True)
    parts = [f'<g transform="translate({left} {HEAD})">', _text(LEFT, TOP - 14, "tok/s", fill="#555555")]
    for tick in up.ticks():
        parts += [
            _line(LEFT, up(tick), WIDTH - RIGHT, up(tick), "#e2e2e2"),
            _text(LEFT - 6, up(tick) + 4, f"{tick:,.10g}", "end"),
        ]
    parts += _bottom_ticks(sorted({x for x, _, _ in points}), across)
    name = "context: tokens in the KV cache" if axis == "context" else "batch: sequences together"
    parts += [
        _line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#444444"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, name, "middle"),
    ]
    for (side, *_), line in lines.items():
        parts += _series(line, across, up, sides.index(side))
    parts += _labels(lines, axis, sides, up)
    return "\n".join([*parts, "</g>"])


def _lines(results: Sequence[Result], axis: str) -> _Lines:
    """The points of each line; single points only where there are no lines."""
    lines: _Lines = {}
    other = "batch" if axis == "context" else "context"
    for result in results:
        work = result.work
        lines.setdefault((result.side, work.tokens, getattr(work, other)), []).append(
            (getattr(work, axis), result.mean, result.sigma)
        )
    longest = max(len(points) for points in lines.values())
    return {key: sorted(points) for key, points in lines.items() if len(points) > 1 or longest == 1}


def _bottom_ticks(values: Sequence[int], across: _Scaling) -> list[str]:
    """Ticks for the values that have room, from the last one down."""
    parts: list[str] = []
    edge = math.inf
    for value in reversed(values):
        text = f"{value:,}"
        half = DIGIT * len(text) / 2
        if across(value) + half < edge:
            parts.append(_text(across(value), HEIGHT - BOTTOM + 17, text, "middle"))
            edge = across(value) - half - 4
        parts.append(_line(across(value), HEIGHT - BOTTOM, across(value), HEIGHT - BOTTOM + 4, "#444444"))
    return parts


def _labels(lines: _Lines, axis: str, sides: list[str], up: _Scaling) -> list[str]:
    """A label at the end of each line, with the value that it holds fixed; moved apart where two would overlap."""
    other = "batch" if axis == "context" else "context"
    several = len({tokens for _, tokens, _ in lines}) > 1
    ordered = sorted(lines.items(), key=lambda item: up(item[1][-1][1]))
    places = _apart([up(points[-1][1]) + 4 for _, points in ordered], HEIGHT - BOTTOM)
    return [
        _text(
            WIDTH - RIGHT + 8,
            y,
            (f"tg{tokens}, " if several else "") + f"{other} {value:,}",
            fill=_style(sides.index(side))[0],
            size=9 if several else 10,
        )
        for y, ((side, tokens, value), _) in zip(places, ordered)
    ]


def _apart(places: list[float], lowest: float) -> list[float]:
    """The places in their order, LABEL apart: pushed down, and up again where they would pass `lowest`."""
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + LABEL)
    for i in range(len(places))[::-1]:
        places[i] = min(places[i], lowest - (len(places) - 1 - i) * LABEL)
    return places


def _series(points: Sequence[_Point], across: _Scaling, up: _Scaling, side: int) -> list[str]:
    colour, dash = _style(side)
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y, _ in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{_dashes(dash)}/>']
    for x, y, sigma in points:
        parts.append(_line(across(x), up(max(y - sigma, 0)), across(x), up(y + sigma), colour))
        parts.append(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>')
    return parts


class _Scale:
    """Maps values onto pixels from `begin` to `end`, linearly or, where they span many doublings, by their logarithm.

    rounded: the scale ends at the tick above the largest value.
    """

    def __init__(
        self, values: Sequence[float], begin: float, end: float, logarithmic: bool = False, rounded: bool = False
    ) -> None:
        self._low, high = min(values), max(values)
        self._logarithmic = logarithmic and high >= DOUBLING * self._low > 0
        self._begin, self._end = begin, end
        rough = ((high - self._low) or 1.0) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        self._step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        self._high = math.ceil(high / self._step) * self._step if rounded else high

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(each) if self._logarithmic else each for each in (self._low, self._high, value))
        return self._begin + ((value - low) / (high - low) if high > low else 0.5) * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """About five round numbers."""
        return [n * self._step for n in range(math.ceil(self._low / self._step), round(self._high / self._step) + 1)]


def _style(side: int) -> tuple[str, str]:
    """(colour, dashes)."""
    return COLOURS[side % len(COLOURS)], DASHES[side % len(DASHES)]


def _dashes(dash: str) -> str:
    return f' stroke-dasharray="{dash}"' if dash else ""


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "", width: int = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"{_dashes(dash)}/>'
    )


def _text(
    x: float, y: float, text: str, anchor: str = "start", bold: bool = False, fill: str = "#222222", size: int = 12
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}"{weight}>'
        f"{escape(text)}</text>"
    )
