"""The tables of a benchmark on a terminal (rich)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from rich.console import Console
from rich.table import Table

__all__ = ["rich_table"]


def rich_table(out: IO[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; Onebuf's rows and that of the whole step are bold."""
    table = Table(
        box=None, header_style="dim", padding=(0, 2, 0, 0) if len(header) < 8 else (0, 1, 0, 0), pad_edge=False
    )
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row, style="bold" if row[0] in ("onebuf", "whole step") else None)
    Console(file=out, highlight=False, markup=False, emoji=False).print(table)
