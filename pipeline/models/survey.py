"""Loading a model on paper: it finds what its family would take from a checkpoint, and all that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..checkpoints.tensor_info import TensorInfo
from ..errors import CheckpointError, UnsupportedError

MOST_NAMED = 5
MOST_PROBLEMS = 1000  # a configuration that is wrong in its sizes misses tensors without end


class Survey:
    """Stands where a device would, while a model is made: the loader then copies nothing and goes on after a mistake.

    problems: the errors that would have ended the loading, in order.
    """

    def __init__(self) -> None:
        self.problems: list[CheckpointError] = []

    def instead(self, problem: CheckpointError, name: str, shape: Sequence[int], dtypes: Sequence[str]) -> TensorInfo:
        """Notes the problem of a tensor, and gives one such as the family expects, to go on with. Raises it where there
        are too many already."""
        if len(self.problems) >= MOST_PROBLEMS:
            raise problem
        self.problems.append(problem)
        return TensorInfo(name, dtypes[0], tuple(shape), Path(), 0, 0)

    def check(self) -> None:
        """Raises the first problem and names some others; UnsupportedError where every one of them is that."""
        if not self.problems:
            return
        kind = (
            UnsupportedError
            if all(isinstance(problem, UnsupportedError) for problem in self.problems)
            else CheckpointError
        )
        named = "; ".join(str(problem) for problem in self.problems[:MOST_NAMED])
        more = len(self.problems) - MOST_NAMED
        raise kind(named + (f"; and {more:,} more of this kind" if more > 0 else ""))
