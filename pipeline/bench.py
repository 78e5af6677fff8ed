"""`python -m pipeline.bench`: how fast a model runs, beside the machine's read bandwidth and beside llama.cpp.

docs/benchmarks.md describes it. Every error raised on purpose ends here as one line on standard error.
"""

import sys

from .benching.options import parse_options
from .cli.program import BAD_INPUT, guarded, open_streams
from .host import LIST

__all__ = ["BAD_INPUT", "OK", "main"]

OK = 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    open_streams()
    options = parse_options(arguments)
    if options.device == LIST:
        from .cli.devices import show_devices  # loads NumPy and the core

        show_devices()
        return OK
    from .benching.running import run  # loads NumPy and the core, for which a mistake in the options need not wait

    run(options)
    return OK


if __name__ == "__main__":
    sys.exit(main())
