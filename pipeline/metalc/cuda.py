"""The part of a bundle for CUDA: units of CUDA C++, the table of their kernels, and cubins of those compiled ahead."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from . import generate_cuda, nvrtc
from .store import hash_of, replacing
from .units import Pool, Unit

__all__ = ["cubins", "publish", "table"]

TABLE = "kernels.json"  # {kernel: [file of its unit, its number there]}


def table(units: Sequence[Unit]) -> str:
    """C++ for ob_metallib_cuda."""
    entries = {
        kernel.name: generate_cuda.Entry(generate_cuda.symbol(kernel, number), index, number)
        for index, unit in enumerate(units)
        for number, kernel in enumerate(unit.kernels)
    }
    return generate_cuda.table([unit.cuda_name for unit in units], [entries[name] for name in sorted(entries)])


def cubins(
    folder: Path,
    pool: Pool,
    units: Sequence[Unit],
    archs: Sequence[str],
    names: Sequence[str],
    done: Callable[[str], None] | None,
) -> dict[Path, Path]:
    """Compiles the kernels that `names`, patterns as of a shell, match, for each architecture. Returns the products in
    `folder` by the paths that they have in a bundle's folder for CUDA."""
    jobs = [
        (unit, number, arch)
        for arch in archs
        for unit in units
        for number, kernel in enumerate(unit.kernels)
        if any(fnmatch.fnmatchcase(kernel.name, name) for name in names)
    ]
    if not jobs:
        return {}
    texts = {unit.cuda_name: folder / unit.cuda_name for unit in units}
    for unit in units:
        _write(texts[unit.cuda_name], unit.cuda)
    compiler = nvrtc.version()

    def compile_one(unit: Unit, number: int, arch: str) -> Path:
        key = hash_of(compiler, *nvrtc.FLAGS, arch, unit.cuda_name, str(number))
        product = folder / f"{key}.cubin"
        if product.exists():
            os.utime(product)
        else:
            with replacing(product) as temporary:
                nvrtc.compile_apart(texts[unit.cuda_name], number, arch, temporary)
        if done:
            done(f"{unit.kernels[number].name} for {arch}")
        return product

    products = pool.map(compile_one, *zip(*jobs))
    places = [Path(arch) / f"{Path(unit.cuda_name).stem}-{number}.cubin" for unit, number, arch in jobs]
    return dict(zip(places, products))


def publish(out: Path, units: Sequence[Unit], compiled: dict[Path, Path]) -> None:
    """Writes the units, the table of their kernels and cubins to folder `out`; without units, the folder goes. What
    belongs to other texts goes, too."""
    if not units:
        shutil.rmtree(out, ignore_errors=True)
        return
    out.mkdir(exist_ok=True)
    for unit in units:
        _write(out / unit.cuda_name, unit.cuda)
    places = {kernel.name: (unit.cuda_name, n) for unit in units for n, kernel in enumerate(unit.kernels)}
    with replacing(out / TABLE) as temporary:
        temporary.write_text(json.dumps(places))
    for place, product in compiled.items():
        (out / place).parent.mkdir(exist_ok=True)
        with replacing(out / place) as temporary:
            shutil.copyfile(product, temporary)
    stems = {Path(unit.cuda_name).stem for unit in units}
    for text in out.glob("*.cu"):
        if text.stem not in stems:
            text.unlink()
    for cubin in out.glob("*/*.cubin"):
        if cubin.stem.rpartition("-")[0] not in stems:
            cubin.unlink()


def _write(path: Path, text: str) -> None:
    """Writes a file whose name says what is in it."""
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(text)
