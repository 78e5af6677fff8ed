"""Function constants: variables of the thread, which an entry sets from the launch before it runs a kernel. On cuda
nothing sets them: they are constants."""

import json

from ..host import CUDA
from .syntax import Shader

__all__ = ["call", "definitions", "table"]


def definitions(shader: Shader, isa: str) -> str:
    """C++ for the table of a shader's function constants and for the function that sets them; empty without any."""
    given = [constant for constant in shader.function_constants if not constant.derived]
    if not given:
        return ""
    rows: list[str] = []
    steps: list[str] = []
    for constant in shader.function_constants:
        path = "".join(f"{name}::" for name in constant.scope)
        if constant.derived:
            steps.append(f"  {path}metallib_derive_{constant.name}();\n")
            continue
        variable, defined = f"{path}{constant.name}", f"{path}metallib_defined_{constant.name}"
        steps.append(f"  metallib_thunk::give(launch, {len(rows)}, {variable}, {defined});\n")
        rows.append(
            f"  {{{json.dumps(constant.name)}, {constant.index}, metallib_thunk::data_type<decltype({variable})>}},\n"
        )
    setter = f"inline void metallib_specialise(const metallib_launch *launch) {{\n{''.join(steps)}}}\n"
    return "".join(
        (
            "namespace { namespace metallib_source {\n",
            f"constexpr metallib_constant metallib_constants[] = {{\n{''.join(rows)}}};\n",
            "" if isa == CUDA else setter,
            "} }\n",
        )
    )


def call(shader: Shader) -> str:
    """The first statement of an entry."""
    return "  metallib_source::metallib_specialise(launch);\n" if _any(shader) else ""


def table(shader: Shader) -> str:
    """The last members of a metallib_signature."""
    count = sum(not constant.derived for constant in shader.function_constants)
    return f"metallib_source::metallib_constants, {count}" if count else "nullptr, 0"


def _any(shader: Shader) -> bool:
    return any(not constant.derived for constant in shader.function_constants)
