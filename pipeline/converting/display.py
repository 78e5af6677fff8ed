"""The display of a conversion without a terminal, and the base of the bar: at the end both say what was written."""

from __future__ import annotations

import sys
from typing import Self

from ..checkpoints.tensor_info import listed
from ..graph.plan import human
from ..printing import printable
from .conversion import Conversion

__all__ = ["Lines"]


class Lines:
    """One line on standard error per file. A context manager, like bar.Bar."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def start(self, nbytes: int) -> None:
        """`nbytes` of the checkpoint will be read."""

    def advance(self, nbytes: int) -> None:
        """`nbytes` more of them were read."""

    def shard(self, name: str, number: int, count: int) -> None:
        """File `name`, number `number` of `count`, comes next."""
        print(f"onebuf: {name} ({number} of {count})", file=sys.stderr, flush=True)

    def done(self, work: Conversion, seconds: float) -> None:
        """Everything is written."""
        count, ratio = len(work.shards), work.stored_bytes / max(work.nbytes, 1)
        size = f"{ratio:.1f} times smaller" if ratio >= 1 else f"{1 / max(ratio, 1e-9):.1f} times larger"
        out, source = (printable(str(path)) for path in (work.out, work.checkpoint.path))
        print(
            f"{out}: {human(work.nbytes)} in {count:,} file{'' if count == 1 else 's'}, {size} than "
            f"{source}, in {seconds:,.0f} s"
        )
        if work.left_out:
            print(f"left out, as mlx-lm does: {printable(listed(work.left_out, 4))}")
