"""The frame of the package's programs: how bad options are reported, and how a run ends.

Every error raised on purpose becomes one line on standard error and an exit code.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from ..errors import OnebufError, UsageError
from ..printing import printable

__all__ = ["BAD_INPUT", "CLOSED_PIPE", "INTERRUPTED", "Parser", "complain", "guarded", "open_streams"]

BAD_INPUT, INTERRUPTED, CLOSED_PIPE = 2, 130, 141


class Parser(argparse.ArgumentParser):
    """Raises UsageError, so that every mistake on the command line is reported in one way."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def guarded(body: Callable[[], int]) -> int:
    """Calls `body` and returns its exit code, or that of the error which ended it."""
    try:
        return body()
    except OnebufError as error:
        return complain(str(error))
    except KeyboardInterrupt as interrupt:
        print(f"onebuf: interrupted{interrupt}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return CLOSED_PIPE
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    finally:
        _flush_stdout()


def complain(message: str) -> int:
    """Prints an error as one line and returns the exit code of bad input."""
    print(f"onebuf: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return BAD_INPUT


def open_streams() -> None:
    """Makes standard output and error take any text, whatever the caller did with them."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # None where the caller closed the descriptor
    sys.stderr = sys.stderr or open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a text may hold what the terminal's encoding lacks


def _flush_stdout() -> None:
    """Drops what cannot be written any more, so that the interpreter does not complain of it when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
