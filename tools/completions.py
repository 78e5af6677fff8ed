"""Makes what shells need to complete the commands and options of `onebuf`, one file per shell.

    pip install shtab; python tools/completions.py

The files are part of the package, so that nobody needs shtab to use them. tests/cli/test_commands.py finds old ones.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import shtab  # noqa: E402  (as those below, found through the line above)

from pipeline import commands, convert, inspect  # noqa: E402
from pipeline.benching import options as bench  # noqa: E402
from pipeline.checking import options as check  # noqa: E402
from pipeline.cli import arguments as run  # noqa: E402
from pipeline.cli.program import file_path  # noqa: E402
from pipeline.serving import options as serve  # noqa: E402

FOLDER = ROOT / "pipeline" / "data" / "completion"
MODULES = {"run": run, "serve": serve, "bench": bench, "check": check, "inspect": inspect, "convert": convert}


def whole() -> argparse.ArgumentParser:
    """One parser of all commands, each with its own parser below it."""
    parser = argparse.ArgumentParser(prog="onebuf")
    parser.add_argument("--version", action="store_true", help="tells the version, the device and the build")
    below = parser.add_subparsers()
    for name, what in commands.COMMANDS.items():
        own = MODULES[name]._parser()
        for action in own._actions:
            if action.type in (file_path, Path):
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's way to say so
        below.add_parser(name, parents=[own], add_help=False, conflict_handler="resolve", help=what)
    below.add_parser("completion", help="prints this text").add_argument("shell", choices=commands.SHELLS)
    return parser


def text(shell: str) -> str:
    """The file of a shell."""
    lines = shtab.complete(whole(), shell).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for shell in commands.SHELLS:
        (FOLDER / shell).write_text(text(shell))


if __name__ == "__main__":
    main()
