"""From declarations to kernels: attributes are checked and every parameter gets its meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .constants import integer
from .errors import CompileError, at
from .syntax import Attribute, KernelDeclaration, Parameter, Shader, Struct

__all__ = ["POSITIONS", "Binding", "Kernel", "duplicate", "kernels"]

MAX_INDEX = 30  # Metal has 31 buffer and 31 threadgroup slots
AUTOMATIC = -1
MAX_THREADS = 1024  # per threadgroup

# Values a kernel can ask for, as the thunk's expression; a threadgroup is one thread of one simdgroup.
POSITIONS = {
    "thread_position_in_grid": "x, y, z",
    "threadgroup_position_in_grid": "x, y, z",
    "threads_per_grid": "launch->grid[0], launch->grid[1], launch->grid[2]",
    "threadgroups_per_grid": "nx, ny, launch->threadgroups[2]",
    "grid_size": "launch->grid[0], launch->grid[1], launch->grid[2]",
    "grid_origin": "0, 0, 0",
    "thread_position_in_threadgroup": "0, 0, 0",
    "thread_index_in_threadgroup": "0",
    "thread_index_in_simdgroup": "0",
    "thread_index_in_quadgroup": "0",
    "simdgroup_index_in_threadgroup": "0",
    "quadgroup_index_in_threadgroup": "0",
    "threads_per_threadgroup": "1, 1, 1",
    "dispatch_threads_per_threadgroup": "1, 1, 1",
    "threads_per_simdgroup": "1",
    "thread_execution_width": "1",
    "simdgroups_per_threadgroup": "1",
    "dispatch_simdgroups_per_threadgroup": "1",
    "quadgroups_per_threadgroup": "1",
    "dispatch_quadgroups_per_threadgroup": "1",
}
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
UNSUPPORTED = {
    "texture": "textures are not supported; pass a buffer",
    "sampler": "samplers are not supported; pass a buffer",
    "stage_in": "stage_in arguments are not supported; pass a buffer",
    "imageblock_data": "imageblocks are not supported; pass a buffer",
    "payload": "mesh and ray tracing arguments are not supported; pass a buffer",
}
# Types of parameters that no buffer can stand for, by how their names begin.
UNSUPPORTED_TYPES = {
    "texture": "textures are not supported; pass a buffer",
    "depth": "textures are not supported; pass a buffer",
    "sampler": "samplers are not supported; pass a buffer",
    "tensor": "tensors are not supported; pass a buffer and its strides",
    "acceleration_structure": "ray tracing is not supported; pass a buffer",
    "instance_acceleration_structure": "ray tracing is not supported; pass a buffer",
    "primitive_acceleration_structure": "ray tracing is not supported; pass a buffer",
    "intersection_function_table": "ray tracing is not supported; pass a buffer",
    "visible_function_table": "function tables are not supported; call the function or use a template",
    "imageblock": "imageblocks are not supported; pass a buffer",
}
# Attributes that say nothing a processor needs to know.
IGNORED = {"maybe_unused", "function_constant", "user", "access", "raster_order_group"}


@dataclass(frozen=True, slots=True)
class Binding:
    """One parameter: a buffer or threadgroup slot, or (index None) a position."""

    parameter: Parameter
    kind: str  # "buffer", "threadgroup" or a key of POSITIONS
    index: int | None
    constant: bool
    struct: Struct | None


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel as the generator writes it."""

    name: str
    call: str  # the C++ name, template arguments included
    scope: tuple[str, ...]
    bindings: tuple[Binding, ...]
    threadgroup_arrays: tuple[str, ...]  # types, in terms of the parameters of `template`
    template: str
    file: str
    line: int
    max_threads: int  # per threadgroup


def kernels(shader: Shader) -> list[Kernel]:
    """The kernels a shader exports, sorted by name."""
    templates: dict[tuple[str, ...], list[KernelDeclaration]] = {}
    for declaration in shader.kernels:
        if declaration.template:
            templates.setdefault((*declaration.scope, declaration.base_name), []).append(declaration)
    found: dict[str, Kernel] = {}
    for declaration in shader.kernels:
        if declaration.template:
            continue
        kernel = _kernel(shader, declaration, templates)
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
    return Kernel(
        name=name,
        call=_deduced(declaration) if deduced else _qualified(declaration),
        scope=declaration.scope,
        bindings=_bindings(shader, name, declaration.scope, source.parameters or ()),
        threadgroup_arrays=() if deduced else (primary or declaration).threadgroup_arrays,
        template=primary.template if primary is not None and declaration.instantiation and not deduced else "",
        file=declaration.file,
        line=declaration.line,
        max_threads=_max_threads(shader, (*declaration.attributes, *source.attributes)),
    )


