"""The compilers that build Onebuf's core: finds them, proves that they work, says what to install.

As a script, `python toolchain.py` prints the Debian packages that are missing, one a line (nothing
when the machine can build). Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OBJC_PACKAGES = ("gobjc", "libgnustep-base-dev")
CXX_PACKAGES = ("g++",)

NO_OBJC = "no Objective-C compiler with GNUstep Base: apt-get install " + " ".join(OBJC_PACKAGES)
NO_XCODE = "no Xcode command line tools: run xcode-select --install"

# What Debian's gnustep-config prints, for machines that have the headers without the tool.
GNUSTEP_FLAGS = (
    "-DGNUSTEP -DGNUSTEP_BASE_LIBRARY=1 -DGNU_RUNTIME=1 -D_NATIVE_OBJC_EXCEPTIONS -fexceptions "
    "-fobjc-exceptions -fconstant-string-class=NSConstantString -pthread -isystem/usr/include/GNUstep"
).split()
GNUSTEP_LIBS = ["-lgnustep-base", "-lobjc"]

COMMON_FLAGS = (
    "-std=gnu11 -O2 -g1 -fPIC -fvisibility=hidden -fno-strict-aliasing -Wall -Wextra"
).split()

PROBE = """#import <Foundation/Foundation.h>
@interface Probe : NSObject
@end
@implementation Probe
- (NSString *)text { @try { return @"x"; } @catch (NSException *e) { return [e reason]; } }
@end
"""


class ToolchainError(Exception):
    """The machine cannot build; the message is one line that says what to install."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler and the flags that turn Objective-C and C into one extension module."""

    compiler: list[str]
    c_flags: list[str]
    objc_flags: list[str]
    link_flags: list[str]
    libraries: list[str]
    identity: str = field(default="")  # changes whenever objects must be compiled again

    @property
    def apple(self) -> bool:
        return sys.platform == "darwin"


def find() -> Toolchain:
    """The toolchain of this machine, tested by compiling; raises ToolchainError."""
    candidate = _apple() if sys.platform == "darwin" else _gnustep()
    extra = shlex.split(os.environ.get("CFLAGS", ""))
    version = _output([*candidate.compiler, "--version"]).splitlines()
    return Toolchain(
        candidate.compiler,
        candidate.c_flags + extra,
        candidate.objc_flags + extra,
        candidate.link_flags + shlex.split(os.environ.get("LDFLAGS", "")),
        candidate.libraries,
        identity="\n".join(version[:1] + candidate.compiler),
    )


def check_cxx() -> None:
    """Raises ToolchainError unless the shaders' C++ compiler is there (never needed on macOS)."""
    if sys.platform == "darwin":
        return
    from pipeline.metalc import CompileError
    from pipeline.metalc.toolchain import compiler

    try:
        compiler()
    except CompileError as error:
        raise ToolchainError(str(error)) from None


def python_headers() -> list[str]:
    """Folders with Python.h of the running interpreter; raises ToolchainError."""
    paths = sysconfig.get_paths()
    folders = list(dict.fromkeys([paths["include"], paths["platinclude"]]))
    if not any(Path(folder, "Python.h").exists() for folder in folders):
        raise ToolchainError(
            f"no Python.h for {sys.executable}: apt-get install {header_package()}"
        )
    return folders


def header_package() -> str:
    return f"libpython{sys.version_info.major}.{sys.version_info.minor}-dev"


def missing_packages() -> list[str]:
    """Debian packages without which find() or check_cxx() fails."""
    missing = []
    for check, packages in ((find, OBJC_PACKAGES), (check_cxx, CXX_PACKAGES)):
        try:
            check()
        except ToolchainError:
            missing += packages
    return missing


def _apple() -> Toolchain:
    if subprocess.run(["xcode-select", "-p"], capture_output=True).returncode:
        raise ToolchainError(NO_XCODE)
    compiler = shlex.split(os.environ.get("CC", "clang"))
    frameworks = ["-framework", "Foundation", "-framework", "Metal"]
    return Toolchain(
        compiler,
        COMMON_FLAGS,
        [*COMMON_FLAGS, "-fno-objc-arc"],
        ["-bundle", "-undefined", "dynamic_lookup"],
        frameworks,
    )


def _gnustep() -> Toolchain:
    flags, libraries = _gnustep_flags()
    chosen = os.environ.get("CC")
    for name in [chosen] if chosen else _compilers():
        compiler = shlex.split(name)
        if shutil.which(compiler[0]) and _compiles(compiler, flags, libraries):
            return Toolchain(
                compiler,
                COMMON_FLAGS,
                [*COMMON_FLAGS, *flags],
                ["-shared", "-pthread"],
                [*libraries, "-lpthread", "-ldl", "-lm"],
            )
    if chosen:
        raise ToolchainError(
            f"CC={chosen} does not compile Objective-C with GNUstep Base: unset CC, "
            f"or apt-get install {' '.join(OBJC_PACKAGES)}"
        )
    raise ToolchainError(NO_OBJC)


def _compilers() -> list[str]:
    configured = _output(["gnustep-config", "--variable=CC"]).strip()
    numbered = [f"gcc-{version}" for version in range(20, 9, -1)]
    return list(dict.fromkeys(filter(None, ["cc", "gcc", configured, *numbered, "clang"])))


def _gnustep_flags() -> tuple[list[str], list[str]]:
    """GNUstep's own flags, less those that choose debugging, optimisation and dependency files;
    its headers count as the system's, whose warnings are not ours."""
    flags = [
        flag.replace("-I/", "-isystem/")
        for flag in shlex.split(_output(["gnustep-config", "--objc-flags"]))
        if flag.startswith(("-D", "-f", "-pthread"))
        or (flag.startswith("-I/") and os.path.isdir(flag[2:]))
    ]
    libraries = shlex.split(_output(["gnustep-config", "--base-libs"]))
    libraries = [
        flag
        for flag in libraries
        if flag.startswith("-l") or (flag.startswith("-L/") and os.path.isdir(flag[2:]))
    ]
    return flags or GNUSTEP_FLAGS, libraries or GNUSTEP_LIBS


def _compiles(compiler: list[str], flags: list[str], libraries: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.m")
        source.write_text(PROBE)
        command = [*compiler, *flags, "-fPIC", "-shared", str(source), *libraries]
        command += ["-o", str(Path(folder, "probe.so"))]
        return subprocess.run(command, capture_output=True).returncode == 0


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        return ""


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if platform.system() == "Darwin":
        try:
            find()
        except ToolchainError as error:
            sys.exit(f"onebuf: {error}")
    else:
        print("\n".join(missing_packages()), end="")
