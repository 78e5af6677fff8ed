"""The native kernels of instruction sets that this processor may lack, compiled for AVX2 with native/emulated.h in
place of the missing intrinsics. Objects stay in build/tests/emulated and are made again only when their inputs
changed."""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path

from support.locks import alone_in
from support.paths import ROOT

sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import native_kernels  # noqa: E402  (found through the line above)
import objects  # noqa: E402

from pipeline.device import resources  # noqa: E402
from pipeline.metalc import toolchain  # noqa: E402

NATIVE = next((ROOT / "objc").rglob("native/table.cpp")).parent.relative_to(ROOT)
FOLDER = Path("build/tests/emulated")
# -O0 compiles in half the time of -O1, and most of the time is the compiler's.
FLAGS = (
    "-std=c++17 -O0 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-strict-aliasing -ffp-contract=off "
    f"-Wno-psabi -march=x86-64-v3 -DOB_EMULATE -Iobjc -I{NATIVE} -Iobjc/metal -Ishaders -Itests/support/native"
).split()


OWN_FORMATS = {"amx": ("-include", "formats_of_tiles.h")}  # the others have the code of another instruction set
OTHER_FORMATS = "formats_blocks.cpp"


def has_blocks(isa: str) -> bool:
    """Whether its kernels of blocks are here, or emulated: code of its own."""
    return is_here(isa) or isa not in OWN_FORMATS


def is_here(isa: str) -> bool:
    """Whether the processor has it, and the library is built for it."""
    return isa in native_kernels.runnable_isas() and (resources.shader_library() / f"native/{isa}.so").exists()


def bundle_for(isa: str) -> Path:
    """A copy of the shader library in which the kernels of `isa`, emulated, stand where AVX2's would."""
    bundle = ROOT / FOLDER / f"{isa}.metallib"
    with alone_in(ROOT / FOLDER):
        kernels = _compile(isa)
        objects.install(resources.shader_library("avx2"), bundle)  # takes away what an earlier run put there
        (bundle / "native/avx2.so").unlink()
        shutil.copy(kernels, bundle / "native/avx2.so")
    return bundle


def _compile(isa: str) -> Path:
    compiler = [*toolchain.compiler()]
    shop = objects.Workshop(ROOT, ROOT / FOLDER, toolchain.compiler_version())
    parts, jobs = [], []
    for source in sorted((ROOT / NATIVE).glob("*.cpp")):
        if isa in OWN_FORMATS and source.name == OTHER_FORMATS:
            continue
        part = ROOT / FOLDER / f"{source.stem}-{isa}.o"
        depfile = part.with_suffix(".d")
        command = [
            *compiler,
            *FLAGS,
            f"-DOB_ISA={isa}",
            *OWN_FORMATS.get(isa, ()),
            "-MMD",
            "-MF",
            str(depfile),
            "-c",
            str(source.relative_to(ROOT)),
        ]
        parts.append(part)
        jobs.append(
            functools.partial(shop.make, part, [*command, "-o", str(part)], [source.relative_to(ROOT)], depfile)
        )
    objects.parallel(jobs)
    product = ROOT / FOLDER / f"{isa}.so"
    shop.make(product, [*compiler, "-shared", *map(str, parts), "-o", str(product)], parts)
    return product
