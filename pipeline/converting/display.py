"""What a conversion shows: a bar on a terminal, a line a file elsewhere, and at the end what was written."""

from __future__ import annotations

import sys

from ..checkpoints.tensor_info import listed
from ..cli.console import is_live
from ..graph.plan import human


class Lines:
    """Without a terminal: a line on standard error for each file. A context manager, like Bar."""

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        pass

    def start(self, nbytes: int) -> None:
        """`nbytes` of the checkpoint will be read."""

    def advance(self, nbytes: int) -> None:
        """`nbytes` more of them were."""

    def shard(self, name: str, number: int, count: int) -> None:
        """The next file."""
        print(f"onebuf: {name} ({number} of {count})", file=sys.stderr, flush=True)

    def done(self, work, seconds: float) -> None:
        """Everything is written."""
        count, smaller = len(work.shards), work.stored_bytes / max(work.nbytes, 1)
        print(
            f"{work.folder}: {human(work.nbytes)} in {count:,} file{'' if count == 1 else 's'}, {smaller:.1f} times smaller than "
            f"{work.checkpoint.path}, in {seconds:,.0f} s"
        )
        if work.left_out:
            print(f"left out, as mlx-lm does: {listed(work.left_out, 4)}")


class Bar(Lines):
    """On a terminal."""

    def __init__(self):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        )
        self._task = self._progress.add_task("converting", total=None)

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def start(self, nbytes: int) -> None:
        self._progress.update(self._task, total=nbytes)

    def advance(self, nbytes: int) -> None:
        self._progress.advance(self._task, nbytes)

    def shard(self, name: str, number: int, count: int) -> None:
        self._progress.update(self._task, description=name)


def make_progress() -> Lines:
    return Bar() if is_live(sys.stderr) else Lines()
