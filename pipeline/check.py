"""`python -m pipeline.check`: Metal compute shaders compiled, linted, listed, and run under the checker.

docs/checking.md describes it. Every error raised on purpose ends here as one line on standard error.
"""

import sys

from .checking.options import parse_options
from .cli.program import BAD_INPUT, guarded, open_streams

__all__ = ["BAD_INPUT", "FOUND", "OK", "main"]

OK, FOUND = 0, 1


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    open_streams()
    options = parse_options(arguments)
    from .checking.checks import check  # loads NumPy and the core, for which a mistake in the options need not wait

    found = check(options)
    return BAD_INPUT if found is None else FOUND if found else OK


if __name__ == "__main__":
    sys.exit(main())
