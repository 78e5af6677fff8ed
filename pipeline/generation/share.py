"""How the prompts that wait share the rows of a step."""

from __future__ import annotations

from collections.abc import Sequence


def share(left: Sequence[int], rows: int) -> list[int]:
    """How many tokens of each prompt go through in a step of up to `rows`; `left` has what each still has, in order of
    arrival.

    Half of the rows are the oldest prompt's, so that none waits for ever. The others go to those that have the least
    left, so that a short prompt does not wait for a long one. The oldest takes what they leave.
    """
    counts = [0] * len(left)

    def give(index: int, most: int) -> None:
        nonlocal rows
        count = min(most, left[index] - counts[index], rows)
        counts[index] += count
        rows -= count

    if left:
        give(0, -(-rows // 2))
    for index in sorted(range(len(left)), key=lambda index: left[index]):
        give(index, rows)
    return counts
