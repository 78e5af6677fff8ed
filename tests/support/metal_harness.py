"""Builds the Metal API of objc/metal, its test programs and its test libraries, in three variants:
plain, with the address and undefined-behaviour sanitizers, and with the thread sanitizer.

The plain objects of objc/metal are those that the package is built from. The others stay in build/tests and are made
again only when their inputs changed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "metal"
NATIVE = Path("build", "native")  # of the package, as the builder names it
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import builder  # noqa: E402  (found through the line above)
import core  # noqa: E402
import objects  # noqa: E402
import toolchain  # noqa: E402

from support.locks import alone_in  # noqa: E402

# Programs, each with the devices that it runs on. A new device is one more name in DEVICES.
DEVICES = ("cpu", "checker", "cuda:0")
PROGRAMS = dict.fromkeys(
    (
        "argument_buffers",
        "order",
        "dispatch",
        "buffers",
        "commands",
        "indirect",
        "indirect_misuse",
        "events",
        "misuse",
        "reflection",
        "kept",
        "fork",
    ),
    DEVICES,
) | {"costs": ("cpu",), "checker": ("checker",)}
# The thread sanitizer takes a second to start: it gets what several threads work at.
CONCURRENT = ("order", "dispatch", "buffers", "commands", "indirect", "events", "fork")
# What macOS does in place of futexes, files of memory and pages that fork clears runs here, too, in NAME-darwin.
ON_DARWIN = {"order": "cpu", "events": "cpu", "fork": "cpu", "buffers": "checker", "checker": "checker"}
SYMBOLS = ("symbols", "checker/CheckerSymbolsDarwin.m")
KERNELS = 13  # of library.c
TIMEOUT = 120  # seconds; a program takes less than one unless it hangs


@dataclass(frozen=True, eq=False)  # each is its own
class Variant:
    name: str
    flags: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("plain", ("-O2",)),
        Variant(
            "address",
            ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
            {
                "ASAN_OPTIONS": "detect_leaks=1:fast_unwind_on_malloc=0",
                "LSAN_OPTIONS": f"suppressions={SOURCES}/lsan.supp:print_suppressions=0",
            },
        ),
        Variant(
            "thread",
            ("-O1", "-fsanitize=thread"),
            {"TSAN_OPTIONS": f"suppressions={SOURCES}/tsan.supp:die_after_fork=0"},
        ),
    )
}


def native_isas() -> list[str]:
    """The instruction set that every machine of this kind has, first."""
    return ["baseline", "avx2", "avx512"] if platform.machine() == "x86_64" else ["generic"]


def stand_in() -> list[Path]:
    """The sources of the Metal API, and of the part of Foundation that they need."""
    found = core.objc_sources("linux", ROOT / "objc")
    return [path for path in found if path.relative_to(ROOT / "objc").parts[0] in ("foundation", "metal")]


def runs() -> list[tuple[str, str, str]]:
    """Each program on each of its devices plainly and under each sanitizer that has something to say of it."""
    return [
        (variant, program, device)
        for variant in VARIANTS
        for program, devices in PROGRAMS.items()
        for device in devices
        # The thread sanitizer does not follow the fibers of the checker.
        if variant != "thread" or (program in CONCURRENT and device != "checker")
    ]


@functools.cache
def build(variant: Variant) -> Path:
    """Compiles everything; returns the folder with the programs, library.metallib and checked.metallib."""
    with alone_in(ROOT / "build" / "tests" / "metal" / variant.name):
        return _build(variant)


def linked(name: str, variant: Variant, sources: list[Path], own: Callable[[Path], bool]) -> Path:
    """A test program of `sources`, linked with those objects of `build` whose sources `own` chooses."""
    build(variant)
    folder = ROOT / "build" / "tests" / name / variant.name
    with alone_in(folder):
        tools = toolchain.find()
        shop = objects.Workshop(ROOT, folder, tools.identity)
        flags = [*variant.flags, "-Werror", "-Iobjc", "-Ishaders"]
        kinds = {".m": [*tools.objc_flags, *flags], ".c": [*tools.c_flags, *flags]}
        made = [device_object(variant, source, otherwise=folder) for source in sources]
        jobs = [
            functools.partial(_compile, shop, tools, source, out, kinds[source.suffix])
            for source, out in zip(sources, made)
            if out.parent == folder
        ]
        objects.parallel(jobs)
        inputs = [*made, *(device_object(variant, path) for path in filter(own, stand_in()))]
        link = [*tools.compiler, *variant.flags, "-pthread", *map(str, inputs), "-o", str(folder / name)]
        shop.make(folder / name, [*link, *tools.libraries], inputs)
    return folder / name


def _build(variant: Variant) -> Path:
    tools = toolchain.find()
    folder = Path("build", "tests", "metal", variant.name)
    shop = objects.Workshop(ROOT, ROOT / folder, tools.identity)
    own = [*variant.flags, "-Werror", "-Iobjc"]
    flags = {".m": [*tools.objc_flags, *own], ".c": [*tools.c_flags, *own]}
    device, jobs = [device_object(variant, source) for source in stand_in()], []
    if variant.name == "plain":
        jobs.append(_compile_for_the_package)
    else:
        for source, out in zip(stand_in(), device):
            jobs.append(functools.partial(_compile, shop, tools, source, out, flags[source.suffix]))
    programs = [*PROGRAMS, "libraries", "gpu"]
    for name in programs:
        out = ROOT / folder / f"test_{name}.o"
        jobs.append(functools.partial(_compile, shop, tools, SOURCES / f"{name}.m", out, flags[".m"]))
    objects.parallel(jobs)
    link = [*tools.compiler, *variant.flags, "-pthread"]
    links = []
    for name in programs:
        inputs = [ROOT / folder / f"test_{name}.o", *device]
        out = ROOT / folder / name
        command = [*link, *map(str, inputs), "-o", str(out), *tools.libraries]
        links.append(functools.partial(shop.make, out, command, inputs))
    if variant.name == "plain":
        links += _darwin_programs(shop, tools, folder, device, flags, link)
    objects.parallel(links)
    bundle = ROOT / folder / "library.metallib"
    bundle.mkdir(exist_ok=True)
    isa = native_isas()[0]
    for name, flags in ((isa, ()), ("checker", ("-DONE_THREAD",))):
        library(shop, SOURCES / "library.c", bundle / f"{name}.so", f'-DISA="{name}"', *flags, *variant.flags)
    _cuda_library(shop, bundle, variant)
    bundle = ROOT / folder / "checked.metallib"
    bundle.mkdir(exist_ok=True)
    library(shop, SOURCES / "checked.c", bundle / "checker.so", *variant.flags)
    return ROOT / folder


def device_object(variant: Variant, source: Path, otherwise: Path | None = None) -> Path:
    """Where the object of a source is: in the plain variant the package's, where it has one; else in the variant's
    folder or in `otherwise`."""
    if variant.name == "plain" and source.is_relative_to(ROOT / "objc"):
        return ROOT / NATIVE / f"{'-'.join(source.relative_to(ROOT).parts)}.o"
    return (otherwise or ROOT / "build" / "tests" / "metal" / variant.name) / f"{source.stem}.o"


def _compile_for_the_package() -> None:
    """Compiles what changed since the package was built."""
    with contextlib.chdir(ROOT), builder.only_build():
        pool = objects.Pool()
        try:
            for job in core.Core(ROOT, NATIVE, pool, 0, lambda source: None, print).compile_objc():
                job.result()
        finally:
            pool.close(cancel=True)


def _darwin_programs(shop, tools, folder: Path, device: list[Path], flags: dict[str, list[str]], link: list[str]):
    """How to link programs in which files for a Mac take the place of those for Linux."""
    links = []
    for name, own in [*dict.fromkeys(ON_DARWIN, "base/OBMHostDarwin.c").items(), SYMBOLS]:
        source, test = ROOT / "objc" / "metal" / own, ROOT / folder / f"test_{name}.o"
        made = ROOT / folder / f"{source.stem}.o"
        _compile(shop, tools, source, made, flags[source.suffix])
        _compile(shop, tools, SOURCES / f"{name}.m", test, flags[".m"])
        replaced = source.stem.replace("Darwin", "Linux")
        others = [path for each, path in zip(stand_in(), device) if each.stem != replaced]
        inputs, out = [test, *others, made], ROOT / folder / f"{name}-darwin"
        command = [*link, *map(str, inputs), "-o", str(out), *tools.libraries]
        links.append(functools.partial(shop.make, out, command, inputs))
    return links


def _cuda_library(shop, bundle: Path, variant: Variant) -> None:
    """The library as the GPU's device takes it, and the driver that runs it here: its machine code is a path."""
    library(shop, SOURCES / "library.c", bundle / "cuda.so", '-DISA="cuda"', "-DCUDA", *variant.flags)
    library(shop, SOURCES / "fake_cuda.c", fake_driver(variant), "-pthread", *variant.flags)
    if variant.name == "plain":
        library(shop, SOURCES / "count_cuda.c", counting_driver(), "-O2", "-pthread")
        library(shop, SOURCES / "fake_nvrtc.c", fake_compiler(), "-O2")
    folder = bundle / "cuda" / "sm_90a"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(KERNELS):
        (folder / f"library-{number}.cubin").write_text(f"{bundle / 'cuda.so'}\n")


