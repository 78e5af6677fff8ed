"""Parameters of tests whose axes are independent: covered in pairs, not multiplied.

`pairs` parametrises a test by all products of its axes and marks what a daily run leaves to `-m exhaustive`: products
beyond a cover in which any two values of two axes meet. The checker simulates every thread and takes a hundred times
longer: there each value appears once, and an axis may name the few values that stand for all of them. One thread of the
CPU runs the shaders that the checker runs, and takes the same cases.
"""

from dataclasses import dataclass
from itertools import combinations, product

import pytest


@dataclass(frozen=True)
class Axis:
    """The values of one parameter, and places among them: of those that a daily run takes, and that the checker
    takes."""

    values: tuple
    daily: tuple[int, ...]
    on_checker: tuple[int, ...]


def axis(values, on_checker=None, daily=None) -> Axis:
    """An axis of `values`, of which a daily run takes `daily` and the checker `on_checker`, or all."""
    if isinstance(values, Axis):
        return values
    values = tuple(values)
    daily = tuple(range(len(values))) if daily is None else tuple(map(values.index, daily))
    on_checker = daily if on_checker is None else tuple(map(values.index, on_checker))
    if not set(on_checker) <= set(daily):
        raise ValueError(f"the checker cannot take {on_checker} where a daily run takes {daily}")
    return Axis(values, daily, on_checker)


def each(names, *axes, indirect=()):
    """Like pairs, but each value appears once everywhere: for axes that share no code."""
    return _parametrize(names, [axis(one) for one in axes], 1, indirect)


def pairs(names, *axes, indirect=()):
    """Parametrises a test by `names`, one axis each: a sequence of values or an Axis. Ids join the values' names."""
    return _parametrize(names, [axis(one) for one in axes], 2, indirect)


def _parametrize(names, axes, strength, indirect):
    names = [name.strip() for name in names.split(",")]
    if len(names) != len(axes):
        raise ValueError(f"{len(names)} names ({', '.join(names)}) for {len(axes)} axes")
    watched = aligned([one.on_checker for one in axes])
    daily = [one.daily for one in axes]
    everywhere = covering(daily, watched) if strength == 2 else watched + aligned(daily)
    rows = []
    for row in product(*(range(len(one.values)) for one in axes)):
        values = [one.values[place] for one, place in zip(axes, row)]
        marks = [pytest.mark.exhaustive] if row not in everywhere else []
        if marks == [] and row not in watched:
            marks = [pytest.mark.off_checker]
        rows.append(pytest.param(*values, marks=marks, id="-".join(map(name_of, names, values))))
    return pytest.mark.parametrize(names, rows, indirect=list(indirect))


def aligned(choices) -> list[tuple]:
    """Rows in which each choice of each axis appears: as many as the longest axis has."""
    return [tuple(choice[i % len(choice)] for choice in choices) for i in range(max(map(len, choices)))]


def covering(choices, first=()) -> list[tuple]:
    """Rows, `first` among them, in which any two values of two axes meet. The same rows every time."""
    if len(choices) == 1:
        return aligned(choices)
    wanted = {
        (a, x, b, y): None for a, b in combinations(range(len(choices)), 2) for x in choices[a] for y in choices[b]
    }
    rows = []

    def take(row):
        rows.append(row)
        for a, b in combinations(range(len(row)), 2):
            wanted.pop((a, row[a], b, row[b]), None)

    for row in first:
        take(row)
    while wanted:
        a, x, b, y = next(iter(wanted))
        chosen = {a: x, b: y}
        for c, values in enumerate(choices):
            if c not in chosen:
                # the value that brings the most new pairs; of several the one that was taken least, then the first
                chosen[c] = max(values, key=lambda z: (_new_pairs(wanted, chosen, c, z), -_used(rows, c, z)))
        take(tuple(chosen[c] for c in range(len(choices))))
    return rows


def _new_pairs(wanted, chosen, c, z):
    return sum((*((d, w, c, z) if d < c else (c, z, d, w)),) in wanted for d, w in chosen.items())


def _used(rows, c, z):
    return sum(row[c] == z for row in rows)


def name_of(name, value) -> str:
    """A short name of a value, which no other value of its axis has."""
    if isinstance(value, bool):
        return name if value else f"not_{name}"
    if value is None:
        return f"no_{name}"
    if isinstance(value, dict):
        return ",".join(f"{key}={each}" for key, each in value.items()) or "default"
    if isinstance(value, (tuple, list)):
        return "_".join(map(str, value))
    if isinstance(value, (int, float)):
        return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
    return str(value)
