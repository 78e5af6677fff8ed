"""Generated C++: the shader's text, then for each kernel a thunk and its reflection (see metallib.h)."""

import json
import re

from ..host import CHECKER, CUDA
from . import slots, specialise
from .bindings import POSITIONS
from .kernels import MAX_THREADS, Kernel
from .syntax import Shader

__all__ = ["CUDA_THREADS", "SPACES", "library", "plain", "translation_unit"]

# Most threads of a threadgroup on cuda where the shader does not say it; Metal's compiler chooses a number, too. With
# more of them, a thread would have too few registers for three Lanes and what they are computed from.
CUDA_THREADS = 256

# Wishes for a loop. A checker's loop has a scope of its own around it, which clang does not let stand behind them.
_WISHES = r"(?:clang +loop|GCC +(?:unroll|ivdep)|(?:no)?unroll)\b"
_LOOP_PRAGMA = re.compile(rf'^([ \t]*)#[ \t]*pragma +{_WISHES}.*$|_Pragma *\( *"{_WISHES}[^"]*" *\)', re.MULTILINE)

SPACES = ("device", "constant", "threadgroup", "thread", "kernel")

_THUNK = """\
extern "C" {hidden} __attribute__((flatten)) void metallib_entry_{id}(
    const metallib_launch *launch, uint32_t first, uint32_t count) {{
  if (count == 0) return;
{arguments}  const uint32_t nx = launch->threadgroups[0], ny = launch->threadgroups[1];
  uint32_t x = first % nx, y = first / nx % ny, z = first / nx / ny;
  while (count) {{
    const uint32_t stop = count < nx - x ? x + count : nx;
    count -= stop - x;
    for (; x < stop; ++x) {kernel}({values});
    x = 0;
    if (++y == ny) y = 0, ++z;
  }}
}}
"""
# An entry for a caller that runs the kernel thread by thread and says where the thread stands.
_THREAD = """\
extern "C" {hidden} __attribute__((no_sanitize("thread", "undefined"))) void metallib_entry_{id}(
    const metallib_launch *launch, uint32_t, uint32_t) {{
  const metallib_thread *const at = launch->thread;
{arguments}  {kernel}({values});
}}
"""
_THREAD_POSITIONS = {
    "thread_position_in_grid": "at->grid[0], at->grid[1], at->grid[2]",
    "threadgroup_position_in_grid": "at->threadgroup[0], at->threadgroup[1], at->threadgroup[2]",
    "threads_per_grid": "launch->grid[0], launch->grid[1], launch->grid[2]",
    "threadgroups_per_grid": "launch->threadgroups[0], launch->threadgroups[1], launch->threadgroups[2]",
    "grid_size": "launch->grid[0], launch->grid[1], launch->grid[2]",
    "grid_origin": "0, 0, 0",
    "thread_position_in_threadgroup": "at->position[0], at->position[1], at->position[2]",
    "thread_index_in_threadgroup": "at->index",
    "thread_index_in_simdgroup": "at->lane",
    "thread_index_in_quadgroup": "at->lane % 4",
    "simdgroup_index_in_threadgroup": "at->simdgroup",
    "quadgroup_index_in_threadgroup": "at->index / 4",
    "threads_per_threadgroup": "at->size[0], at->size[1], at->size[2]",
    "dispatch_threads_per_threadgroup": "launch->threads[0], launch->threads[1], launch->threads[2]",
    "threads_per_simdgroup": "METALLIB_LANES",
    "thread_execution_width": "METALLIB_LANES",
    "simdgroups_per_threadgroup": "at->simdgroups",
    "dispatch_simdgroups_per_threadgroup": "at->simdgroups",
    "quadgroups_per_threadgroup": "(at->size[0] * at->size[1] * at->size[2] + 3) / 4",
    "dispatch_quadgroups_per_threadgroup": "(at->size[0] * at->size[1] * at->size[2] + 3) / 4",
}
_HIDDEN = '__attribute__((visibility("hidden")))'


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)


def plain(text: str) -> str:
    """Text without address-space words."""
    return " ".join(word for word in text.split() if word not in SPACES)


def translation_unit(shader: Shader, kernels: list[Kernel], key: str, isa: str) -> str:
    """C++ for one .metal file. `key` keeps its symbols apart from those of other files. For the checker, a kernel's
    entry runs one thread; for cuda there is none, and no code of the shader, but its reflection."""
    checked = isa in (CHECKER, CUDA)  # a kernel is run thread by thread
    undefine = "".join(f"#undef {word}\n" for word in SPACES)
    parts = [
        '#include "metallib_checker.h"\n' if checked else '#include "metallib.h"\n',
        # The library stands where the shader does: `using namespace metal` then means what it means in Metal.
        "#include <metal_system>\nnamespace { namespace metallib_source {\n#include <metal_stdlib>\n",
        _LOOP_PRAGMA.sub("", shader.text) if isa == CHECKER else shader.text,
        '\n# 1 "<generated>"\n' + undefine + "#include <metallib_thunk>\n} }\n",
        "namespace metallib_thunk = metallib_source::metallib_thunk;\n",
        specialise.definitions(shader, isa),
    ]
    for number, kernel in enumerate(kernels):
        parts.append(_kernel(shader, kernel, f"{key}_{number}", number, isa))
    return "".join(parts)


