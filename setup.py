"""Builds what is not Python: the extension pipeline._core (Cython over the Objective-C core) and
the compiled shader library pipeline/onebuf.metallib.

tools/builder.py does the work. Objects stay in build/native and are made again only when their inputs changed, so that
an editable install, a wheel and `make` share them. CC, CXX, CFLAGS and LDFLAGS are honoured, and OB_ISAS names the
instruction sets. A machine that cannot build gets one line that says what to install.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
os.chdir(ROOT)
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import builder  # noqa: E402  (found through the line above)
import cross_mac  # noqa: E402
import objects  # noqa: E402
import toolchain  # noqa: E402

from pipeline.metalc.target import Target, target  # noqa: E402

ABI = "cp311"  # the wheel's tag: the oldest Python of the limited API, as in tools/core.py

if int(setuptools.__version__.partition(".")[0]) < 77:
    sys.exit("onebuf: setuptools 77 or newer is needed: pip install --upgrade setuptools")


def files(folder: str, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in Path(folder).glob(pattern))


def find_toolchain() -> None:
    try:
        toolchain.find()
    except toolchain.ToolchainError as error:
        raise SystemExit(builder.BuildError(str(error)).text()) from None


class Build(build):
    """Refuses a machine that cannot build before anything is copied, and drops what an earlier
    build left in the folder that becomes the wheel."""

    def run(self) -> None:
        find_toolchain()
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildExt(build_ext):
    """The extension and the shader library, into the wheel's folder, or into the source tree, which then has at least
    what this processor needs for a run; the rest is compiled when it is first used."""

    def run(self) -> None:
        find_toolchain()
        try:
            if self.inplace:
                builder.build_tree("run", keep=True)
            else:
                self._fill(Path(self.build_lib) / "pipeline")
        except builder.BuildError as error:
            raise SystemExit(error.text()) from None

    def _fill(self, target: Path) -> None:
        with builder.only_build():
            core = builder.build(builder.parts_of("wheel"), target / builder.bundle_name(), with_core=True)
        objects.install(core, target / core.name)
        self._install_sources(target)

    @staticmethod
    def _install_sources(target: Path) -> None:
        """What run-time compilation needs; a source tree has it where it is."""
        for path in files("shaders", "*.metal", "*.h"):
            objects.install(path, target / "shaders" / path.name)
        objects.install(Path("shaders/weights"), target / "shaders/weights")
        for path in files("objc/metal/abi", "*.h"):
            objects.install(path, target / "include" / path.name)


def wheel_options() -> dict[str, object]:
    """A Mac's wheel is for one processor, and for the oldest macOS that its code is compiled for."""
    options = {"py_limited_api": ABI}
    if target().is_mac:
        options["plat_name"] = f"macosx_{cross_mac.OLDEST.replace('.', '_')}_{target().machine}"
    elif target() != Target.here():
        options["plat_name"] = f"{target().system}_{target().machine}"
    return options


setup(
    ext_modules=[Extension("pipeline._core", ["pyx/_core.pyx"], py_limited_api=True)],
    cmdclass={"build": Build, "build_ext": BuildExt},
    options={"bdist_wheel": wheel_options()},
)
