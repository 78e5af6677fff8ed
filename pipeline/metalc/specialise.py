"""Function constants: variables of the thread, which an entry sets from the launch before it runs a kernel. On cuda
they are constants, whose values come with the compiler's options."""

import json

from ..host import CUDA
from .kernels import Kernel
from .syntax import Shader

__all__ = ["call", "cuda_values", "definitions", "kernel_table", "table"]


def definitions(shader: Shader, isa: str) -> str:
    """C++ for the function that sets a shader's function constants; empty without any."""
    if not _any(shader) or isa == CUDA:
        return ""
    number = 0
    steps: list[str] = []
    for constant in shader.function_constants:
        path = "".join(f"{name}::" for name in constant.scope)
        if constant.derived:
            steps.append(f"  {path}metallib_derive_{constant.name}();\n")
            continue
        variable, defined = f"{path}{constant.name}", f"{path}metallib_defined_{constant.name}"
        steps.append(f"  metallib_thunk::give(launch, {number}, {variable}, {defined});\n")
        number += 1
    return (
        "namespace { namespace metallib_source {\n"
        f"inline void metallib_specialise(const metallib_launch *launch) {{\n{''.join(steps)}}}\n}} }}\n"
    )


def kernel_table(shader: Shader, kernel: Kernel, id: str) -> str:
    """C++ for a kernel's table of the shader's function constants, which says how the kernel uses each."""
    if not _any(shader):
        return ""
    used = shader.constants_of.get(kernel.base_name, frozenset())
    rows: list[str] = []
    for constant in shader.function_constants:
        if constant.derived:
            continue
        path = "".join(f"{name}::" for name in ("metallib_source", *constant.scope))
        optional = constant.name in shader.optional_constants
        use = "UNUSED" if constant.name not in used else "OPTIONAL" if optional else "REQUIRED"
        rows.append(
            f"  {{{json.dumps(constant.name)}, {constant.index}, "
            f"metallib_source::metallib_thunk::data_type<decltype({path}{constant.name})>, METALLIB_{use}}},\n"
        )
    return f"static constexpr metallib_constant metallib_constants_{id}[] = {{\n{''.join(rows)}}};\n"


def cuda_values(shader: Shader) -> str:
    """Macros of the values that the compiler's options did not give."""
    return "".join(
        f"#ifndef METALLIB_VALUE_{constant.index}\n"
        f"#define METALLIB_VALUE_{constant.index} {{}}\n#define METALLIB_DEFINED_{constant.index} {{}}\n#endif\n"
        for constant in shader.function_constants
        if not constant.derived
    )


def call(shader: Shader) -> str:
    """The first statement of an entry."""
    return "  metallib_source::metallib_specialise(launch);\n" if _any(shader) else ""


def table(shader: Shader, id: str) -> str:
    """The last members of a metallib_signature."""
    count = sum(not constant.derived for constant in shader.function_constants)
    return f"metallib_constants_{id}, {count}" if count else "nullptr, 0"


def _any(shader: Shader) -> bool:
    return any(not constant.derived for constant in shader.function_constants)