def _kernel(shader: Shader, kernel: Kernel, id: str, number: int, isa: str) -> str:
    opened = "".join(f"namespace {name} {{ " for name in kernel.scope)
    closed = "} " * len(kernel.scope)
    path = "::".join(("metallib_source", *kernel.scope, f"metallib_kernel_{number}"))
    if isa == CUDA:  # a template whose address is not taken is not instantiated
        type_name, code = f"decltype(&{plain(kernel.call)})", ""
    else:
        type_name = f"decltype(metallib_kernel_{number})"
        code = f"constexpr auto metallib_kernel_{number} = &{plain(kernel.call)};\n"
    return "".join(
        (
            f"namespace {{ namespace metallib_source {{ {opened}\n",
            code,
            f"using metallib_signature_{number} = metallib_thunk::signature<{type_name}>;\n",
            _threadgroup_length(kernel, number),
            f"{closed}}} }}\n",
            "" if isa == CUDA else _thunk(shader, kernel, id, path, isa == CHECKER),
            _reflection(shader, kernel, id, path, isa),
        )
    )


def _threadgroup_length(kernel: Kernel, number: int) -> str:
    """C++ for the bytes of the body's threadgroup arrays, with the template arguments that the kernel has."""
    name = f"metallib_static_{number}"
    sizes = " + ".join(["0", *(f"sizeof({plain(array)})" for array in kernel.threadgroup_arrays)])
    if not kernel.template or "<" not in kernel.call:
        return f"constexpr uint32_t {name} = {sizes if not kernel.template else 0};\n"
    arguments = plain(kernel.call[kernel.call.index("<") :])
    return (
        f"{plain(kernel.template)} struct {name}_of {{ static constexpr uint32_t value = {sizes}; }};\n"
        f"constexpr uint32_t {name} = {name}_of{arguments}::value;\n"
    )


def _thunk(shader: Shader, kernel: Kernel, id: str, path: str, threads: bool) -> str:
    signature = path.replace("metallib_kernel_", "metallib_signature_")
    positions = _THREAD_POSITIONS if threads else POSITIONS
    arguments, values = [specialise.call(shader)], []
    for position, binding in enumerate(kernel.bindings):
        type_name = f"{signature}::parameter<{position}>"
        if binding.index is None:
            values.append(f"metallib_thunk::position<{type_name}>({positions[binding.kind]})")
            continue
        slots = "buffers" if binding.kind == "buffer" else "threadgroup"
        constant = "true" if binding.constant and not threads else "false"  # a copy would hide accesses
        arguments.append(
            f"  metallib_thunk::argument<{type_name}, {constant}> a{position}(launch->{slots}[{binding.index}]);\n"
        )
        values.append(f"a{position}.get()")
    return (_THREAD if threads else _THUNK).format(
        hidden=_HIDDEN, id=id, arguments="".join(arguments), kernel=path, values=", ".join(values)
    )


def _reflection(shader: Shader, kernel: Kernel, id: str, path: str, isa: str) -> str:
    signature = path.replace("metallib_kernel_", "metallib_signature_")
    length = path.replace("metallib_kernel_", "metallib_static_")
    bound = [(p, b) for p, b in enumerate(kernel.bindings) if b.index is not None]
    parts: list[str] = []
    rows: list[str] = []
    for position, binding in bound:
        element = f"metallib_thunk::element<{signature}::parameter<{position}>>"
        fields = binding.struct.fields if binding.struct else ()
        members = "nullptr"
        if fields:
            members = f"metallib_members_{id}_{position}"
            parts.append(f"static const metallib_member {members}[] = {{\n")
            for name in fields:
                member = f"decltype({element}::{name})"
                parts.append(
                    f"  {{{_string(name)}, (uint32_t)__builtin_offsetof({element}, {name}), "
                    f"metallib_thunk::data_type<{member}>, metallib_thunk::count<{member}>}},\n"
                )
            parts.append("};\n")
        kind = "METALLIB_BUFFER" if binding.kind == "buffer" else "METALLIB_THREADGROUP"
        rows.append(
            f"  metallib_thunk::describe<{signature}::parameter<{position}>>("
            f"{_string(binding.parameter.name)}, {kind}, {binding.index}, "
            f"{int(binding.constant)}, {len(fields)}, {members}, "
            f"{int(binding.parameter.name in kernel.notes.early)}),\n"
        )
    table = "nullptr"
    # A threadgroup's most threads, a simdgroup's lanes.
    most = {CHECKER: kernel.max_threads or MAX_THREADS, CUDA: kernel.max_threads or CUDA_THREADS}
    size = f"{most[isa]}, METALLIB_LANES" if isa in most else "1, 1"
    entry = "nullptr" if isa == CUDA else f"metallib_entry_{id}"
    if rows:
        table = f"metallib_arguments_{id}"
        parts += [f"static constexpr metallib_argument {table}[] = {{\n", *rows, "};\n"]
    parts += [specialise.kernel_table(shader, kernel, id), slots.kernel_table(kernel, id, signature)]
    parts.append(
        f'extern "C" {{ extern {_HIDDEN} const metallib_function metallib_function_{id} = {{\n'
        f"  {{{_string(kernel.name)}, {table}, {len(rows)}, {size}, {length}, {specialise.table(shader, id)}}}, "
        f"{entry}}}; }}\n"
    )
    return "".join(parts)


def library(functions: list[tuple[str, str]], isa: str) -> str:
    """C++ for the table of a whole library; functions are (kernel name, id) in any order."""
    ids = [id for _, id in sorted(functions)]
    declarations = "".join(f"extern {_HIDDEN} const metallib_function metallib_function_{id};\n" for id in ids)
    rows = "".join(f"  metallib_function_{id},\n" for id in ids)
    table = f"static const metallib_function functions[] = {{\n{rows}}};\n" if ids else ""
    return (
        f'#include "metallib.h"\n{"#include <metallib_calls>" if isa == CHECKER else ""}\n'
        f'extern "C" {{\n{declarations}}}\n'
        f"{table}const metallib ob_metallib = "
        f"{{METALLIB_ABI, {len(ids)}, {_string(isa)}, {'functions' if ids else 'nullptr'}}};\n"
    )
