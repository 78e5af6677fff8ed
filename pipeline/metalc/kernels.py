"""From declarations to kernels: their names, attributes and templates are checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import user_annotations
from .bindings import Binding, bind
from .constants import integer
from .errors import CompileError, RefusedArgument, at
from .syntax import Attribute, KernelDeclaration, Parameter, Shader

__all__ = ["MAX_THREADS", "Kernel", "Refused", "duplicate", "kernels"]

MAX_THREADS = 1024  # per threadgroup

KERNEL_ATTRIBUTES = {
    "kernel",
    "host_name",
    "max_total_threads_per_threadgroup",
    "required_threads_per_threadgroup",
    "visible",
    "user_annotation",
    "unroll",
    "maybe_unused",
    "always_inline",
    "noinline",
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel as the generator writes it."""

    name: str
    base_name: str  # in C++, without template arguments
    call: str  # the C++ name, template arguments included
    scope: tuple[str, ...]
    bindings: tuple[Binding, ...]
    threadgroup_arrays: tuple[str, ...]  # types, in terms of the parameters of `template`
    template: str
    file: str
    line: int
    max_threads: int | None  # per threadgroup, where the shader says it
    notes: user_annotations.Annotations  # what [[user_annotation]] says


@dataclass(frozen=True, slots=True)
class Refused:
    """A kernel that no device here can run: it takes a texture or a sampler. `message` has its place."""

    name: str
    file: str
    line: int
    message: str


def kernels(shader: Shader, refused: list[Refused] | None = None) -> list[Kernel]:
    """The kernels a shader exports, sorted by name. Those that no device here can run go to `refused`; without that,
    they are errors."""
    templates: dict[tuple[str, ...], list[KernelDeclaration]] = {}
    for declaration in shader.kernels:
        if declaration.template:
            templates.setdefault((*declaration.scope, declaration.base_name), []).append(declaration)
    found: dict[str, Kernel] = {}
    for declaration in shader.kernels:
        if declaration.template:
            continue
        try:
            kernel = _kernel(shader, declaration, templates)
        except RefusedArgument as error:
            if refused is None:
                raise
            name = declaration.host_name or declaration.base_name
            refused.append(Refused(name, declaration.file, declaration.line, str(error)))
            continue
        if kernel.name in found:
            raise duplicate(kernel, found[kernel.name])
        found[kernel.name] = kernel
    return [found[name] for name in sorted(found)]


def duplicate(kernel: Kernel, earlier: Kernel) -> CompileError:
    """The error for two kernels of one name."""
    return at(
        kernel.file,
        kernel.line,
        f"kernel '{kernel.name}' is already defined at {earlier.file}:{earlier.line}; rename one of them",
    )


def _kernel(
    shader: Shader, declaration: KernelDeclaration, templates: Mapping[tuple[str, ...], Sequence[KernelDeclaration]]
) -> Kernel:
    def fail(message: str) -> CompileError:
        return at(declaration.file, declaration.line, message)

    primary = _primary(
        templates.get((*declaration.scope, declaration.base_name.split("::")[-1].strip()), ()), declaration
    )
    name = declaration.host_name
    if declaration.instantiation:
        if primary is None:
            raise fail(f"no kernel template '{declaration.base_name}' precedes this instantiation")
        if name is None:
            raise fail(
                f"instantiation of '{declaration.base_name}' has no name for the host; "
                f'write template [[host_name("...")]] kernel void ...'
            )
    name = name or declaration.base_name
    source = declaration if primary is None or _says_where(declaration) else primary
    for attribute in (*declaration.attributes, *source.attributes):
        if attribute.name not in KERNEL_ATTRIBUTES:
            raise at(attribute.file, attribute.line, f"unknown attribute [[{attribute.name}]] on kernel '{name}'")
    if source.result != "void":
        raise fail(f"kernel '{name}' returns {source.result or 'nothing'}; a kernel must return void")
    deduced = declaration.instantiation and "<" not in declaration.name
    bindings = bind(shader, name, declaration.scope, source.parameters or ())
    return Kernel(
        name=name,
        base_name=declaration.base_name.split("::")[-1].strip(),
        call=_deduced(declaration) if deduced else _qualified(declaration),
        scope=declaration.scope,
        bindings=bindings,
        threadgroup_arrays=() if deduced else (primary or declaration).threadgroup_arrays,
        template=primary.template if primary is not None and declaration.instantiation and not deduced else "",
        file=declaration.file,
        line=declaration.line,
        max_threads=_max_threads(shader, (*declaration.attributes, *source.attributes)),
        notes=user_annotations.read((*declaration.attributes, *source.attributes), name, bindings),
    )


def _max_threads(shader: Shader, attributes: Sequence[Attribute]) -> int | None:
    """The number of [[max_total_threads_per_threadgroup(n)]], at most Metal's limit."""
    said = (
        integer(a.argument or "", shader.enumerators)
        for a in attributes
        if a.name == "max_total_threads_per_threadgroup"
    )
    return min((min(number, MAX_THREADS) for number in said if number), default=None)


def _primary(candidates: Sequence[KernelDeclaration], declaration: KernelDeclaration) -> KernelDeclaration | None:
    """The template that a declaration instantiates, among those of its name."""
    given = len(_arguments(declaration.name))
    for candidate in candidates:
        parameters = _arguments(candidate.template)
        required = sum("=" not in parameter and "..." not in parameter for parameter in parameters)
        most = len(parameters) if "..." not in candidate.template else given
        counted = declaration.parameters is None or len(declaration.parameters) == len(candidate.parameters or ())
        if counted and (given == 0 or required <= given <= most):
            return candidate
    return candidates[-1] if candidates else None


def _arguments(text: str) -> list[str]:
    """The arguments between the angle brackets of `name < ... >`."""
    parts: list[str] = []
    depth, word = 0, ""
    for letter in text[text.index("<") :] if "<" in text else "":
        depth += (letter in "<([{") - (letter in ">)]}")
        if letter == "," and depth == 1:
            parts.append(word)
            word = ""
        else:
            word += letter
    return [*parts, word] if word.strip("<> ") else parts


def _deduced(declaration: KernelDeclaration) -> str:
    """An instantiation whose template arguments follow from its parameters."""
    types = " , ".join(_type(parameter) for parameter in declaration.parameters or ())
    return f"* static_cast < void ( * ) ( {types} ) > ( {_qualified(declaration)} )"


def _type(parameter: Parameter) -> str:
    """A parameter's type as C++ has it."""
    words = re.sub(r"\[[^]]*\]", "*", parameter.type_text, count=1).split()
    words = ["const" if word == "constant" else word for word in words]
    return " ".join(word for position, word in enumerate(words) if word != "const" or "const" not in words[:position])


def _qualified(declaration: KernelDeclaration) -> str:
    """The C++ name from outside of the shader's scope, where a library function may have the same name."""
    return "::".join(("metallib_source", *declaration.scope, declaration.name))


def _says_where(declaration: KernelDeclaration) -> bool:
    """Whether an instantiation repeats the attributes of the template's parameters."""
    parameters = declaration.parameters
    return parameters is not None and (not parameters or any(p.attributes for p in parameters))
