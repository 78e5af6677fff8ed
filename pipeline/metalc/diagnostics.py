"""The C++ compiler's messages, brought to one line that points into the shader."""

import re

__all__ = ["summary"]

_ERROR = re.compile(r"^(?P<file>[^\s:][^:\n]*):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<text>.*)$")
_PLACE = re.compile(r"^(?!In file included)(?P<file>[^\s:][^:\n]*):(?P<line>\d+):")
_INCLUDED = re.compile(r"^(?:In file included from| +from) (?P<file>[^\s:][^:\n]*):(?P<line>\d+)")
_INSIDE = re.compile(r"(\{anonymous\}|\(anonymous namespace\))::(metallib_source::)?|\bmetallib_source::")
_LINKER = re.compile(r"undefined reference|cannot find|ld: ")
# Lines that GCC writes before an error and Clang behind it: how the compiler came there.
_WAY = re.compile(
    r"required (from|by)|[Ii]n instantiation of|[Ii]n (member )?function|In file included|^ +from |: note: "
)
_INSTANCE = re.compile(
    r"[Ii]n instantiation of [^‘']*[‘'](?P<what>.*?)( \[with .*)?[’']|required from [‘'](?P<by>.*?)[’']"
)
_NAME = re.compile(r"([A-Za-z_]\w*)(?=\(|<|$)")
# Where headers lie that no shader brings along.
_SYSTEM = ("/usr/include/", "/usr/lib/", "/Library/Developer/", "/Applications/Xcode", "<")


_ASSERTED = re.compile(r"^static (?:assertion|_assert) failed(?: due to requirement '.*?')?: ")
_OPERANDS = re.compile(r"^invalid operands (?:of types|to binary expression \()\s*[‘'](?P<type>.*?)[’']")
_OPERATOR = re.compile(r"^no match for ‘operator.*?’ \(operand types? (?:is|are) ‘(?P<type>.*?)’")
_NO_CALL = re.compile(r"^no matching function for call to ‘(?P<name>[\w:<>, ]*?)\((?P<types>.*)\)’$")
_MANY_CALLS = re.compile(r"^call of overloaded ‘(?P<name>[\w:<>, ]*?)\((?P<types>.*)\)’ is ambiguous$")
_VECTOR = re.compile(r"\bvec<(\w+), (\d)>")


def summary(text: str, *own: str) -> str:
    """The first error as "file:line: message", at the nearest place outside the folders `own`.

    An error in a header of this package's, such as a type that a function has no form for, is told where the shader
    calls the function, with the function's name.
    """
    lines = text.splitlines()
    for number, line in enumerate(lines):
        error = _ERROR.match(line)
        if error is None:
            continue
        said = _INSIDE.sub("", error["text"].removeprefix("#error "))
        if not _foreign(error["file"], own):
            return f"{error['file']}:{error['line']}: {_worded(said)}"
        way = _way(lines, number)
        place = next((found for found in map(_PLACE.match, way) if found and not _foreign(found["file"], own)), None)
        if place is None:
            every = (pattern.match(other) for pattern in (_PLACE, _INCLUDED) for other in lines)
            place = next((found for found in every if found and not _foreign(found["file"], own)), error)
        called = _called(way, own)
        return f"{place['file']}:{place['line']}: {_worded(said, called)}"
    for line in lines:
        if _LINKER.search(line):
            return f"metalc: {line}"
    return f"metalc: {lines[0]}" if lines else "metalc: the C++ compiler failed without a message"


def _worded(said: str, called: str = "") -> str:
    """The error in words about the shader. `called`: the function of this package's in which it came up."""
    operand = _OPERATOR.match(said) or _OPERANDS.match(said) if called else None
    if operand:
        return f"{called} takes no {_types(operand['type'])}"
    if call := _NO_CALL.match(said):
        said = f"no form of {_types(call['name'])} takes ({_types(call['types'])})"
    elif call := _MANY_CALLS.match(said):
        said = f"several forms of {_types(call['name'])} take ({_types(call['types'])})"
    elif called:
        said = _ASSERTED.sub("", said)
    return f"{said} (in {called})" if called and called not in said else said


def _types(text: str) -> str:
    """Types as a shader writes them."""
    text = re.sub(r"&(?=,|$)", "", text.replace("metal::", ""))
    text = re.sub(r"^(\w+)::(?:vec|\1)$", r"\1", _VECTOR.sub(r"\1\2", text))  # a constructor
    return text.replace("*", " *")


def _way(lines: list[str], number: int) -> list[str]:
    """The lines around the error in lines[number] that say how the compiler came there, from the error outwards."""
    first = number
    while first > 0 and _WAY.search(lines[first - 1]):
        first -= 1
    last = number + 1
    while last < len(lines) and not _ERROR.match(lines[last]):
        last += 1
    return lines[first:number] + [line for line in lines[number + 1 : last] if "requested here" in line]


def _called(way: list[str], own: tuple[str, ...]) -> str:
    """The name of the outermost function or type of a header of this package's."""
    name = ""
    for line in way:
        place = _PLACE.match(line)
        if place and not _foreign(place["file"], own):
            break
        found = _INSTANCE.search(line)
        if found:
            names = _NAME.findall(_INSIDE.sub("", found["what"] or found["by"]).split("(")[0].split("<")[0])
            name = names[-1] if names else name
    return name


def _foreign(file: str, own: tuple[str, ...]) -> bool:
    return file.startswith((*_SYSTEM, *own)) or file.endswith("/shader.cpp")
