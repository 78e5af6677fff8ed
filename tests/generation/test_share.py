"""How prompts share the rows of a step."""

import numpy as np
import pytest

from pipeline.generation.share import share


@pytest.mark.parametrize(
    "left, rows, expected",
    [
        ([], 8, []),
        ([3], 8, [3]),
        ([30], 8, [8]),
        ([30, 2, 5], 8, [4, 2, 2]),  # half is the oldest's, the short ones come next
        ([30, 2], 8, [6, 2]),  # the oldest takes what is left over
        ([2, 30, 4], 8, [2, 2, 4]),
        ([5, 5, 5], 1, [1, 0, 0]),
        ([30, 3], 7, [4, 3]),
    ],
)
def test_rows_are_shared(left, rows, expected):
    assert share(left, rows) == expected


def test_every_prompt_ends_and_no_row_is_idle():
    """Short ones that go on arriving do not keep a long one waiting: it has half of each step."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        left = rng.integers(1, 50, rng.integers(1, 9)).tolist()
        rows = int(rng.integers(1, 40))
        counts = share(left, rows)
        assert sum(counts) == min(rows, sum(left))
        assert all(0 <= count <= most for count, most in zip(counts, left))
        assert counts[0] >= min(left[0], (rows + 1) // 2)
