"""Loading a model without loading it: what its family would take from a checkpoint, and all that stands against it."""

from __future__ import annotations

from ..checkpoints.tensor_info import TensorInfo
from ..errors import CheckpointError, UnsupportedError

MOST_NAMED = 5


class Survey:
    """Stands where a device would, while a model is made: the loader then copies nothing and goes on after a mistake.

    problems: what would have ended the loading, in order.
    """

    def __init__(self):
        self.problems: list[CheckpointError] = []

    def instead(self, problem: CheckpointError, name: str, shape, dtypes) -> TensorInfo:
        """Notes the problem of a tensor; one such as the family expects, to go on with."""
        self.problems.append(problem)
        return TensorInfo(name, dtypes[0], tuple(shape), None, 0, 0)

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
