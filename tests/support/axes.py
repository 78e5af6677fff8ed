"""Parameters of tests whose axes are independent: covered in pairs, not multiplied.

`pairs` parametrises a test by all products of its axes and marks what a daily run leaves to `-m exhaustive`: products beyond a
cover in which any two values of two axes meet. The checker simulates every thread and takes a hundred times longer: there each
value appears once, and an axis may name the few values that stand for all of them.
"""

from dataclasses import dataclass
from itertools import combinations, product

import pytest


@dataclass(frozen=True)
class Axis:
    """The values of one parameter; on_checker: those that the checker takes in a daily run."""

    values: tuple
    on_checker: tuple


def axis(values, on_checker=None) -> Axis:
    if isinstance(values, Axis):
        return values
    values = tuple(values)
    chosen = values if on_checker is None else tuple(on_checker)
    missing = [value for value in chosen if value not in values]
    if missing:
        raise ValueError(f"the checker cannot take {missing}, which the axis has not")
    return Axis(values, chosen)


def each(names, *axes):
    """Like pairs, but each value appears once everywhere: for axes that share no code."""
    return _parametrize(names, [axis(one) for one in axes], strength=1)


def pairs(names, *axes):
    """Parametrises a test by `names`, one axis each: a sequence of values or an Axis. Ids join the values' names."""
    return _parametrize(names, [axis(one) for one in axes], strength=2)


def _parametrize(names, axes, strength):
    names = [name.strip() for name in names.split(",")]
    if len(names) != len(axes):
        raise ValueError(f"{len(names)} names ({', '.join(names)}) for {len(axes)} axes")
    watched = aligned([tuple(one.values.index(value) for value in one.on_checker) for one in axes])
    sizes = [len(one.values) for one in axes]
    everywhere = covering(sizes, watched) if strength == 2 else watched + aligned([range(size) for size in sizes])
    rows = []
    for row in product(*map(range, sizes)):
        values = [one.values[index] for one, index in zip(axes, row)]
        marks = []
        if row not in everywhere:
            marks = [pytest.mark.exhaustive]
        elif row not in watched:
            marks = [pytest.mark.off_checker]
        rows.append(pytest.param(*values, marks=marks, id="-".join(map(name_of, names, values))))
    return pytest.mark.parametrize(names, rows)


def aligned(choices) -> list[tuple]:
    """Rows in which each choice of each axis appears: as many as the longest axis has."""
    return [tuple(choice[i % len(choice)] for choice in choices) for i in range(max(map(len, choices)))]


def covering(sizes, first=()) -> list[tuple]:
    """Rows, `first` among them, in which any two values of two axes meet. The same rows every time."""
    wanted = {
        (a, x, b, y): None
        for a, b in combinations(range(len(sizes)), 2)
        for x in range(sizes[a])
        for y in range(sizes[b])
    }
    if len(sizes) == 1:
        return aligned([range(sizes[0])])
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
        for c in range(len(sizes)):
            if c not in chosen:
                chosen[c] = max(
                    range(sizes[c]), key=lambda z: (_new_pairs(wanted, chosen, c, z), -_used(rows, c, z), -z)
                )
        take(tuple(chosen[c] for c in range(len(sizes))))
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
