"""Reads and runs compiled shader libraries through their C interface (objc/metal/abi/metallib.h)."""

import ctypes
import subprocess
from ctypes import POINTER, Structure, c_char_p, c_uint32, c_void_p
from pathlib import Path

import numpy as np

BUFFER, THREADGROUP = 0, 1
READ, READ_WRITE = 0, 1


class Member(Structure):
    _fields_ = [("name", c_char_p), ("offset", c_uint32), ("type", c_uint32), ("count", c_uint32)]


class Argument(Structure):
    _fields_ = [
        ("name", c_char_p),
        *((field, c_uint32) for field in ("kind", "index", "access", "constant", "reference")),
        *((field, c_uint32) for field in ("type", "size", "alignment", "member_count")),
        ("members", POINTER(Member)),
        ("early", c_uint32),
    ]


class Launch(Structure):
    _fields_ = [
        ("buffers", POINTER(c_void_p)),
        ("threadgroup", POINTER(c_void_p)),
        ("threadgroups", c_uint32 * 3),
        ("threads", c_uint32 * 3),
        ("grid", c_uint32 * 3),
        ("thread", c_void_p),
        ("constants", POINTER(c_void_p)),
    ]


class Constant(Structure):
    _fields_ = [("name", c_char_p), ("index", c_uint32), ("type", c_uint32), ("use", c_uint32)]


class Signature(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("arguments", POINTER(Argument)),
        ("argument_count", c_uint32),
        ("max_total_threads", c_uint32),
        ("thread_execution_width", c_uint32),
        ("static_threadgroup_length", c_uint32),
        ("constants", POINTER(Constant)),
        ("constant_count", c_uint32),
    ]


class Function(Structure):
    _anonymous_ = ("signature",)
    _fields_ = [("signature", Signature), ("entry", ctypes.CFUNCTYPE(None, POINTER(Launch), c_uint32, c_uint32))]


class Table(Structure):
    _fields_ = [("abi", c_uint32), ("function_count", c_uint32), ("isa", c_char_p), ("functions", POINTER(Function))]


class Library:
    """One shared object of a bundle."""

    def __init__(self, bundle, isa):
        self._handle = ctypes.CDLL(str(Path(bundle) / f"{isa}.so"))
        self.table = Table.in_dll(self._handle, "ob_metallib")
        self.functions = {
            self.table.functions[i].name.decode(): self.table.functions[i] for i in range(self.table.function_count)
        }

    def arguments(self, name):
        function = self.functions[name]
        return {function.arguments[i].name.decode(): function.arguments[i] for i in range(function.argument_count)}

    def members(self, name, argument):
        found = self.arguments(name)[argument]
        return {
            found.members[i].name.decode(): (found.members[i].offset, found.members[i].type, found.members[i].count)
            for i in range(found.member_count)
        }

    def constants(self, name):
        """(name, index, type) of each function constant."""
        function = self.functions[name]
        found = (function.constants[i] for i in range(function.constant_count))
        return [(constant.name.decode(), constant.index, constant.type) for constant in found]

    def run(self, name, buffers, groups=(1, 1, 1), ranges=None, threadgroup=(), constants=None):
        """Runs a kernel on arrays (in order, or {index: array}); ranges of threadgroups default to the whole grid;
        constants are {name: array of one value}."""
        groups = tuple(groups) + (1,) * (3 - len(groups))
        if not isinstance(buffers, dict):
            buffers = dict(enumerate(buffers))
        bind = (c_void_p * 31)()
        for index, array in buffers.items():
            bind[index] = array.ctypes.data
        shared = [np.zeros(n, np.uint8) for n in threadgroup]
        local = (c_void_p * 31)(*(array.ctypes.data for array in shared))
        triple = c_uint32 * 3
        launch = Launch(bind, local, triple(*groups), triple(1, 1, 1), triple(*groups))
        if constants is not None:
            values = [constants.get(name) for name, *_ in self.constants(name)]
            launch.constants = (c_void_p * len(values))(*(None if v is None else v.ctypes.data for v in values))
        for first, count in ranges or [(0, int(np.prod(groups)))]:
            self.functions[name].entry(ctypes.byref(launch), first, count)


HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"


def is_gcc():
    """Whether the C++ compiler is GCC."""
    from pipeline.metalc import toolchain

    command = [*toolchain.compiler(), "--version"]
    return "Free Software Foundation" in subprocess.run(command, capture_output=True, text=True).stdout


def compile_text(folder, text, isa=None, **options):
    """Compiles the text of one shader, or of several named files, in `folder` for one instruction set."""
    from pipeline import metalc
    from pipeline.metalc import toolchain

    files = text if isinstance(text, dict) else {"shader.metal": text}
    for name, content in files.items():
        (folder / name).write_text(HEADER + content if name.endswith(".metal") else content)
    sources = [folder / name for name in files if name.endswith(".metal")]
    isa = isa or toolchain.runnable_isas()[-1]
    options = {"build_dir": folder / "objects", "optimize": "0", **options}
    return Library(metalc.build(sources, folder / "out.metallib", [isa], **options), isa)
