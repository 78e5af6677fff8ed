"""`python -m pipeline.run`: from the command line to finished rows. docs/command-line.md describes it.

Every error raised on purpose ends here as one line on standard error and an exit code.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .cli.arguments import parse_arguments
from .cli.program import BAD_INPUT, CLOSED_PIPE, HUNG_UP, INTERRUPTED, TERMINATED, guarded, open_streams
from .host import LIST

if TYPE_CHECKING:
    from .cli.engine import Engine

__all__ = ["BAD_INPUT", "CLOSED_PIPE", "HUNG_UP", "INTERRUPTED", "OK", "SOME_FAILED", "TERMINATED", "main"]

OK, SOME_FAILED = 0, 1


def main(arguments: list[str] | None = None, engine: Engine | None = None) -> int:
    """Runs the command line; returns the exit code. `engine` loads and generates: None is the package, tests have
    others."""
    return guarded(lambda: _main(arguments, engine))


def _main(arguments: list[str] | None, engine: Engine | None) -> int:
    open_streams()
    settings = parse_arguments(arguments)
    if settings.device == LIST:
        from .cli.devices import show_devices  # loads NumPy and the core

        show_devices()
        return OK
    from .cli.running import run  # loads NumPy and the core, for which a mistake in the options need not wait

    if settings.ray is not None and engine is None:
        from .ray.engine import RayEngine  # the same

        with RayEngine(settings) as machines:
            return OK if run(settings, machines.engine) else SOME_FAILED
    return OK if run(settings, engine) else SOME_FAILED


if __name__ == "__main__":
    sys.exit(main())
