"""Builds the kernels written by hand, one shared object per instruction set."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import objects

from pipeline.metalc.target import target

SOURCES = Path("objc/metal/cpu/native")
ISAS = {  # the shaders' instruction set that each goes with, and what the compiler is told
    "avx2": ("avx2", ("-march=x86-64-v3",)),
    "avx512": ("avx512", ("-march=x86-64-v4",)),
    "vnni": ("avx512", ("-march=x86-64-v4", "-mavx512vnni")),
    "amx": ("avx512", ("-march=x86-64-v4", "-mavx512vnni", "-mamx-tile", "-mamx-int8")),
}
NEEDS = {"vnni": {"avx512_vnni"}, "amx": {"avx512_vnni", "amx_tile", "amx_int8"}}  # beyond the shaders' needs
FLAGS = (
    "-std=c++17 -O3 -g1 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-strict-aliasing -ffp-contract=off "
    # Undefined on purpose, says GCC 12 of its own AVX-512 headers.
    "-Wall -Wextra -Wno-psabi -Wno-maybe-uninitialized -Wno-uninitialized -Iobjc -Ishaders"
).split()


def flags(isa: str) -> list[str]:
    return [*FLAGS, *ISAS[isa][1], f"-DOB_ISA={isa}"]


def sources() -> list[Path]:
    """The largest first: they take longest."""
    return sorted(SOURCES.glob("*.cpp"), key=lambda path: (-path.stat().st_size, path.name))


def isas_for(shaders: Sequence[str]) -> tuple[str, ...]:
    """The instruction sets that go with those of the shaders, the plainest first; none on a Mac."""
    return tuple(isa for isa, (goes_with, _) in ISAS.items() if goes_with in shaders and not target().is_mac)


def runnable_isas() -> tuple[str, ...]:
    """Those that this processor has, the plainest first."""
    from pipeline.metalc import toolchain

    flags = toolchain.processor_flags()
    found = [isa for isa in isas_for(toolchain.runnable_isas()) if NEEDS.get(isa, set()) <= flags]
    return tuple(isa for isa in found if isa != "amx" or _may_use_tiles())


def _may_use_tiles() -> bool:
    """The system decides which processes may: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)."""
    return ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0


def build(shop: objects.Workshop, out: Path, isas: Sequence[str], pool, done: Callable[[str], None]) -> None:
    """Compiles into OUT/ISA.so for each of `isas`; shared objects of others are removed."""
    from pipeline.metalc import toolchain

    compiler, folder = [*toolchain.compiler()], shop.folder

    def compile(source: Path, isa: str) -> Path:
        part = folder / f"native-{source.stem}-{isa}.o"
        depfile = part.with_suffix(".d")
        command = [*compiler, *flags(isa), "-MMD", "-MF", str(depfile), "-c", str(source), "-o", str(part)]
        shop.make(part, command, [source], depfile)
        done(f"{source} for {isa}")
        return part

    pairs = list(itertools.product(sources(), isas))
    parts = dict(zip(pairs, pool.map(compile, *zip(*pairs)))) if pairs else {}
    for isa in isas:
        product = folder / f"native-{isa}.so"
        inputs = [part for (_, its), part in parts.items() if its == isa]
        shop.make(product, [*compiler, "-shared", *map(str, inputs), "-o", str(product)], inputs)
        objects.install(product, out / f"{isa}.so")
    for stale in out.glob("*.so"):
        if stale.stem not in isas:
            stale.unlink()
