"""The shader compiler: Metal Shading Language compute kernels to shared objects for this processor.

    metalc.build(["add.metal"], "add.metallib")

A .metal file is preprocessed and parsed to find its kernels; its text is then compiled as C++17 against
the headers of pipeline/include/metal_stdlib, followed by a generated thunk per kernel that runs a range of
threadgroups. The interface of the result is objc/metal/abi/metallib.h.
"""

from .bundle import build
from .errors import CompileError
from .toolchain import default_isas

__all__ = ["CompileError", "build", "default_isas"]
