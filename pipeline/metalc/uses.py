"""The function constants that each kernel depends on: by name, through the functions, types and constants it names."""

from __future__ import annotations

from .stream import TokenStream

__all__ = ["reached"]

_NO_TYPES = ("return", "else", "do", "case", "goto", "throw", "new", "delete", "sizeof", "operator", "typename")


def reached(stream: TokenStream, starts: set[str], wanted: set[str]) -> dict[str, frozenset[str]]:
    """The names among `wanted` that the kernels `starts` name, or the declarations that these name, and so on. A kernel
    calls no other kernel: what has the name of one is something else."""
    words: dict[str, set[str]] = {}
    _collect(stream, 0, len(stream.tokens), words)
    found: dict[str, frozenset[str]] = {}
    for start in starts:
        seen, open_names = {start}, [start]
        while open_names:
            fresh = words.get(open_names.pop(), set()) - seen
            seen |= fresh
            open_names += fresh & words.keys() - starts
        found[start] = frozenset(seen & wanted)
    return found


def _collect(stream: TokenStream, index: int, end: int, words: dict[str, set[str]]) -> None:
    """Adds the words of each declaration to those of its names."""
    while index < end:
        if stream.text(index) in (";", "}", ")", "]"):
            index += 1
            continue
        opener = index
        if stream.text(index) in ("namespace", "inline", "extern"):
            while opener < end and stream.text(opener) not in ("{", ";", "("):
                opener += 1
        if stream.text(opener) == "{" and opener > index and stream.text(index + 1) != "constexpr":
            _collect(stream, opener + 1, stream.pairs[opener], words)
            index = stream.pairs[opener] + 1
            continue
        stop = max(stream.extent(index, end), index + 1)
        inside = _words(stream, index, stop)
        for name in _names(stream, index, stop):
            words.setdefault(name, set()).update(inside)
        index = stop


def _words(stream: TokenStream, index: int, stop: int) -> set[str]:
    """The words of a declaration that may name another one: not those of members, nor those that are a parameter or a
    variable of the function's outermost block before anything else."""
    words: set[str] = set()
    own: set[str] = set()
    braces = parentheses = 0
    for at in range(index, stop):
        text = stream.text(at)
        braces += (text == "{") - (text == "}")
        parentheses += (text == "(") - (text == ")")
        if stream.tokens[at].kind != "word" or stream.text(at - 1) in (".", "->"):
            continue
        covers_the_rest = (braces, parentheses) in ((0, 1), (1, 0))
        if covers_the_rest and text not in words and _declares(stream, at):
            own.add(text)
        elif text not in own:
            words.add(text)
    return words


def _declares(stream: TokenStream, at: int) -> bool:
    """Whether a word is surely the name in a declaration of a variable: another word, its type, stands before it."""
    before = stream.tokens[at - 1]
    if before.kind != "word" or before.text in _NO_TYPES:
        return False
    return stream.text(at + 1) in ("=", ";", ",", ")") or stream.opens_attribute(at + 1)


def _names(stream: TokenStream, index: int, stop: int) -> set[str]:
    """The names that a declaration may declare: words before its parameters, its value or its members."""
    names: set[str] = set()
    at = index
    while at < stop:
        if stream.opens_attribute(at):
            at = stream.pairs[at] + 1
            continue
        text = stream.text(at)
        if text in ("(", "{", "=", "[", ",", ";", ":", "<"):
            if at > index and stream.tokens[at - 1].kind == "word":
                names.add(stream.text(at - 1))
            at = stream.pairs[at] + 1 if text in ("(", "{", "[") and at in stream.pairs else at + 1
        else:
            if stream.opens_attribute(at + 1) and stream.tokens[at].kind == "word":
                names.add(text)
            at += 1
    return names
