"""Argument buffers: tables of the members of structs that point to memory, which say what lies there."""

import json

from .bindings import Binding
from .kernels import Kernel

__all__ = ["any_of", "kernel_table", "library"]

_HIDDEN = '__attribute__((visibility("hidden")))'


def any_of(kernel: Kernel) -> bool:
    """Whether a kernel has an argument buffer."""
    return any(_is_encoded(binding) for binding in kernel.bindings)


def kernel_table(kernel: Kernel, id: str, signature: str) -> str:
    """C++ for a kernel's table; `signature` names the type of its parameters. Empty without argument buffers."""
    ids: list[str] = []
    rows: list[str] = []
    for position, binding in enumerate(kernel.bindings):
        if not _is_encoded(binding):
            continue
        assert binding.struct is not None
        element = f"metallib_thunk::element<{signature}::parameter<{position}>>"
        following = "0"  # an id is the one before and as many as that member has elements
        for number, (name, given) in enumerate(zip(binding.struct.fields, binding.struct.ids)):
            member, constant = f"decltype({element}::{name})", f"metallib_id_{id}_{position}_{number}"
            ids.append(f"static constexpr uint32_t {constant} = {following if given is None else given};\n")
            rows.append(f"  metallib_thunk::slot<{member}>({binding.index}, {number}, {constant}),\n")
            following = f"{constant} + metallib_thunk::count<{member}>"
    if not rows:
        return ""
    return (
        f"{''.join(ids)}static constexpr metallib_slot metallib_rows_{id}[] = {{\n{''.join(rows)}}};\n"
        f'extern "C" {{ extern {_HIDDEN} const metallib_slots metallib_slots_{id} = '
        f"{{{json.dumps(kernel.name)}, {len(rows)}, metallib_rows_{id}}}; }}\n"
    )


def library(ids: list[str]) -> str:
    """C++ for the table of a whole library; `ids` are those of the kernels that have one."""
    if not ids:
        return ""
    declarations = "".join(f"extern {_HIDDEN} const metallib_slots metallib_slots_{id};\n" for id in ids)
    rows = "".join(f"  &metallib_slots_{id},\n" for id in ids)
    return (
        f'extern "C" {{\n{declarations}}}\nconst metallib_slots *const ob_metallib_slots[] = {{\n{rows}  nullptr}};\n'
    )


def _is_encoded(binding: Binding) -> bool:
    return binding.kind == "buffer" and binding.struct is not None and binding.struct.encoded
