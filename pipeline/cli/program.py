"""The frame of the package's programs: how bad options are reported, and how a run ends.

Every error raised on purpose becomes one line on standard error and an exit code.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import host
from ..errors import OnebufError, UsageError
from ..printing import printable
from .streams import flush_output, open_streams

__all__ = [
    "BAD_INPUT",
    "CLOSED_PIPE",
    "HUNG_UP",
    "INTERRUPTED",
    "TERMINATED",
    "Parser",
    "SignalReceived",
    "complain",
    "file_path",
    "guarded",
    "open_streams",
]

BAD_INPUT, CLOSED_PIPE = 2, 141
HUNG_UP, INTERRUPTED, TERMINATED = (128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))


class SignalReceived(KeyboardInterrupt):
    """The end of a run by a signal other than Ctrl-C's. `number` is the signal's."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number = number


class Parser(argparse.ArgumentParser):
    """Raises UsageError, so that every mistake on the command line is reported in one way.

    The argument after an option that takes a value is that value, though it may begin with a dash (`--stop ---`);
    argparse would take it for an option. Only the name of another option is refused there, because it is more likely
    that the value was forgotten.
    """

    def __init__(self, program: str, **options: Any) -> None:
        """`program` is the name of the module; the usage line says it as it was called."""
        command = os.path.basename(sys.argv[0]) == "onebuf"
        super().__init__(prog=f"onebuf {program}" if command else f"python -m pipeline.{program}", **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")

    def parse_known_args(  # type: ignore[override]  # the base class has one signature for each type of a namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        return super().parse_known_args(self._joined(sys.argv[1:] if args is None else args), namespace)

    def _joined(self, arguments: Sequence[str]) -> list[str]:
        """The arguments, where an option's value that begins with a dash is joined to the option."""
        joined: list[str] = []
        waiting = ""  # an option that takes the next argument as its value
        for position, argument in enumerate(arguments):
            if waiting:
                if argument.split("=", 1)[0] in self._option_string_actions:
                    raise UsageError(
                        f"{waiting}: has no value, but is followed by {argument}; write {waiting}={argument} if "
                        "that is its value"
                    )
                if argument.startswith("-") and argument != "-":
                    joined[-1] += ("=" if waiting.startswith("--") else "") + argument
                else:
                    joined.append(argument)
                waiting = ""
            elif argument == "--":
                return joined + list(arguments[position:])
            else:
                joined.append(argument)
                action = self._option_string_actions.get(argument)
                waiting = argument if action is not None and action.nargs is None else ""
        return joined

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and arg_strings == ["--"]:  # of --stop=--, which argparse would drop
            return self._get_value(action, "--")
        return super()._get_values(action, arg_strings)


def file_path(text: str) -> str:
    """A path of the command line, with ~ as the home folder: in `--model=~/x` a shell leaves it as it is."""
    return os.path.expanduser(text)


def guarded(body: Callable[[], int]) -> int:
    """Calls `body` and returns its exit code, or that of the error which ended it."""
    host.exit_code = BAD_INPUT
    try:
        code = body()
        sys.stdout.flush()  # here a full disk is an error like others
        return code
    except OnebufError as error:
        return complain(str(error))
    except SignalReceived as end:
        print(f"onebuf: ended by {signal.Signals(end.number).name}{end}", file=sys.stderr)
        return 128 + end.number
    except KeyboardInterrupt as interrupt:
        print(f"onebuf: interrupted{interrupt}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return CLOSED_PIPE
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    finally:
        flush_output()


def complain(message: str) -> int:
    """Prints an error as one line and returns the exit code of bad input."""
    print(f"onebuf: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return BAD_INPUT
