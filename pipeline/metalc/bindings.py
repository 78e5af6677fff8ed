"""The parameters of a kernel: each is a buffer, threadgroup memory, or a position that it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .constants import integer
from .errors import CompileError, RefusedArgument, at
from .syntax import Parameter, Shader, Struct

__all__ = ["POSITIONS", "Binding", "bind"]

MAX_INDEX = 30  # Metal has 31 buffer and 31 threadgroup slots
AUTOMATIC = -1

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
# Kernels with these are left out of a library; shaders may name the types all the same.
_LEFT_OUT = ("texture", "depth", "sampler")
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


def bind(shader: Shader, kernel: str, scope: tuple[str, ...], parameters: Sequence[Parameter]) -> tuple[Binding, ...]:
    """The bindings of the parameters of kernel `kernel`, which stands in the namespaces of `scope`."""
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
        if attribute.name in _LEFT_OUT:
            raise RefusedArgument(str(fail(f"{label}: {UNSUPPORTED[attribute.name]}")))
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
        unsupported = unsupported_type(word)
        if unsupported:
            error = fail(f"{label}: {unsupported}")
            raise RefusedArgument(str(error)) if word.startswith(_LEFT_OUT) else error
    struct = _struct(shader, scope, parameter)
    held = "" if struct is None else next(filter(None, map(unsupported_type, sorted(struct.types))), "")
    if held:
        raise RefusedArgument(str(fail(f"{label} has a member that no buffer can hold: {held}")))
    constant = "constant" in words
    if meaning is None:
        if not indirect:
            raise fail(f"{label} has no attribute; add one such as [[thread_position_in_grid]]")
        kind = "threadgroup" if "threadgroup" in words else "buffer"
        return Binding(parameter, kind, AUTOMATIC, constant, struct)
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
    return Binding(parameter, meaning.name, index, constant, struct)


def unsupported_type(word: str) -> str | None:
    """What to say of a word that names a type which no buffer can stand for."""
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
