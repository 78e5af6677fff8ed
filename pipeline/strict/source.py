"""A shader's text with macros expanded, as Apple's compiler would see it, and where each line comes from."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..metalc import toolchain
from ..metalc.diagnostics import summary
from ..metalc.errors import CompileError

__all__ = ["Place", "column", "occurrences", "places", "preprocess"]

# Apple's headers. The names of this project's own (<metal_lanes>) are not among them, so that a shader
# takes the path that it takes there.
_HEADERS = (
    "metal_stdlib",
    "metal_array",
    "metal_atomic",
    "metal_common",
    "metal_compute",
    "metal_config",
    "metal_geometric",
    "metal_graphics",
    "metal_integer",
    "metal_limits",
    "metal_math",
    "metal_matrix",
    "metal_numeric",
    "metal_pack",
    "metal_packed",
    "metal_quadgroup",
    "metal_relational",
    "metal_simdgroup",
    "metal_simdgroup_matrix",
    "metal_texture",
    "metal_type_traits",
    "metal_types",
    "metal_uniform",
    "metal_logging",
)
_DEFINES = ("-D__METAL__=1", "-D__METAL_MACOS__=1", "-D__METAL_VERSION__=320", "-D__HAVE_BFLOAT__=1")
# Standard headers that a header shared with the host may name.
_STANDARD = (
    "simd/simd.h",
    "stdint.h",
    "stddef.h",
    "stdbool.h",
    "limits.h",
    "float.h",
    "assert.h",
    "cstdint",
    "cstddef",
    "climits",
    "cfloat",
    "type_traits",
    "TargetConditionals.h",
)
_MARKER = re.compile(r'#[ \t]+(\d+)[ \t]+"((?:[^"\\]|\\.)*)"[^\n]*')


@dataclass(frozen=True, slots=True)
class Place:
    """A line of an original file."""

    file: str
    line: int


def preprocess(
    file: str | os.PathLike[str], include: Iterable[str | os.PathLike[str]] = (), defines: Iterable[str] = ()
) -> str:
    """The text with macros and conditionals expanded and line markers kept; Metal's headers are left out."""
    with tempfile.TemporaryDirectory(prefix="strict-") as name:
        for header in (*_HEADERS, *_STANDARD):
            path = Path(name, header)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#pragma once\n")
        command = [
            *toolchain.compiler(),
            "-E",
            "-x",
            "c++",
            "-std=c++17",
            "-nostdinc",
            "-nostdinc++",
            "-w",
            *_DEFINES,
            *(f"-D{define}" for define in defines),
            "-I",
            name,
            *(f"-I{os.fspath(folder)}" for folder in include),
            os.fspath(file),
        ]
        result = subprocess.run(command, capture_output=True)
        if result.returncode:
            errors = result.stderr.decode(errors="replace")
            raise CompileError(f"{summary(errors, name)}\n{errors}")
        return result.stdout.decode(errors="replace").replace(name, "")


def places(text: str, file: str) -> tuple[str, list[Place]]:
    """The text without its line markers, and the place of each of its lines."""
    lines: list[str] = []
    found: list[Place] = []
    line = 1
    for content in text.split("\n"):
        marker = _MARKER.fullmatch(content)
        if marker:
            line, file = int(marker[1]), marker[2].replace("\\\\", "\\").replace('\\"', '"')
            found.append(Place(file, max(line, 1)))
            lines.append("")
        else:
            found.append(Place(file, line))
            lines.append("" if content.lstrip().startswith("#") else content)  # pragmas
            line += 1
    return "\n".join(lines), found


def column(place: Place, word: str, nth: int, sources: dict[str, list[str]]) -> int:
    """The column of the nth of a word in its line of the original file, or of the line's first character."""
    if place.file not in sources:
        try:
            sources[place.file] = Path(place.file).read_text(errors="replace").splitlines()
        except OSError:
            sources[place.file] = []
    lines = sources[place.file]
    if not 0 < place.line <= len(lines):
        return 1
    text = lines[place.line - 1]
    places = [match.start() + 1 for match in occurrences(word, text)]
    return places[min(nth, len(places) - 1)] if places else len(text) - len(text.lstrip()) + 1


def occurrences(word: str, text: str) -> Iterable[re.Match[str]]:
    """The matches of a whole word, or of a symbol."""
    pattern = rf"\b{re.escape(word)}\b" if re.fullmatch(r"\w+", word) else re.escape(word)
    return re.finditer(pattern, text) if word else ()
