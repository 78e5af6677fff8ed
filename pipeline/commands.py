"""`onebuf`: the programs of the package as commands of one program. docs/command-line.md describes it.

    onebuf run "Once upon a time" --temp 0.7        is python -m pipeline.run "Once upon a time" --temp 0.7

Without a command it is `onebuf run`, so that `onebuf` alone tells a story.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.resources
import sys

from .cli.program import guarded, open_streams
from .errors import UsageError

__all__ = ["COMMANDS", "OK", "SHELLS", "main"]

OK = 0
# Each command, and what it does. A module of the same name has the function `main` that runs it.
COMMANDS = {
    "run": "generates text, from one prompt or from files of them",
    "serve": "puts a model behind OpenAI's interface, with a page to talk to it",
    "bench": "measures speed, beside the machine's limits and other programs",
    "check": "compiles, lints and lists Metal compute shaders, and finds their races",
    "inspect": "says what a checkpoint is, what it takes, and why it may not run",
    "convert": "quantises a checkpoint",
}
SHELLS = ("bash", "zsh", "fish")
HELP = """\
usage: onebuf [COMMAND] [OPTION ...]

{commands}
  completion  prints what a shell needs to complete these: {shells}

onebuf COMMAND --help lists the options of a command. Without a command it is onebuf run.
onebuf --version tells the version, the device and the build.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    first = words[0] if words else ""
    if first in COMMANDS:
        return _program(first, words[1:])
    if first.startswith("-") and first not in ("-h", "--help", "--version") or not words:
        return _program("run", words)
    return guarded(lambda: _own(first, words[1:]))


def _program(name: str, words: list[str]) -> int:
    code: int = importlib.import_module(f".{name}", __package__).main(words)
    return code


def _own(first: str, rest: list[str]) -> int:
    open_streams()
    if rest and first.startswith("-"):
        raise UsageError(f"{first} stands alone; leave out {rest[0][:40]!r}")
    if first in ("-h", "--help"):
        width = max(map(len, [*COMMANDS, "completion"]))
        lines = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
        print(HELP.format(commands=lines, shells=", ".join(SHELLS)), end="")
    elif first == "--version":
        from .cli.version import version  # loads NumPy and the core, for which a mistake need not wait

        print(version())
    elif first == "completion":
        print(_completion(rest), end="")
    else:
        near = difflib.get_close_matches(first, [*COMMANDS, "completion"], n=1)
        hint = f"do you mean {near[0]}?" if near else f'a prompt goes to onebuf run "{first[:20]}"'
        raise UsageError(f"{first[:40]!r} is no command; they are {', '.join(COMMANDS)}; {hint}")
    return OK


def _completion(rest: list[str]) -> str:
    """The text of a shell's completion; tools/completions.py makes the files."""
    if len(rest) != 1 or rest[0] not in SHELLS:
        raise UsageError(f"completion: name one shell of {' or '.join(SHELLS)}, as in onebuf completion {SHELLS[0]}")
    return (importlib.resources.files(__package__) / "data" / "completion" / rest[0]).read_text()


if __name__ == "__main__":
    sys.exit(main())
