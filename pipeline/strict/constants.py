"""Rules of variables in constant memory: each has a value, but a function constant, a scalar or a vector, has none."""

from __future__ import annotations

from collections.abc import Iterator

from ..metalc.constants import integer
from ..metalc.tokens import Token
from .diagnostic import ReportToken
from .lower import Lowered
from .words import VALUES

__all__ = ["check"]

MOST = 65535
_NO_VARIABLE = frozenset("( using typedef extern struct class union enum template operator static_assert".split())


def check(lowered: Lowered, report: ReportToken) -> None:
    """Reports each declaration of a constant at the scope of the program that Metal refuses."""
    used: dict[int, str] = {}
    for statement in _statements(lowered, 0, len(lowered.tokens)):
        attribute = next((i for i, token in enumerate(statement) if token.text == "function_constant"), None)
        if attribute is not None and statement[attribute - 1].text == "[":
            _function_constant(statement, attribute, used, report)
            continue
        texts = {token.text for token in statement}
        if "constant" in texts and texts.isdisjoint(_NO_VARIABLE | {"=", "{", "*", "&"}):
            name = _name(statement)
            report(
                name,
                "constant-value",
                f"variable '{name.text}' in constant memory has no value",
                "give it one, or make it a function constant",
            )


def _statements(lowered: Lowered, index: int, end: int) -> Iterator[list[Token]]:
    """The declarations of namespaces that end with a semicolon, without what stands in braces behind parentheses."""
    tokens, start = lowered.tokens, index
    while index < end:
        text = tokens[index].text
        if text == "{":
            close = lowered.pairs.get(index, end)
            head = [token.text for token in tokens[start:index]]
            if "namespace" in head and "using" not in head:
                yield from _statements(lowered, index + 1, close)
                start = close + 1
            elif "(" in head and "=" not in head:  # a function
                start = close + 1
            index = close + 1
        elif text in ("(", "["):
            index = lowered.pairs.get(index, index) + 1
        else:
            if text == ";":
                yield tokens[start:index]
                start = index + 1
            index += 1


def _name(statement: list[Token]) -> Token:
    """The declared name: the last word before an extent or an attribute."""
    name = statement[0]
    for token in statement:
        if token.text == "[":
            break
        if token.kind == "word":
            name = token
    return name


def _function_constant(statement: list[Token], attribute: int, used: dict[int, str], report: ReportToken) -> None:
    def fail(message: str, fix: str) -> None:
        report(name, "function-constant", f"function constant '{name.text}' {message}", fix)

    name = _name(statement)
    opener = next(i for i in range(attribute, -1, -1) if statement[i].text == "[" and statement[i - 1].text == "[") - 1
    close = next(i for i in range(attribute, len(statement)) if statement[i].text == "]") + 1
    declared = [token.text for token in (*statement[:opener], *statement[close + 1 :])]
    kinds = [
        word for word in declared if word not in ("constant", "const", "constexpr", "static", "metal", "::", name.text)
    ]
    if "constant" not in declared:
        fail("is not in constant memory", "write constant before its type")
    if "=" in declared or "{" in declared:
        fail(
            "has a value of its own",
            "leave the value to the host; is_function_constant_defined tells whether it gave one",
        )
    elif (
        not VALUES.issuperset(kinds)
        and not {"vec", "<"} <= set(kinds)
        and ("*" in kinds or "[" in kinds or "&" in kinds)
    ):
        fail("is a pointer, a reference or an array", "make it a scalar or a vector")
    inside = [token.text for token in statement[attribute + 2 : close - 1]]
    index = integer(" ".join(inside[: inside.index(")")] if ")" in inside else inside))
    if index is None:
        return
    if not 0 <= index <= MOST:
        fail(f"has index {index}", f"an index is 0 to {MOST}")
    elif index in used:
        fail(f"has index {index}, which '{used[index]}' has too", "give one another index")
    used.setdefault(index, name.text)