def _max_threads(shader: Shader, attributes: Sequence[Attribute]) -> int:
    """The number of [[max_total_threads_per_threadgroup(n)]], or Metal's limit."""
    said = (
        integer(a.argument or "", shader.enumerators)
        for a in attributes
        if a.name == "max_total_threads_per_threadgroup"
    )
    return min((number for number in said if number), default=MAX_THREADS)


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


def _bindings(
    shader: Shader, kernel: str, scope: tuple[str, ...], parameters: Sequence[Parameter]
) -> tuple[Binding, ...]:
    found = [_binding(shader, kernel, scope, parameter) for parameter in parameters]
    result: list[Binding] = []
    used: dict[tuple[str, int | None], str] = {}
    for parameter, binding in zip(parameters, _numbered(found)):
        slot = (binding.kind, binding.index)
        if binding.index is not None and slot in used:
            raise at(
                parameter.file,
                parameter.line,
                f"[[{binding.kind}({binding.index})]] of kernel '{kernel}' is taken by both "
                f"'{used[slot]}' and '{parameter.name}'; give one another index",
            )
        used[slot] = parameter.name
        result.append(binding)
    return tuple(result)


def _numbered(bindings: list[Binding]) -> Iterator[Binding]:
    """Gives each parameter without an index the lowest one that no other has."""
    taken = {(binding.kind, binding.index) for binding in bindings}
    for binding in bindings:
        if binding.index == AUTOMATIC:
            free = next(index for index in range(len(bindings) + MAX_INDEX) if (binding.kind, index) not in taken)
            if free > MAX_INDEX:
                raise at(
                    binding.parameter.file,
                    binding.parameter.line,
                    f"no [[{binding.kind}(n)]] is left for '{binding.parameter.name}'; put parameters into a struct",
                )
            taken.add((binding.kind, free))
            binding = replace(binding, index=free)
        yield binding


def _binding(shader: Shader, kernel: str, scope: tuple[str, ...], parameter: Parameter) -> Binding:
    def fail(message: str) -> CompileError:
        return at(parameter.file, parameter.line, message)

    label = f"parameter '{parameter.name}' of kernel '{kernel}'"
    meaning = None
    for attribute in parameter.attributes:
        if attribute.name in UNSUPPORTED:
            raise fail(f"{label}: {UNSUPPORTED[attribute.name]}")
        if attribute.name in ("buffer", "threadgroup") or attribute.name in POSITIONS:
            if meaning is not None:
                raise fail(f"{label} has both [[{meaning.name}]] and [[{attribute.name}]]; keep one")
            meaning = attribute
        elif attribute.name not in IGNORED:
            raise fail(f"{label} has the unknown attribute [[{attribute.name}]]")
    words = set(parameter.words)
    indirect = not words.isdisjoint("*&[")  # an array is a pointer
    for word in parameter.words:
        unsupported = _unsupported(word)
        if unsupported:
            raise fail(f"{label}: {unsupported}")
    constant = "constant" in words
    if meaning is None:
        if not indirect:
            raise fail(f"{label} has no attribute; add one such as [[thread_position_in_grid]]")
        kind = "threadgroup" if "threadgroup" in words else "buffer"
        return Binding(parameter, kind, AUTOMATIC, constant, _struct(shader, scope, parameter))
    if meaning.name in POSITIONS:
        if indirect:
            raise fail(f"{label}: [[{meaning.name}]] takes a value, not a pointer or reference")
        return Binding(parameter, meaning.name, None, False, None)
    if not indirect:
        raise fail(f"{label}: [[{meaning.name}(n)]] takes a pointer or reference")
    index = integer(meaning.argument or "", shader.enumerators)
    if index is None:
        raise fail(f"{label}: the index of [[{meaning.name}(n)]] must be an integer constant")
    if not 0 <= index <= MAX_INDEX:
        raise fail(f"{label}: index {index} of [[{meaning.name}({index})]] is outside 0 to {MAX_INDEX}")
    return Binding(parameter, meaning.name, index, constant, _struct(shader, scope, parameter))


def _unsupported(word: str) -> str | None:
    for prefix, message in UNSUPPORTED_TYPES.items():
        rest = word.removeprefix(prefix)
        if rest != word and (not rest or prefix in ("texture", "depth") and rest[:1] in ("1", "2", "3", "c", "_")):
            return message
    return None


def _struct(shader: Shader, scope: tuple[str, ...], parameter: Parameter) -> Struct | None:
    """The struct that a parameter points or refers to, if this shader defines it."""
    skip = {"const", "device", "constant", "threadgroup", "struct", "*", "&", "volatile", "thread"}
    words = [word for word in parameter.words if word not in skip]
    if "<" in words:
        words = words[: words.index("<")]
    names = [word for word in words if word != "::"]
    if not names or len(names) != words.count("::") + 1:
        return None
    for depth in range(len(scope), -1, -1):
        found = shader.structs.get((*scope[:depth], *names))
        if found:
            return found
    return None
