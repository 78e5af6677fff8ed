"""Runs that a shader file states in its comments, as options of `python -m pipeline.check`:

    // onebuf-check: --run doubled --grid 100 --threads 32
    //     --buffer 0=random:100:float --buffer 1=empty:100:float

The comment lines behind it go on with it where they begin with an option. Options without a kernel to run, such as
`-I include -D TILE=16`, hold for the whole file. Paths are looked for from the file's folder.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import UsageError
from .options import Options, parse_case_words, parse_options

__all__ = ["Case", "Cases", "read_cases"]

MARK = "onebuf-check:"
_FIRST = re.compile(rf"\s*//+\s*{MARK}(?P<words>.*)")
_NEXT = re.compile(r"\s*//+\s*(?P<words>--?[A-Za-z].*)")
_LOOSE = re.compile(r"onebuf[- ]?check\s*:", re.IGNORECASE)  # meant to be the mark, perhaps
_FORBIDDEN = ("--cases", "--compile-only", "--json", "--junit", "--sarif", "--help", "-h")


@dataclass(frozen=True)
class Case:
    """One run that a file states, with the options of the whole file in it."""

    line: int
    options: Options

    @property
    def name(self) -> str:
        """The kernels that run, and the line."""
        assert self.options.run is not None  # or it would be no case
        return f"{'+'.join(each.kernel for each in self.options.run.dispatches)}:{self.line}"


@dataclass(frozen=True)
class Cases:
    """The options and cases that a file states. `options` are those to compile and lint the file itself with."""

    options: Options
    cases: list[Case]


def read_cases(file: str, given: Sequence[str]) -> Cases:
    """The cases of a file; `given` are options for all of them. UsageError says what is wrong, and in which line."""
    of_file: list[str] = []
    runs: list[tuple[int, list[str]]] = []
    for line, words in _stated(file):
        if any(word.split("=")[0] in ("--run", "--dispatch") for word in words):
            runs.append((line, words))
        else:
            of_file += words
    parse_case_words([*given])  # what is wrong there is no fault of the file
    own = _without_run(_parsed(file, 0, [*given, *of_file]))
    return Cases(own, [Case(line, _parsed(file, line, [*given, *of_file, *words])) for line, words in runs])


def _stated(file: str) -> list[tuple[int, list[str]]]:
    """The options of each comment, and its line."""
    try:
        lines = Path(file).read_text(errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    found: list[tuple[int, list[str]]] = []
    open_comment = False
    for number, text in enumerate(lines, 1):
        first = _FIRST.fullmatch(text)
        match = first or (_NEXT.fullmatch(text) if open_comment else None)
        open_comment = match is not None
        if match is None:
            if _LOOSE.search(text):
                raise UsageError(f"{file}:{number}: a case must begin its line with // {MARK}")
            continue
        try:
            words = shlex.split(match["words"])
        except ValueError as error:
            raise UsageError(f"{file}:{number}: {MARK} {match['words'].strip()}: {error}") from None
        for word in words:
            if word.split("=")[0] in _FORBIDDEN:
                raise UsageError(f"{file}:{number}: {MARK} {word} has no place in a file; give it on the command line")
        if first:
            found.append((number, words))
        else:
            found[-1][1].extend(words)
    return found


def _parsed(file: str, line: int, words: list[str]) -> Options:
    """The options of one run, or those of the file where `line` is 0."""
    folder = Path(file).absolute().parent
    try:
        with contextlib.chdir(folder):
            options = parse_options([f"./{Path(file).name}", *words, *([] if line else ["--cases"])])
    except UsageError as error:
        raise UsageError(f"{file}{f':{line}' if line else ''}: {MARK} {error}") from None
    if len(options.files) > 1:
        where = f"{file}{f':{line}' if line else ''}"
        raise UsageError(f"{where}: {MARK} {options.files[1]} is no option; write --run KERNEL")
    run = options.run
    if run is not None:
        kernels = {each.kernel for each in run.dispatches}
        allowed = [each for each in run.allowed if each.kernel in kernels]
        run = replace(run, save={name: folder / path for name, path in run.save.items()}, allowed=allowed)
    return replace(options, files=[file], include=[str(folder / each) for each in options.include], run=run)


def _without_run(options: Options) -> Options:
    return replace(options, run=None, case_words=None)
