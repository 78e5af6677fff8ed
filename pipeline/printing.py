"""Text that came from elsewhere, on its way to a terminal: names of tensors and files, messages of templates, tokens.

A terminal obeys control characters: they move the cursor, set colours, and in some terminals do more. So whatever
prints such text prints `printable(text)`; JSON is made by `to_json`. Text for a pipe or a file, such as what a model
wrote, is kept as it is, because it is data there.
"""

import json
import re

__all__ = ["brief", "one_line", "printable", "shown", "to_json"]

MOST_CHARACTERS = 400  # of another program's message
_ODD = re.compile(r"[^\x20-\x7e]")
_KEPT = "\n\t\N{NO-BREAK SPACE}"


def printable(text: str) -> str:
    """`text` with U+FFFD for control characters, and for those that change the direction of writing."""
    return _ODD.sub(lambda found: found[0] if found[0].isprintable() or found[0] in _KEPT else "\ufffd", text)


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """`text` as one printable line of at most `most` characters."""
    line = printable(" ".join(text[: 16 * most].split()))
    return line if len(line) <= most and len(text) <= 16 * most else line[: most - 1] + "…"


def brief(value: object, most: int = 80) -> str:
    """`value` as Python writes it, in at most `most` characters: what a file says in place of something else."""
    return one_line(repr(value), most)


def shown(text: str, stream: object) -> str:
    """`text` as `stream` takes it: printable for a terminal, unchanged for a pipe or a file."""
    isatty = getattr(stream, "isatty", None)
    return printable(text) if isatty is not None and isatty() else text


def to_json(value: object, indent: int | None = None) -> str:
    """`value` as JSON, in which characters that are not printable are escapes: the same value for who reads it."""
    return _ODD.sub(_escaped, json.dumps(value, indent=indent, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable() or character in _KEPT:  # a line break here is one between values
        return character
    return json.dumps(character)[1:-1]
