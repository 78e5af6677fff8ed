"""Generated CUDA C++: one text per .metal file, with all headers in it, and a __global__ function per kernel; and the
table that says where each kernel stands in it (see metallib_cuda.h)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from . import specialise, toolchain
from .errors import at
from .generate import CUDA_THREADS, SPACES, plain
from .kernels import Kernel
from .syntax import Shader
from .waits import check_waits

__all__ = ["Entry", "symbol", "table", "unit"]

MAX_THREADGROUP = 8  # METALLIB_CUDA_THREADGROUP

_INCLUDE = re.compile(r"^ *# *include <(\w+)>\n", re.MULTILINE)
_DROPPED = re.compile(r"^(?:#pragma once|#pragma GCC system_header|//.*)\n", re.MULTILINE)
_POSITIONS = {
    "thread_position_in_grid": "at.in_grid()",
    "threadgroup_position_in_grid": "at.group",
    "threads_per_grid": "at.grid",
    "threadgroups_per_grid": "at.groups",
    "grid_size": "at.grid",
    "grid_origin": "0, 0, 0",
    "thread_position_in_threadgroup": "at.position",
    "thread_index_in_threadgroup": "at.index",
    "thread_index_in_simdgroup": "at.index % 32",
    "thread_index_in_quadgroup": "at.index % 4",
    "simdgroup_index_in_threadgroup": "at.index / 32",
    "quadgroup_index_in_threadgroup": "at.index / 4",
    "threads_per_threadgroup": "at.size",
    "dispatch_threads_per_threadgroup": "at.threads",
    "threads_per_simdgroup": "32",
    "thread_execution_width": "32",
    "simdgroups_per_threadgroup": "(at.size.product() + 31) / 32",
    "dispatch_simdgroups_per_threadgroup": "(at.threads.product() + 31) / 32",
    "quadgroups_per_threadgroup": "(at.size.product() + 3) / 4",
    "dispatch_quadgroups_per_threadgroup": "(at.threads.product() + 3) / 4",
}
_KERNEL = """\
#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == {number}
namespace ob {{ namespace metallib_source {{ {opened}
using metallib_signature_{number} = metallib_cuda::signature<decltype(&{call})>;
template <typename... A>
METAL_FUNC void metallib_kernel_{number}(A &&...a) {{
  ({call})(static_cast<A &&>(a)...);
}}
{closed}}} }}
extern "C" __global__ void __launch_bounds__({threads}) {symbol}({parameters}metallib_cuda_launch launch) {{
  metallib_cuda::begin();
{memory}{arguments}{body}}}
#endif
"""
_BODY = """\
  const metallib_cuda::thread_place at(launch);
  metallib_cuda::wait();
  metallib_cuda::started(launch);
  if (at.outside()) return;
  {kernel}({values});
