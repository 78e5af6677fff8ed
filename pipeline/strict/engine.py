"""libclang: parses a lowered shader and gives its tree and its diagnostics."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..metalc import toolchain

__all__ = ["INSTALL", "NAME", "Finding", "Note", "Unavailable", "available", "findings", "parse", "reworded"]

TranslationUnit: TypeAlias = Any  # clang.cindex has no types
Location: TypeAlias = Any

INSTALL = "strict checks need libclang; install it with: pip install libclang"
NAME = "/strict/shader.clcpp"
_ARGUMENTS = (
    "-x",
    "clcpp",
    "-cl-std=clc++2021",
    "-cl-no-stdinc",
    "-target",
    "x86_64",
    "-cl-single-precision-constant",
    "-Xclang",
    "-cl-ext=+all,+__cl_clang_function_pointers,+__cl_clang_bitfields",
    "-ferror-limit=0",
    "-ftemplate-depth=512",
    "-Wno-everything",
    "-flax-vector-conversions=none",
    "-Werror=c++11-narrowing",
    "-fno-spell-checking",
)
_HEADER = "strict.h"
_INCOMPLETE, _FOR_SERIALIZATION = 0x02, 0x10  # of CXTranslationUnit_Flags


class Unavailable(Exception):
    """libclang is not installed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Note:
    """A further line of an error."""

    line: int  # in the lowered text; 0: elsewhere
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """An error of Clang's at a line of the lowered text."""

    line: int
    column: int
    text: str
    notes: tuple[Note, ...]


def headers() -> Path:
    """The folder of strict.h, which lies beside the standard library of the shader compiler."""
    return toolchain.stdlib_dir().parent / "metal_strict"


@functools.cache
def _index() -> Any:
    try:
        from clang import cindex  # an optional package

        index = cindex.Index.create()
    except Exception as error:  # no package, or one whose library does not load
        raise Unavailable(INSTALL) from error
    atexit.register(_index.cache_clear)  # while the library is still there
    return index


def available() -> bool:
    """Whether libclang is installed."""
    try:
        _index()
    except Unavailable:
        return False
    return True


@functools.cache
def _header() -> tuple[str, ...]:
    """What includes strict.h, parsed once per process: that takes thirty times as long as what most shaders add to it.
    Where there is no place for the result, each shader includes the text."""
    folder = ""
    try:
        folder = tempfile.mkdtemp(prefix="onebuf-strict-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        file = os.path.join(folder, "strict.pch")
        arguments = [*_ARGUMENTS, f"-I{headers()}"]
        _index().parse(str(headers() / _HEADER), arguments, options=_INCOMPLETE | _FOR_SERIALIZATION).save(file)
    except Exception:  # of the system, or of libclang, which has no common base
        shutil.rmtree(folder, ignore_errors=True)
        return "-include", _HEADER
    return "-include-pch", file


def parse(text: str) -> TranslationUnit:
    """The translation unit of a lowered shader."""
    return _index().parse(NAME, [*_ARGUMENTS, f"-I{headers()}", *_header()], unsaved_files=[(NAME, text)])


def _line(location: Location) -> int:
    return int(location.line) if location.file and location.file.name == NAME else 0


def findings(unit: TranslationUnit) -> list[Finding]:
    """The errors of Clang, each at the innermost line of the shader."""
    found: list[Finding] = []
    for diagnostic in unit.diagnostics:
        if diagnostic.severity < diagnostic.Error:
            continue
        if _line(diagnostic.location) and diagnostic.spelling.startswith("static assert"):
            continue  # a shader's own, which is true where it compiles: packed vectors are smaller there than here
        children = [child for child in diagnostic.children if not child.spelling.startswith("in file included from")]
        notes = tuple(Note(_line(child.location), child.spelling) for child in children)
        line, column = _line(diagnostic.location), diagnostic.location.column
        if not line:
            places = [child.location for child in children if _line(child.location)]
            if places:
                line, column = places[0].line, places[0].column
        found.append(Finding(line, column, diagnostic.spelling, notes))
    return found


_WORDS = (
    (r"\(aka '[^']*'\)\s*", ""),
    (r"__attribute__\(\(ext_vector_type\((\d+)\)\)\)", r"x \1"),
    (r"\b__global\b", "device"),
    (r"\b__local\b", "threadgroup"),
    (r"\b__constant\b", "constant"),
    (r"\*__(private|generic)\b", "*"),
    (r"&__(private|generic)\b", "&"),
    (r"\b__(private|generic) ", ""),
    (r"\s*\b__(private|generic)\b", ""),
    (r"\b__bf16\b", "bfloat"),
    (r"\bstrict::bools<(\d)>", r"bool\1"),
    (r"\b(local|global|atomic_\w+|read_write|generic)_\b", r"\1"),
    (r" in C\+\+ for OpenCL( version \d+)?", ""),
    (r"static assertion failed( due to requirement '.*')?: ", ""),
    (r"OpenCL", "Metal"),
)


def reworded(text: str) -> str:
    """The text of a message from Clang in Metal's words."""
    for pattern, replacement in _WORDS:
        text = re.sub(pattern, replacement, text)
    return " ".join(text.split())