def fake_driver(variant: Variant) -> Path:
    """NVIDIA's driver as the host plays it; tests/metal/fake_cuda.c says how."""
    return ROOT / "build" / "tests" / "metal" / variant.name / "fake_cuda.so"


def counting_driver() -> Path:
    """A driver that passes every call on and counts it; tests/metal/count_cuda.c says how."""
    return fake_driver(VARIANTS["plain"]).with_name("count_cuda.so")


def fake_compiler() -> Path:
    """NVRTC as that driver takes its results; tests/metal/fake_nvrtc.c says how."""
    return fake_driver(VARIANTS["plain"]).with_name("fake_nvrtc.so")


def library(shop, source: Path, out: Path, *flags: str) -> None:
    inputs = [source, *(ROOT / "objc" / "metal" / "abi").glob("*.h")]
    shop.make(out, library_command(source, *flags, "-o", str(out)), inputs)


def _compile(shop, tools, source: Path, out: Path, flags: list[str]) -> None:
    depfile = out.with_suffix(".d")
    command = [*tools.compiler, *flags, "-MMD", "-MF", str(depfile), "-c", str(source)]
    shop.make(out, [*command, "-o", str(out)], [source], depfile)


def library_command(source: Path, *flags: str) -> list[str]:
    """The command that compiles a library written in C; the flags say where it goes."""
    return [
        *toolchain.find().compiler,
        *("-std=gnu11", "-O1", "-g1", "-fPIC", "-shared", "-Wall", "-Wextra"),
        f"-I{ROOT / 'objc'}",
        str(source),
        *flags,
    ]


def tiny_library(bundle: Path, isa: str, function: str, *flags: str) -> None:
    """Puts a library of one function into a bundle."""
    bundle.mkdir(parents=True, exist_ok=True)
    out = bundle / f"{isa}.so"
    define = f'-DFUNCTION="{function}"'
    command = library_command(SOURCES / "tiny.c", define, *flags, "-o", str(out))
    subprocess.run(command, check=True)


def run(variant: Variant, name: str, *arguments: object, **environment: str):
    """Runs a program; returns the finished process with its text output."""
    command = [str(build(variant) / name), *map(str, arguments)]
    if variant.name == "thread" and (setarch := shutil.which("setarch")):
        # The thread sanitizer has fixed places for its memory, which randomisation may take.
        command = [setarch, "--addr-no-randomize", *command]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OB_")}
    gpu = any(str(argument).startswith("cuda") for argument in arguments)
    clean["OB_CUDA_DRIVER"] = str(fake_driver(variant) if gpu else "/nonexistent")
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT,
        env={**clean, **variant.environment, **environment},
    )
