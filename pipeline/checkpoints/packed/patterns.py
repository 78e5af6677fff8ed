"""Regular expressions that configurations have for names of modules, in a time that grows with the name and not beyond.

Python parses them. Where more than two things repeat, or one within another, or where there are several groups, they
are matched by sets: of all places where a part may begin, all where it may end. So none takes long, whatever a file
says; in return, they cannot refer back to what a group matched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

__all__ = ["matches"]

MOST = 1000  # characters of a pattern
DEEPEST = 2  # what repeats, or looks ahead, within what does
FEW, LONGEST = 2, 500  # repetitions of a pattern, and characters of a name, for Python's own way


def matches(pattern: str, name: str) -> bool:
    """Whether `name` begins with a match, as re.match says it. ValueError for a pattern that is none, or that needs
    more than sets."""
    if len(pattern) > MOST:
        raise ValueError(f"more than {MOST:,} characters")
    parsed, quick = _parsed(pattern)
    if quick is not None and len(name) <= LONGEST:
        return quick.match(name) is not None
    return bool(_ends(parsed, name, frozenset({0})))


@lru_cache(1024)
def _parsed(pattern: str) -> tuple[Any, re.Pattern[str] | None]:
    """The parsed pattern, and Python's own where its way back is short: where little repeats."""
    try:
        parsed = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if parsed.state.flags & ~re.UNICODE:
        raise ValueError("flags are not supported")
    simple = _check(parsed, 0) <= 1 and sum(map(pattern.count, "*+?{")) <= FEW and pattern.count("(") <= 1
    return parsed, re.compile(pattern) if simple else None


def _check(items: Iterable[Any], depth: int) -> int:
    """How deep repetitions stand within others. ValueError where that is too deep, or for what `_ends` does not know,
    whether a name gets there or not."""
    if depth > DEEPEST:
        raise ValueError(f"repetitions are more than {DEEPEST} deep")
    deepest = depth
    for operation, argument in items:
        if operation in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            deepest = max(deepest, _check(argument[2], depth + 1))
        elif operation is codes.SUBPATTERN and not argument[1] and not argument[2]:
            deepest = max(deepest, _check(argument[3], depth))
        elif operation is codes.BRANCH:
            deepest = max(deepest, *(_check(way, depth) for way in argument[1]))
        elif operation in (codes.ASSERT, codes.ASSERT_NOT) and argument[0] > 0:
            deepest = max(deepest, _check(argument[1], depth + 1))
        elif operation is codes.IN:
            _check([item for item in argument if item[0] is not codes.NEGATE], depth)
        elif operation is codes.CATEGORY:
            if argument not in _CATEGORIES:
                raise ValueError(f"{str(argument).lower()} is not supported")
        elif operation not in _CHARACTERS and (operation is not codes.AT or argument not in _PLACES):
            raise ValueError(f"{str(operation).lower()} is not supported")
    return deepest


def _ends(items: Iterable[Any], name: str, begins: frozenset[int]) -> frozenset[int]:
    """Where matches of the items, one behind another, end that begin at one of `begins`."""
    for operation, argument in items:
        if not begins:
            break
        if operation in _CHARACTERS:
            begins = frozenset(i + 1 for i in begins if i < len(name) and _CHARACTERS[operation](argument, name[i]))
        elif operation in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            least, most, body = argument
            begins = _repeated(body, name, begins, least, most)
        elif operation is codes.SUBPATTERN:
            begins = _ends(argument[3], name, begins)
        elif operation is codes.BRANCH:
            begins = frozenset().union(*(_ends(way, name, begins) for way in argument[1]))
        elif operation is codes.AT:
            begins = frozenset(i for i in begins if _PLACES[argument](name, i))
        else:
            wanted = operation is codes.ASSERT
            begins = frozenset(i for i in begins if bool(_ends(argument[1], name, frozenset({i}))) is wanted)
    return begins


def _repeated(body: Any, name: str, begins: frozenset[int], least: int, most: Any) -> frozenset[int]:
    found, places = begins if least == 0 else frozenset(), begins
    for count in range(1, len(name) + 2):  # one that matches something ends by then, one that need not repeats itself
        if not places or (most is not codes.MAXREPEAT and count > most):
            return found
        places = _ends(body, name, places)
        if count >= least or count > len(name):
            found |= places
    return found


def _in(items: Any, character: str) -> bool:
    negated = items[0][0] is codes.NEGATE
    found = any(_CHARACTERS[kind](value, character) for kind, value in items if kind is not codes.NEGATE)
    return found is not negated


def _category(kind: Any, character: str) -> bool:
    test, wanted = _CATEGORIES[kind]
    return test(character) is wanted


def _word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_word(name: str, i: int) -> bool:
    return 0 <= i < len(name) and _word(name[i])


_CATEGORIES: dict[Any, tuple[Callable[[str], bool], bool]] = {
    codes.CATEGORY_DIGIT: (str.isdecimal, True),
    codes.CATEGORY_NOT_DIGIT: (str.isdecimal, False),
    codes.CATEGORY_SPACE: (str.isspace, True),
    codes.CATEGORY_NOT_SPACE: (str.isspace, False),
    codes.CATEGORY_WORD: (_word, True),
    codes.CATEGORY_NOT_WORD: (_word, False),
}
_CHARACTERS: dict[Any, Callable[[Any, str], bool]] = {
    codes.LITERAL: lambda code, character: ord(character) == code,
    codes.NOT_LITERAL: lambda code, character: ord(character) != code,
    codes.ANY: lambda _, character: character != "\n",
    codes.RANGE: lambda limits, character: limits[0] <= ord(character) <= limits[1],
    codes.IN: _in,
    codes.CATEGORY: _category,
}
_PLACES: dict[Any, Callable[[str, int], bool]] = {
    codes.AT_BEGINNING: lambda name, i: i == 0,
    codes.AT_BEGINNING_STRING: lambda name, i: i == 0,
    codes.AT_END: lambda name, i: i == len(name) or name[i:] == "\n",
    codes.AT_END_STRING: lambda name, i: i == len(name),
    codes.AT_BOUNDARY: lambda name, i: _is_word(name, i - 1) is not _is_word(name, i),
    codes.AT_NON_BOUNDARY: lambda name, i: _is_word(name, i - 1) is _is_word(name, i),
}
