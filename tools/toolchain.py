"""The compilers that build Onebuf's core: finds them, proves that they work, says what to install.

As a script, `python toolchain.py` prints the Debian packages that are missing, one a line (nothing
when the machine can build). Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import cross_mac  # noqa: E402  (found through the line above)

from pipeline.metalc.target import target  # noqa: E402

OBJC_PACKAGES = ("gobjc",)
FOUNDATION = ROOT / "objc" / "foundation"
CXX_PACKAGES = ("g++",)

# For GCC's runtime, with the part of Foundation that is in objc/foundation.
GNU_FLAGS = "-fexceptions -fobjc-exceptions -fconstant-string-class=NSConstantString -pthread".split()
GNU_FLAGS.append(f"-I{FOUNDATION}")
GNU_LIBRARIES = ["-lobjc", "-lpthread", "-ldl", "-lm"]

COMMON_FLAGS = ("-std=gnu11 -O2 -g1 -fPIC -fvisibility=hidden -fno-strict-aliasing -Wall -Wextra").split()

PROBE = """#import <Foundation/Foundation.h>
@interface Probe : NSObject
@end
@implementation Probe
- (NSString *)text { @try { return @"x"; } @catch (NSException *e) { return [e reason]; } }
@end
"""


class ToolchainError(Exception):
    """The machine cannot build. `what` is wrong; `packages` are Debian's that put it right."""

    def __init__(self, what: str, *packages: str) -> None:
        super().__init__(what + (": apt-get install " + " ".join(packages) if packages else ""))
        self.what = what
        self.packages = packages


@dataclass(frozen=True)
class Toolchain:
    """A compiler and the flags that turn Objective-C and C into one extension module."""

    compiler: list[str]
    c_flags: list[str]
    objc_flags: list[str]
    link_flags: list[str]
    libraries: list[str]
    identity: str = ""  # changes whenever objects must be compiled again


def find() -> Toolchain:
    """The toolchain of this machine, tested by compiling.

    Raises ToolchainError, one line that names everything that is missing.
    """
    errors = problems()
    if len(errors) == 1:
        raise errors[0]
    if errors:
        packages = dict.fromkeys(name for error in errors for name in error.packages)
        raise ToolchainError("; ".join(error.what for error in errors), *packages)
    return _objc_toolchain()


def problems() -> list[ToolchainError]:
    """All that keeps this machine from building."""
    errors = []
    for check in (python_headers, _objc_toolchain, _check_cxx):
        try:
            check()
        except ToolchainError as error:
            errors.append(error)
    return errors


def python_headers() -> list[str]:
    """Folders with Python.h of the running interpreter; raises ToolchainError."""
    paths = sysconfig.get_paths()
    folders = list(dict.fromkeys([paths["include"], paths["platinclude"]]))
    if not any(Path(folder, "Python.h").exists() for folder in folders):
        package = "libpython{}.{}-dev".format(*sys.version_info)
        raise ToolchainError(f"no Python.h for {sys.executable}", package)
    return folders


@functools.cache
def _objc_toolchain() -> Toolchain:
    candidate = _apple() if target().is_mac else _gnu()
    extra = shlex.split(os.environ.get("CFLAGS", ""))
    version = _output([*candidate.compiler, "--version"]).splitlines()
    return dataclasses.replace(
        candidate,
        c_flags=candidate.c_flags + extra,
        objc_flags=candidate.objc_flags + extra,
        link_flags=candidate.link_flags + shlex.split(os.environ.get("LDFLAGS", "")),
        identity="\n".join(version[:1] + candidate.compiler),
    )


def _check_cxx() -> None:
    """The shaders' compiler, found by the rule that the shader compiler itself has."""
    if target().is_mac:
        return
    from pipeline.metalc import CompileError
    from pipeline.metalc.toolchain import compiler

    try:
        compiler()
    except CompileError as error:
        if os.environ.get("CXX"):
            raise ToolchainError(str(error)) from None
        raise ToolchainError("no C++ compiler", *CXX_PACKAGES) from None


def _apple() -> Toolchain:
    crossing = sys.platform != "darwin"
    if not crossing and subprocess.run(["xcode-select", "-p"], capture_output=True).returncode:
        raise ToolchainError("no Xcode command line tools: run xcode-select --install")
    compiler = shlex.split(os.environ.get("CC", "clang"))
    # Without CoreGraphics, a program of the command line gets no device from MTLCreateSystemDefaultDevice.
    frameworks = [word for name in ("Foundation", "Metal", "CoreGraphics") for word in ("-framework", name)]
    headers = cross_mac.compile_flags() if crossing else [f"-mmacosx-version-min={cross_mac.OLDEST}"]
    return Toolchain(
        compiler,
        [*COMMON_FLAGS, *headers],
        [*COMMON_FLAGS, *headers, "-fno-objc-arc"],
        [*(cross_mac.SHARED if crossing else ["-bundle", *headers]), "-undefined", "dynamic_lookup"],
        [*frameworks, *(cross_mac.link_flags() if crossing else [])],
    )


def _gnu() -> Toolchain:
    chosen = os.environ.get("CC")
    for name in [chosen] if chosen else _compilers():
        compiler = shlex.split(name)
        if shutil.which(compiler[0]) and _compiles(compiler, GNU_FLAGS):
            return Toolchain(
                compiler, COMMON_FLAGS, [*COMMON_FLAGS, *GNU_FLAGS], ["-shared", "-pthread"], GNU_LIBRARIES
            )
    if chosen:
        raise ToolchainError(
            f"CC={chosen} does not compile Objective-C with GCC's runtime: unset CC, "
            "or install that compiler's Objective-C"
        )
    raise ToolchainError("no Objective-C compiler", *OBJC_PACKAGES)


def _compilers() -> list[str]:
    return ["cc", "gcc", *(f"gcc-{version}" for version in range(20, 9, -1)), "clang"]


def _compiles(compiler: list[str], flags: list[str]) -> bool:
    """Whether the compiler and the linker take a class with an exception."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "probe.m"), Path(folder, "probe.so")
        source.write_text(PROBE)
        command = [*compiler, *flags, "-fPIC", "-shared", str(source), "-lobjc", "-o", str(out)]
        return subprocess.run(command, capture_output=True).returncode == 0


def _output(command: list[str]) -> str:
    try:
        with tempfile.TemporaryDirectory() as folder:  # Zig leaves a file behind where it tells its version
            where = folder if os.path.isabs(command[0]) else None
            return subprocess.run(command, capture_output=True, text=True, cwd=where).stdout
    except OSError:
        return ""


if __name__ == "__main__":
    print(*(name for error in problems() for name in error.packages), sep="\n", end="")
