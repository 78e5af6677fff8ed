"""Rules of a kernel's declaration: its result and how its parameters are bound."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..metalc.constants import integer
from ..metalc.kernels import MAX_THREADS
from ..metalc.syntax import KernelDeclaration, Parameter, Shader
from .diagnostic import ReportParsed
from .lowering import SPACES
from .words import KNOWN, POSITIONS, RESOURCES, VALUES

__all__ = ["MAX_INDEX", "check"]

MAX_INDEX = {"buffer": 30, "threadgroup": 30, "texture": 127, "sampler": 15}
_RESERVED = ("main",)
# Positions that have no direction.
_SCALAR = re.compile(
    r"_in_simdgroup|_in_quadgroup|thread_index_|group_index_|_per_simdgroup|thread_execution_width|simdgroups_per"
    r"|quadgroups_per"
)


def check(shader: Shader, explicit_indices: bool, report: ReportParsed) -> None:
    """Reports each kernel and parameter whose declaration Metal refuses."""
    for kernel in shader.kernels:
        name = kernel.host_name or kernel.base_name
        if kernel.base_name in _RESERVED:
            report(
                kernel, kernel.base_name, "reserved-name", f"a kernel cannot be named {kernel.base_name}", "rename it"
            )
        _limits(shader, kernel, name, report)
        if kernel.instantiation:
            continue
        if kernel.result and kernel.result != "void":
            report(
                kernel,
                kernel.base_name,
                "kernel-result",
                f"kernel '{name}' returns {kernel.result}",
                "return void and write to a device buffer",
            )
        _parameters(shader, kernel, name, explicit_indices, report)


def _limits(shader: Shader, kernel: KernelDeclaration, name: str, report: ReportParsed) -> None:
    for attribute in kernel.attributes:
        if attribute.name != "max_total_threads_per_threadgroup":
            continue
        number = integer(attribute.argument or "", shader.enumerators)
        if number is not None and not 1 <= number <= MAX_THREADS:
            report(
                kernel,
                kernel.base_name,
                "kernel-limit",
                f"kernel '{name}' allows {number} threads per threadgroup",
                f"[[{attribute.name}(n)]] takes 1 to {MAX_THREADS}",
            )


class _Label:
    """Reports what is wrong with one parameter."""

    def __init__(self, parameter: Parameter, kernel: str, report: ReportParsed) -> None:
        self._parameter, self._kernel, self._report = parameter, kernel, report

    def fail(self, message: str, fix: str) -> None:
        name = self._parameter.name
        self._report(self._parameter, name, "binding", f"parameter '{name}' of kernel '{self._kernel}' {message}", fix)


def _parameters(
    shader: Shader, kernel: KernelDeclaration, name: str, explicit_indices: bool, report: ReportParsed
) -> None:
    used: dict[tuple[str, int], str] = {}
    buffers = 0
    for parameter in kernel.parameters or ():
        label = _Label(parameter, name, report)
        words = parameter.words
        indirect = "*" in words or "&" in words
        meanings = [
            a
            for a in parameter.attributes
            if (a.name in RESOURCES or a.name in POSITIONS) and a.name != "function_constant"
        ]
        if len(meanings) > 1:
            label.fail(f"has both [[{meanings[0].name}]] and [[{meanings[1].name}]]", "keep one")
        if not meanings:
            buffers += ("*" in words or "&" in words) and "threadgroup" not in words
            if not any(a.name not in KNOWN for a in parameter.attributes):
                _unbound(words, indirect, explicit_indices, label)
            continue
        meaning = meanings[0]
        if meaning.name in POSITIONS:
            _position(meaning.name, words, indirect, label)
        elif meaning.name in MAX_INDEX:
            buffers += meaning.name == "buffer"
            plain = not indirect and "[" not in words and not _dependent(kernel, words)
            if plain and meaning.name in ("buffer", "threadgroup"):
                label.fail(
                    f"is bound by [[{meaning.name}(n)]], but no pointer or reference", "make it a constant reference"
                )
            index = integer(meaning.argument or "", shader.enumerators)
            _space(meaning.name, words, indirect, label)
            if index is None:
                continue  # depends on a template's parameter or a constant
            if not 0 <= index <= MAX_INDEX[meaning.name]:
                label.fail(f"has index {index}", f"[[{meaning.name}(n)]] takes 0 to {MAX_INDEX[meaning.name]}")
            elif (meaning.name, index) in used and not any(a.name == "function_constant" for a in parameter.attributes):
                other = used[meaning.name, index]
                label.fail(f"has [[{meaning.name}({index})]], which '{other}' has too", "give one another index")
            used.setdefault((meaning.name, index), parameter.name)
    if buffers > 31:
        report(
            kernel,
            kernel.base_name,
            "binding",
            f"kernel '{name}' has {buffers} buffers; 31 is the most",
            "put some into one",
        )


def _dependent(kernel: KernelDeclaration, words: Sequence[str]) -> bool:
    """Whether a type may be a pointer that a template or an alias makes."""
    return bool(kernel.template) or any(word not in VALUES and word not in SPACES for word in words)


def _unbound(words: Sequence[str], indirect: bool, explicit_indices: bool, label: _Label) -> None:
    indirect = indirect or "[" in words
    if (indirect or any(word.startswith(("texture", "sampler")) for word in words)) and not explicit_indices:
        return
    if any(word.startswith(("texture", "sampler", "depth")) for word in words):
        label.fail("has no index", "add [[texture(n)]] or [[sampler(n)]]")
    elif "threadgroup" in words:
        label.fail("has no index", "add [[threadgroup(n)]]")
    elif indirect:
        label.fail("has no index", "add [[buffer(n)]]")
    elif words:
        label.fail(
            "has no attribute",
            "add one such as [[thread_position_in_grid]], or make it a constant reference with [[buffer(n)]]",
        )


def _space(kind: str, words: Sequence[str], indirect: bool, label: _Label) -> None:
    object_ = next((word for word in words if word.startswith(("texture", "depth", "sampler"))), None)
    wanted = "sampler" if object_ == "sampler" else "texture"
    if object_ is not None and kind in ("buffer", "threadgroup") and not indirect:
        label.fail(f"is a {wanted}, but is bound by [[{kind}(n)]]", f"write [[{wanted}(n)]]")
    elif kind in ("texture", "sampler") and (indirect and "array" not in words or VALUES.issuperset(words)):
        label.fail(f"is no {kind}, but is bound by [[{kind}(n)]]", "write [[buffer(n)]]")
    if kind == "buffer" and list(words).count("*") > 1 and "<" not in words:
        label.fail("is a pointer to a pointer", "bind one buffer, or a struct with device pointers")
    if kind == "buffer":
        if "threadgroup" in words:
            label.fail("is in threadgroup memory", "write [[threadgroup(n)]], or device or constant for a buffer")
        elif "thread" in words:
            label.fail("is in thread memory", "a buffer is in device or constant memory")
    elif kind == "threadgroup" and indirect and words and ("device" in words or "constant" in words):
        label.fail("is not in threadgroup memory", "write [[buffer(n)]], or threadgroup for its address space")


def _position(name: str, words: Sequence[str], indirect: bool, label: _Label) -> None:
    if indirect:
        label.fail(f"is a pointer or reference, but [[{name}]] is a value", "take it by value")
        return
    base = [word for word in words if word not in ("const", "metal", "::", "thread", "unsigned", "volatile")]
    if len(base) != 1:
        return
    match = re.fullmatch(r"(float|half|bool|char|uchar|long|ulong|bfloat|int|short)([234]?)", base[0])
    if match and "unsigned" not in words:
        label.fail(f"has type {base[0]}, but [[{name}]] is unsigned", "use uint or ushort, or a vector of them")
    elif re.fullmatch(r"u(int|short)4", base[0]):
        label.fail(f"has type {base[0]}, but [[{name}]] has 3 directions at most", "use uint3 or ushort3")
    elif re.fullmatch(r"u(int|short)[234]", base[0]) and _SCALAR.search(name):
        label.fail(f"has type {base[0]}, but [[{name}]] is one number", "use uint or ushort")
