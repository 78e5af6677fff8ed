"""The C++ compiler's messages, brought to one line that points into the shader."""

import re

__all__ = ["summary"]

_ERROR = re.compile(r"^(?P<file>[^\s:][^:\n]*):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<text>.*)$")
_PLACE = re.compile(r"^(?!In file included)(?P<file>[^\s:][^:\n]*):(?P<line>\d+):")
_INCLUDED = re.compile(r"^(?:In file included from| +from) (?P<file>[^\s:][^:\n]*):(?P<line>\d+)")
_INSIDE = re.compile(r"(\{anonymous\}|\(anonymous namespace\))::(metallib_source::)?|\bmetallib_source::")
_LINKER = re.compile(r"undefined reference|cannot find|ld: ")


def summary(text: str, library: str) -> str:
    """The first error as "file:line: message", at the nearest place outside the `library` folder."""
    lines = text.splitlines()
    for line in lines:
        error = _ERROR.match(line)
        if error is None:
            continue
        place = error
        if _foreign(error["file"], library):
            places = (pattern.match(other) for pattern in (_PLACE, _INCLUDED) for other in lines)
            place = next((p for p in places if p and not _foreign(p["file"], library)), error)
        said = _INSIDE.sub("", error["text"].removeprefix("#error "))
        return f"{place['file']}:{place['line']}: {said}"
    for line in lines:
        if _LINKER.search(line):
            return f"metalc: {line}"
    return f"metalc: {lines[0]}" if lines else "metalc: the C++ compiler failed without a message"


def _foreign(file: str, library: str) -> bool:
    return file.startswith((library, "<"))
