"""The report of a check on a terminal (rich): colours and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

__all__ = ["Terminal"]


class Terminal:
    """Prints text as it is, without rich's own markup."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def print(self, text: str, style: str, end: str) -> None:
        self._console.print(text, style=style or None, end=end)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table with the column "bytes" on the right."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            table.add_column(name, justify="right" if name == "bytes" else "left")
        for row in rows:
            table.add_row(*row)
        self._console.print(Padding(table, (0, 0, 0, 4)))