"""
# The last line is for threads that return early: a kernel that is done says to the next that those before it are, too.
_EARLY_BODY = """\
  metallib_cuda::note(launch);
  const metallib_cuda::thread_place at(launch);
  if (!at.outside()) {kernel}({values});
  metallib_cuda::wait();
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a kernel stands: number `number` of the unit with index `unit`."""

    symbol: str
    unit: int
    number: int


def symbol(kernel: Kernel, number: int) -> str:
    """The name of the __global__ function; no function of CUDA has such a name."""
    if re.fullmatch(r"[A-Za-z_]\w*", kernel.name, re.ASCII):
        return f"metal_{kernel.name}"
    return f"metal_{number}_" + re.sub(r"\W", "_", kernel.name, flags=re.ASCII)


def unit(shader: Shader, kernels: list[Kernel]) -> str:
    """CUDA C++ for one .metal file, to be compiled by NVRTC."""
    check_waits(shader, kernels)
    seen: set[str] = set()
    undefine = "".join(f"#undef {word}\n" for word in SPACES)
    parts = [
        _early(kernels),
        "".join(f"#define {define[2:].replace('=', ' ')}\n" for define in toolchain.defines(toolchain.CUDA)),
        _inlined("metal_system", seen),
        "namespace ob { namespace metallib_source {\n",
        _inlined("metal_stdlib", seen),
        specialise.cuda_values(shader),
        shader.text,
        '\n# 1 "<generated>"\n',
        undefine,
        "} }\n",
        "namespace ob { using namespace metallib_source;\n",
        _inlined("metallib_kernel", seen),
        "}\nusing namespace ob;\n",
    ]
    parts += [_kernel(kernel, number) for number, kernel in enumerate(kernels)]
    return "".join(parts)


def _early(kernels: list[Kernel]) -> str:
    """Defines METALLIB_EARLY where a kernel is compiled that waits by itself, or all kernels of the unit are."""
    numbers = [number for number, kernel in enumerate(kernels) if kernel.notes.early]
    if not numbers:
        return ""
    named = "".join(f" || METALLIB_KERNEL == {number}" for number in numbers)
    return f"#if !defined(METALLIB_KERNEL){named}\n#define METALLIB_EARLY\n#endif\n"


def _inlined(name: str, seen: set[str]) -> str:
    """The text of a header with the headers that it includes, each at its first place."""
    if name in seen:
        return ""
    seen.add(name)
    path = next(folder / name for folder in toolchain.cuda_headers() if (folder / name).exists())
    text = _DROPPED.sub("", path.read_text())
    return f'# 1 "{name}"\n' + _INCLUDE.sub(lambda found: _inlined(found[1], seen) + f'# 1 "{name}"\n', text)


def _kernel(kernel: Kernel, number: int) -> str:
    path = "::".join(("metallib_source", *kernel.scope, ""))
    signature = f"{path}metallib_signature_{number}"
    parameters: list[str] = []
    arguments: list[str] = []
    values: list[str] = []
    memory = ""
    for position, binding in enumerate(kernel.bindings):
        kind = f"{signature}::parameter<{position}>"
        if binding.index is None:
            values.append(f"metallib_cuda::position<{kind}>({_POSITIONS[binding.kind]})")
            continue
        if binding.kind == "buffer":
            source = f"b{len(parameters)}"
            parameters.append(f"void *{source}, ")
        else:
            if binding.index >= MAX_THREADGROUP:
                raise at(
                    binding.parameter.file,
                    binding.parameter.line,
                    f"[[threadgroup({binding.index})]] of kernel '{kernel.name}': on cuda the index must be below "
                    f"{MAX_THREADGROUP}",
                )
            memory = "  extern __shared__ __align__(16) unsigned char metallib_dynamic[];\n"
            source = f"metallib_dynamic + launch.threadgroup[{binding.index}]"
        constant = "true" if binding.constant else "false"
        arguments.append(f"  const metallib_cuda::argument<{kind}, {constant}> a{position}({source});\n")
        values.append(f"a{position}.get()")
    body = _EARLY_BODY if kernel.notes.early else _BODY
    return _KERNEL.format(
        number=number,
        opened="".join(f"namespace {name} {{ " for name in kernel.scope),
        closed="} " * len(kernel.scope),
        call=plain(kernel.call),
        threads=_bounds(kernel),
        symbol=symbol(kernel, number),
        parameters="".join(parameters),
        memory=memory,
        arguments="".join(arguments),
        body=body.format(kernel=f"{path}metallib_kernel_{number}", values=", ".join(values)),
    )


def _bounds(kernel: Kernel) -> str:
    """What __launch_bounds__ takes: threads of a block and, where the shader says it, blocks per multiprocessor."""
    threads = kernel.max_threads or CUDA_THREADS
    resident = kernel.notes.resident
    return f"{threads}, {max(resident // threads, 1)}" if resident else str(threads)


def table(units: Iterable[str], entries: Iterable[Entry]) -> str:
    """C++ for ob_metallib_cuda; the entries are in the order of ob_metallib's functions."""
    names = [json.dumps(name) for name in units]
    rows = "".join(f"  {{{json.dumps(entry.symbol)}, {entry.unit}, {entry.number}}},\n" for entry in entries)
    return (
        f'#include "metallib_cuda.h"\nstatic const char *const units[] = {{{", ".join(names)}}};\n'
        f"static const metallib_cuda_function cuda_functions[] = {{\n{rows}}};\n"
        f"const metallib_cuda ob_metallib_cuda = {{METALLIB_ABI, {len(names)}, units, cuda_functions}};\n"
    )
