"""Tokens a second against context and against batch, as SVG (https://www.w3.org/TR/SVG2/) without a library."""

from __future__ import annotations

import math
import os
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 420, 300  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 44  # its margins
LEGEND = 18  # of a line
COLOURS = ("#0b6e99", "#d1495b", "#5a8f29", "#8f5aa8", "#c77700", "#4a5568", "#00798c", "#a23b72")


def write_plot(file: Path, results, title: str) -> None:
    """Draws the "tg" results of all sides; the file appears complete."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(svg([result for result in results if result.work.kind == "tg"], title), encoding="utf-8")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def svg(results, title: str) -> str:
    """The two panels side by side. Bars are σ, points are means."""
    panels = [_panel(results, "context", "batch", 0), _panel(results, "batch", "context", WIDTH)]
    lines = max(legend for _, legend in panels)
    width, height = 2 * WIDTH, HEIGHT + 24 + lines * LEGEND
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(width / 2, 16, title, "middle", bold=True),
        *(body for body, _ in panels),
        "</svg>",
    ]) + "\n"  # fmt: skip


def _panel(results, axis: str, other: str, left: int) -> tuple[str, int]:
    """One panel with `axis` of the workload across and a line for each side, length and `other`; with the
    number of its legend's lines."""
    lines: dict[tuple, list] = {}
    for result in results:
        work = result.work
        lines.setdefault((result.side, work.tokens, getattr(work, other)), []).append(
            (getattr(work, axis), result.mean, result.sigma))
    across = _Scale([x for points in lines.values() for x, _, _ in points], LEFT, WIDTH - RIGHT, from_zero=axis == "context")
    up = _Scale([y + s for points in lines.values() for _, y, s in points], HEIGHT - BOTTOM, TOP, from_zero=True)
    parts = [f'<g transform="translate({left} 14)">']
    for tick in up.ticks():
        y = up(tick)
        parts += [_line(LEFT, y, WIDTH - RIGHT, y, "#dddddd"), _text(LEFT - 6, y + 4, f"{tick:,.10g}", "end")]
    for tick in sorted({x for points in lines.values() for x, _, _ in points}):
        parts.append(_text(across(tick), HEIGHT - BOTTOM + 16, f"{tick:,}", "middle"))
    parts += [_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#444444"),
              _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axis, "middle"), _text(LEFT - 6, TOP - 12, "tok/s", "end")]
    for number, ((side, tokens, value), points) in enumerate(sorted(lines.items())):
        colour = COLOURS[number % len(COLOURS)]
        parts += _series(sorted(points), across, up, colour)
        y = HEIGHT + 4 + number * LEGEND
        parts += [_line(LEFT, y, LEFT + 20, y, colour, 2), _text(LEFT + 26, y + 4, f"{side}, tg{tokens}, {other} {value:,}")]
    return "\n".join([*parts, "</g>"]), len(lines)


def _series(points, across, up, colour: str) -> list[str]:
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y, _ in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for x, y, sigma in points:
        parts.append(_line(across(x), up(max(y - sigma, 0)), across(x), up(y + sigma), colour))
        parts.append(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>')
    return parts


class _Scale:
    """Maps values linearly onto pixels from `begin` to `end`."""

    def __init__(self, values, begin: float, end: float, from_zero: bool):
        self._low = 0.0 if from_zero else min(values)
        high = max(values)
        self._span = (high - self._low) or 1.0
        self._high = high
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        return self._begin + (value - self._low) / self._span * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """About five round numbers."""
        rough = self._span / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        return [n * step for n in range(math.ceil(self._low / step), math.floor(self._high / step) + 1)]


def _line(x1, y1, x2, y2, colour: str, width: int = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(x, y, text: str, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
