"""What makes a Mac's wheel on another system: Zig's clang and linker, and the SDK of macOS that SDKROOT names.

    SDKROOT=FOLDER python tools/builder.py wheel --target macosx_14_0_arm64

FOLDER has usr/include, usr/lib and System/Library/Frameworks, as Apple's SDK has them; the headers and the lists of
symbols (.tbd) of Foundation, Metal, CoreGraphics and the Objective-C runtime are enough. Zig brings the C library's.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from pathlib import Path

from pipeline.metalc import CompileError, target

OLDEST = "14.0"  # its Metal has bfloat
# Zig's linker makes no bundles. Python loads a library as well, whose own name then says no folder of this machine.
SHARED = ["-shared", "-Wl,-install_name,@rpath/_core.abi3.so"]
TAGS = ("macosx_14_0_arm64", "macosx_14_0_x86_64")


def zig() -> str:
    """The path of Zig. Raises CompileError."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise CompileError("a wheel for macOS needs Zig here: pip install ziglang")
    return str(Path(found.origin).with_name("zig"))


def sdk() -> Path:
    """The SDK's folder. Raises CompileError."""
    folder = Path(os.environ.get("SDKROOT", ""))
    if "SDKROOT" not in os.environ or not (folder / "System/Library/Frameworks/Metal.framework").is_dir():
        raise CompileError(
            "a wheel for macOS needs the SDK of macOS: name its folder, which has System/Library, in SDKROOT"
        )
    return folder.resolve()


def choose(tag: str) -> None:
    """Makes this process compile for the machines of a wheel's tag. Raises CompileError."""
    if tag not in TAGS:
        raise CompileError(f"no wheel is made for {tag!r} here; choose one of: {', '.join(TAGS)}")
    machine = re.sub("^macosx_[0-9]+_[0-9]+_", "", tag)
    sdk()
    triple = f"{'aarch64' if machine == 'arm64' else machine}-macos.{OLDEST}"
    os.environ["CC"] = shlex.join([zig(), "cc", "-target", triple])
    os.environ["CXX"] = shlex.join([zig(), "c++", "-target", triple])
    target.choose(target.Target(target.DARWIN, machine))


def compile_flags() -> list[str]:
    """Where the headers are."""
    folder = sdk()
    return ["-isystem", str(folder / "usr/include"), "-iframework", str(folder / "System/Library/Frameworks")]


def link_inputs() -> list[Path]:
    """The lists of symbols that the core is linked against."""
    names = (f"{name}.framework/{name}.tbd" for name in ("Foundation", "Metal", "CoreGraphics"))
    found = [sdk() / "usr/lib/libobjc.tbd", *(sdk() / "System/Library/Frameworks" / name for name in names)]
    return [path for path in found if path.exists()]


def link_flags() -> list[str]:
    """Where the frameworks are."""
    folder = sdk()
    return [f"-F{folder / 'System/Library/Frameworks'}", f"-L{folder / 'usr/lib'}", "-lobjc"]
