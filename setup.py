"""Builds what is not Python: the extension pipeline._core (Cython over the Objective-C core) and
the compiled shader library pipeline/onebuf.metallib.

Objects stay in build/native and are made again only when their inputs changed, so that an editable
install, a wheel and `setup.py build_ext --inplace` share them. CC, CXX, CFLAGS and LDFLAGS are
honoured, and OB_ISAS names the instruction sets. A machine that cannot build gets one line that says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
os.chdir(ROOT)
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import native_kernels  # noqa: E402  (found through the line above)
import objects  # noqa: E402
import toolchain  # noqa: E402

NATIVE = Path("build/native")
LIBRARY = "onebuf.metallib"
ABI = ("cp311", "0x030B0000")  # the oldest Python of the limited API: wheel tag, Py_LIMITED_API

if int(setuptools.__version__.partition(".")[0]) < 77:
    sys.exit("onebuf: setuptools 77 or newer is needed: pip install --upgrade setuptools")


def files(folder: str, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in Path(folder).glob(pattern))


def objc_sources() -> list[Path]:
    folders = ["objc/core"] if sys.platform == "darwin" else ["objc/core", "objc/metal"]
    return [path for folder in folders for path in files(folder, "**/*.m", "**/*.c")]


def fail(message: object, output: str = "") -> SystemExit:
    if output.strip():
        print(output.rstrip(), file=sys.stderr)
    text = str(message)
    return SystemExit(text if text.startswith("onebuf: ") else f"onebuf: {text}")


def find_toolchain() -> toolchain.Toolchain:
    try:
        return toolchain.find()
    except toolchain.ToolchainError as error:
        raise fail(error) from None


def build_core(tools: toolchain.Toolchain) -> Path:
    """Compiles and links pipeline._core; returns the file in build/native."""
    try:
        from Cython import __version__ as cython
    except ImportError:
        raise fail("no Cython: pip install cython") from None
    shop = objects.Workshop(ROOT, NATIVE, f"{tools.identity}\n{cython}")
    out = NATIVE / "_core.abi3.so"
    try:
        compiled = _compile_objects(shop, tools)
        link = [*tools.compiler, *tools.link_flags, *map(str, compiled), "-o", str(out)]
        shop.make(out, link + tools.libraries, compiled)
    except objects.CommandError as error:
        raise fail(error, error.output) from None
    return out


def _compile_objects(shop: objects.Workshop, tools: toolchain.Toolchain) -> list[Path]:
    includes = ["-Iobjc", "-Ishaders"]
    jobs, compiled = [], []

    def compile(source: Path, flags: list[str]) -> list[Path]:
        stem = NATIVE / "-".join(source.with_suffix("").parts[-2:])
        out, deps = stem.with_suffix(".o"), stem.with_suffix(".d")
        compiled.append(out)
        command = [*tools.compiler, *flags, "-MMD", "-MF", str(deps), "-c", str(source)]
        return [out, [*command, "-o", str(out)], [source], deps]

    def cython_then_c() -> None:
        shop.make(generated, cython, files("pyx", "*.pyx", "*.pxd", "*.pxi"))
        shop.make(*core)

    generated = NATIVE / "_core.c"
    cython = [sys.executable, "-m", "cython", "-3", "-Ipyx", "--module-name", "pipeline._core"]
    cython += ["pyx/_core.pyx", "-o", str(generated)]
    limited = [f"-DPy_LIMITED_API={ABI[1]}", "-Wno-unused-parameter"]
    limited += [f"-I{folder}" for folder in toolchain.python_headers()]
    core = compile(generated, [*tools.c_flags, *includes, *limited])
    for source in objc_sources():
        flags = tools.objc_flags if source.suffix == ".m" else tools.c_flags
        jobs.append(partial(shop.make, *compile(source, [*flags, *includes])))
    objects.parallel([cython_then_c, *jobs])
    return compiled


def instruction_sets(inplace: bool) -> tuple[str, ...]:
    """OB_ISAS, else all for a wheel, which goes to other machines, and for a source tree those of this processor."""
    from pipeline.metalc import toolchain as shaders

    named = tuple(os.environ.get("OB_ISAS", "").replace(",", " ").split())
    return named or ((*shaders.runnable_isas(), shaders.CHECKER) if inplace else shaders.default_isas())


def build_shaders(inplace: bool) -> Path | None:
    """Compiles shaders/*.metal; None where only run-time compilation is possible."""
    sources = files("shaders", "*.metal")
    out = NATIVE / LIBRARY
    if sys.platform == "darwin":
        return _apple_shaders(sources, out)
    from pipeline import metalc

    isas = instruction_sets(inplace)
    try:
        metalc.build(sources, out, isas, build_dir=NATIVE / "shaders")
        native_kernels.build(ROOT, NATIVE, out / "native", isas)
    except metalc.CompileError as error:
        first, _, rest = str(error).partition("\n")
        raise fail(first, rest) from None
    except objects.CommandError as error:
        raise fail(error, error.output) from None
    return out


def _apple_shaders(sources: list[Path], out: Path) -> Path | None:
    find = ["xcrun", "-sdk", "macosx", "-f", "metal"]
    if subprocess.run(find, capture_output=True).returncode:
        return None
    shop = objects.Workshop(ROOT, NATIVE, "metal")
    xcrun = ["xcrun", "-sdk", "macosx"]
    parts, jobs = [], []
    for source in sources:
        part, deps = NATIVE / f"{source.stem}.air", NATIVE / f"{source.stem}.air.d"
        command = [*xcrun, "metal", "-O2", "-fno-fast-math", "-MMD", "-MF", str(deps), "-c"]
        jobs.append(partial(shop.make, part, [*command, str(source), "-o", str(part)], [source], deps))
        parts.append(part)
    try:
        objects.parallel(jobs)
        shop.make(out, [*xcrun, "metallib", *map(str, parts), "-o", str(out)], parts)
    except objects.CommandError as error:
        raise fail(error, error.output) from None
    return out


class Build(build):
    """Refuses a machine that cannot build before anything is copied, and drops what an earlier
    build left in the folder that becomes the wheel."""

    def run(self) -> None:
        find_toolchain()
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildExt(build_ext):
    """The extension and the shader library, into the source tree or into the wheel's folder."""

    def run(self) -> None:
        super().run()
        target = (ROOT if self.inplace else Path(self.build_lib)) / "pipeline"
        library = build_shaders(self.inplace)
        if library:
            objects.install(library, target / LIBRARY)
        if not self.inplace:
            self._install_sources(target)

    def build_extension(self, ext: Extension) -> None:
        built = build_core(find_toolchain())
        objects.install(built, Path(self.get_ext_fullpath(ext.name)))

    @staticmethod
    def _install_sources(target: Path) -> None:
        """What run-time compilation needs; a source tree has it where it is."""
        for path in files("shaders", "*.metal", "*.h"):
            objects.install(path, target / "shaders" / path.name)
        objects.install(Path("shaders/weights"), target / "shaders/weights")
        for path in files("objc/metal/abi", "*.h"):
            objects.install(path, target / "include" / path.name)


setup(
    ext_modules=[Extension("pipeline._core", ["pyx/_core.pyx"], py_limited_api=True)],
    cmdclass={"build": Build, "build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": ABI[0]}},
)
