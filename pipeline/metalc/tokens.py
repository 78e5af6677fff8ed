"""Tokens of preprocessed C++ with the place in the shader that each came from."""

import re
from dataclasses import dataclass

_PATTERN = re.compile(
    r"""
    (?P<marker>^\#[ \t]+\d+[ \t]+"(?:[^"\\]|\\.)*"[^\n]*$)
  | (?P<directive>^\#[^\n]*$)
  | (?P<newline>\n)
  | (?P<space>[ \t\r\f\v]+)
  | (?P<string>(?:u8|[uUL])?"(?:[^"\\\n]|\\.)*")
  | (?P<character>'(?:[^'\\\n]|\\.)+')
  | (?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
  | (?P<number>\.?[0-9](?:[eEpP][+-]|['0-9A-Za-z_.])*)
  | (?P<symbol>::|->|==|!=|<=|&&|\|\||\+\+|--|\.\.\.|.)
    """,
    re.VERBOSE | re.MULTILINE,
)
_MARKER = re.compile(r'#[ \t]+(\d+)[ \t]+"((?:[^"\\]|\\.)*)"')

__all__ = ["Token", "match_brackets", "place", "tokenize"]

CLOSERS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Token:
    """One token, text[start:end], and its place in the shader."""

    text: str
    kind: str
    start: int
    end: int
    file: str
    line: int


def tokenize(text: str, file: str) -> list[Token]:
    """Tokens of preprocessed text; file and line follow the line markers."""
    tokens: list[Token] = []
    line = 1
    for match in _PATTERN.finditer(text):
        kind = match.lastgroup or ""
        if marker := _MARKER.match(match.group()) if kind == "marker" else None:
            number, name = marker.groups()
            # The newline that ends the marker brings the count to its number.
            line, file = int(number) - 1, name.replace("\\\\", "\\").replace('\\"', '"')
        elif kind == "newline":
            line += 1
        elif kind not in ("space", "directive"):
            tokens.append(Token(match.group(), kind, match.start(), match.end(), file, line))
    return tokens


def place(text: str, file: str) -> tuple[str, int]:
    """The file and line of the end of preprocessed text."""
    last = tokenize(text + " end", file)[-1]
    return last.file, last.line


def match_brackets(tokens: list[Token]) -> dict[int, int]:
    """The index of the closing bracket for each opening one, and the other way round.

    Unbalanced text pairs what it can: the C++ compiler reports the mistake better.
    """
    pairs: dict[int, int] = {}
    stack: list[int] = []
    for index, token in enumerate(tokens):
        if token.text in CLOSERS:
            stack.append(index)
        elif token.text in (")", "]", "}") and stack:
            opener = stack.pop()
            pairs[opener], pairs[index] = index, opener
    for opener in stack:
        pairs[opener] = len(tokens) - 1
    return pairs
