"""`python -m pipeline.serve`: a model behind OpenAI's interface. docs/serving.md describes it.

Every error raised on purpose before the server runs ends here as one line on standard error and an exit code.
"""

from __future__ import annotations

import sys

from .cli.program import BAD_INPUT, INTERRUPTED, guarded, open_streams
from .serving.options import parse_arguments

__all__ = ["BAD_INPUT", "INTERRUPTED", "OK", "main"]

OK = 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    open_streams()
    options = parse_arguments(arguments)
    from .serving.running import serve  # loads NumPy and the core, for which a mistake in the options need not wait

    serve(options)
    return OK


if __name__ == "__main__":
    sys.exit(main())
