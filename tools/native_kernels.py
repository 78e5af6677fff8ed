"""Builds objc/metal/cpu/native, the kernels written by hand, once for each instruction set."""

from __future__ import annotations

import itertools
import platform
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import objects

ISAS = {  # the shaders' instruction set that each goes with, and what the compiler is told
    "avx2": ("avx2", ("-march=x86-64-v3",)),
    "avx512": ("avx512", ("-march=x86-64-v4",)),
    "vnni": ("avx512", ("-march=x86-64-v4", "-mavx512vnni")),
    "amx": ("avx512", ("-march=x86-64-v4", "-mavx512vnni", "-mamx-tile", "-mamx-int8")),
}
FLAGS = (
    "-std=c++17 -O3 -g1 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-strict-aliasing -ffp-contract=off "
    # Undefined on purpose, says GCC 12 of its own AVX-512 headers.
    "-Wall -Wextra -Wno-psabi -Wno-maybe-uninitialized -Wno-uninitialized -Iobjc -Ishaders"
).split()


def flags(isa: str) -> list[str]:
    return [*FLAGS, *ISAS[isa][1], f"-DOB_ISA={isa}"]


def build(root: Path, folder: Path, out: Path, shader_isas: Sequence[str]) -> None:
    """Compiles into OUT/ISA.so for each that goes with one of `shader_isas`; nothing where the machine has none.

    Args:
        root: the source tree; folder: where objects stay; out: made as needed.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or sys.platform == "darwin":
        return
    from pipeline.metalc import toolchain

    compiler, sources = [*toolchain.compiler()], sorted(Path("objc/metal/cpu/native").glob("*.cpp"))
    shop = objects.Workshop(root, folder, toolchain.compiler_version())
    jobs, parts = [], {isa: [] for isa, (shaders, _) in ISAS.items() if shaders in shader_isas}
    for isa, source in itertools.product(parts, sources):
        part = folder / f"native-{source.stem}-{isa}.o"
        depfile = part.with_suffix(".d")
        command = [*compiler, *flags(isa), "-MMD", "-MF", str(depfile), "-c", str(source), "-o", str(part)]
        parts[isa].append(part)
        jobs.append(partial(shop.make, part, command, [source], depfile))
    objects.parallel(jobs)
    out.mkdir(parents=True, exist_ok=True)
    for isa, inputs in parts.items():
        product = folder / f"native-{isa}.so"
        shop.make(product, [*compiler, "-shared", *map(str, inputs), "-o", str(product)], inputs)
        objects.install(product, out / f"{isa}.so")
    for stale in out.glob("*.so"):
        if stale.stem not in parts:
            stale.unlink()
