"""Variables in threadgroup memory: `threadgroup float a[32], b;` in a body becomes one call of the macro
METALLIB_THREADGROUP(name, type) for each, so that each execution model places them as it must.

Metal takes an initialiser and gives the memory no value: threadgroup memory holds anything until a thread writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .edits import Change
from .stream import TokenStream

__all__ = ["edits", "without_values"]

_NOT_VARIABLES = frozenset("* & (".split())


def edits(stream: TokenStream) -> Iterator[Change]:
    """One change per declaration."""
    tokens, pairs = stream.tokens, stream.pairs
    for index, token in enumerate(tokens):
        if token.text != "threadgroup":
            continue
        start = _start(stream, index)
        if start is None:
            continue
        stop = index
        while stop < len(tokens) and tokens[stop].text not in (";", ")", "}"):
            stop = pairs[stop] + 1 if tokens[stop].text in ("[", "(", "{") and stop in pairs else stop + 1
        if stop < len(tokens) and tokens[stop].text == ";":
            text = _macros(stream, start, stop)
            if text:
                yield tokens[start].start, tokens[stop].end, text


def _start(stream: TokenStream, index: int) -> int | None:
    """Where the statement begins whose first words include the one at index; None if there is no such statement."""
    tokens, pairs = stream.tokens, stream.pairs
    while index > 0:
        before = tokens[index - 1].text
        if before in ("{", "}", ";"):
            return index
        if before == ")" and index - 1 in pairs and tokens[pairs[index - 1] - 1].text == "alignas":
            index = pairs[index - 1] - 1
        elif before == "static":
            index -= 1
        else:
            return None
    return None


def _macros(stream: TokenStream, start: int, stop: int) -> str | None:
    """The macros for the declarators of tokens[start:stop]; None if they declare no variables."""
    tokens, pairs = stream.tokens, stream.pairs
    words: list[str] = []
    aligned, index = "", start
    while index < stop:
        token = tokens[index]
        if token.text == "alignas":
            close = pairs[index + 1]
            aligned = " ".join(t.text for t in tokens[index : close + 1]) + " "
            index = close + 1
        elif token.text in ("threadgroup", "static"):
            index += 1
        else:
            words.append(token.text)
            index += 1
    words = [words[position] for position in without_values(words)]
    if not _NOT_VARIABLES.isdisjoint(_outside(words)):
        return None
    declarators = _split(words)
    base, name, extents = _first(declarators[0])
    if name is None or not base:
        return None
    found = [(name, extents), *((part[0], part[1:]) for part in declarators[1:])]
    lines = "\n" * (tokens[stop].line - tokens[start].line if tokens[stop].file == tokens[start].file else 0)
    return (
        " ".join(f"{aligned}METALLIB_THREADGROUP({name}, {base} {' '.join(extents)})" for name, extents in found)
        + lines
    )


def without_values(words: Sequence[str]) -> list[int]:
    """The positions of the words of a declaration that belong to no initialiser of its declarators."""
    kept: list[int] = []
    depth = angles = 0
    value = False
    for position, word in enumerate(words):
        if depth == angles == 0:
            value = word != "," and (value or word in ("=", "{"))
        if not value:
            kept.append(position)
        depth += (word in ("[", "(", "{")) - (word in ("]", ")", "}"))
        if depth == 0 and not value:
            angles += (word == "<") - (word == ">")
    return kept


def _outside(words: list[str]) -> Iterator[str]:
    """The words that stand in no brackets."""
    depth = 0
    for word in words:
        depth -= word in ("]", ">")
        if depth == 0:
            yield word
        depth += word in ("[", "<")


def _split(words: list[str]) -> list[list[str]]:
    """The declarators, the first with the type."""
    parts: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += (word in ("[", "(", "<")) - (word in ("]", ")", ">"))
        if word == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _first(words: list[str]) -> tuple[str, str | None, list[str]]:
    """(type, name, extents) of `T name[2][3]`."""
    end = len(words)
    while end > 0 and words[end - 1] == "]":
        depth = 0
        while end > 0:
            end -= 1
            depth += (words[end] == "]") - (words[end] == "[")
            if depth == 0:
                break
    if end < 2:
        return "", None, []
    return " ".join(words[: end - 1]), words[end - 1], words[end:]
