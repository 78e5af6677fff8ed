"""Where statements begin and end, among the tokens of a shader."""

from __future__ import annotations

from .stream import TokenStream

__all__ = ["behind_attributes", "behind_brackets", "condition_of", "lambda_bodies", "semicolons", "statement_end"]


def statement_end(stream: TokenStream, index: int) -> int:
    """Behind the statement at index."""
    index = behind_attributes(stream, index)
    text = stream.text(index)
    if text == "{":
        return stream.pairs[index] + 1
    if text in ("if", "for", "while", "switch"):
        opener = condition_of(stream, index)
        end = statement_end(stream, stream.pairs.get(opener, opener) + 1)
        return statement_end(stream, end + 1) if text == "if" and stream.text(end) == "else" else end
    if text == "do":
        index = statement_end(stream, index + 1)  # its `while`
    last = len(stream.tokens) - 1
    while index < last and stream.text(index) != ";":
        index = behind_brackets(stream, index)
    return index + 1


def condition_of(stream: TokenStream, index: int) -> int:
    """The parenthesis that opens the condition of the `if`, `for`, `while` or `switch` at index."""
    return index + 1 + (stream.text(index + 1) == "constexpr")


def behind_attributes(stream: TokenStream, index: int) -> int:
    """Where the statement at index begins, behind its attributes."""
    while stream.opens_attribute(index):
        index = stream.pairs[index] + 1
    return index


def behind_brackets(stream: TokenStream, index: int) -> int:
    """The next token, or what follows the brackets that open here."""
    opens = stream.text(index) in ("(", "[", "{") and index in stream.pairs
    return stream.pairs[index] + 1 if opens else index + 1


def semicolons(stream: TokenStream, opener: int) -> list[int]:
    """The semicolons between the brackets themselves: two in a `for` that is not over a range."""
    found: list[int] = []
    index = opener + 1
    while index < stream.pairs[opener]:
        if stream.text(index) == ";":
            found.append(index)
        index = behind_brackets(stream, index)
    return found


def lambda_bodies(stream: TokenStream) -> list[tuple[int, int]]:
    """(capture, body) of each lambda: where its two opening brackets stand."""
    found: list[tuple[int, int]] = []
    for index, token in enumerate(stream.tokens):
        before = stream.tokens[index - 1] if index else None
        if token.text != "[" or index not in stream.pairs or stream.opens_attribute(index):
            continue
        if before and (before.text in (")", "]", "[") or before.kind == "word" and before.text != "return"):
            continue  # a subscript, or an attribute
        body = stream.pairs[index] + 1
        if stream.text(body) not in ("(", "{"):
            continue
        while body < len(stream.tokens) and stream.text(body) not in ("{", ";", ")"):
            body = behind_brackets(stream, body)
        if stream.text(body) == "{":
            found.append((index, body))
    return found
