"""A Mac's wheel, made here: Zig compiles and links the core, Cython's code and the devices cpu and checker against
headers and lists of symbols of our own, in the folder sdk. Nothing of it can be run; its files are looked at."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from support import macho
from support.locks import alone_in
from support.paths import ROOT

pytestmark = [
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs the source tree"),
    pytest.mark.skipif(sys.platform == "darwin", reason="a Mac compiles for itself"),
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs ziglang"),
]

TAG, SDK = "macosx_14_0_arm64", ROOT / "tests" / "macos" / "sdk"
FRAMEWORKS = ["CoreGraphics", "Foundation", "Metal"]


def run(*command, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OB_")}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, env=clean | environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel without compiled shaders, which one test compiles a few of. Its code is not optimised, which takes a
    third of the compiler's time: what is looked at stays the same."""
    folder = tmp_path_factory.mktemp("wheel")
    environment = {"SDKROOT": str(SDK), "OB_ISAS": "none", "CFLAGS": "-O0"}
    with alone_in(ROOT / "build" / "tests" / "macos"):
        made = run("tools/builder.py", "wheel", "--target", TAG, "--into", folder, **environment)
    assert made.returncode == 0, made.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("core")
    with zipfile.ZipFile(wheel) as archive:
        return macho.read(archive.extract("pipeline/_core.abi3.so", folder))


def test_the_core_is_a_library_for_the_oldest_system_that_has_bfloat(core):
    assert (core.processor, core.kind) == (macho.ARM64, macho.DYLIB)
    assert core.minimum == (14, 0)
    assert core.signed, "processors of Macs run no code that is not signed, be it by nobody"
    assert {name for name in core.exported if not name.startswith("__")} == {"_PyInit__core"}


def test_it_loads_the_frameworks_that_it_needs_and_no_other_library(core):
    assert sorted(core.names) == [*FRAMEWORKS, "libSystem.B.dylib", "libobjc.A.dylib"]
    assert all(library.startswith(("/System/Library/Frameworks/", "/usr/lib/")) for library in core.libraries)


def test_what_it_lacks_is_pythons_or_a_frameworks(core):
    any_image = [name for name, library in core.undefined.items() if library == macho.ANY_IMAGE]
    assert "_PyModuleDef_Init" in any_image
    assert [name for name in any_image if not name.startswith(("_Py", "__Py"))] == []
    metal = {name for name, library in core.undefined.items() if library.endswith("/Metal")}
    assert {"_MTLCreateSystemDefaultDevice", "_MTLCopyAllDevices", "_OBJC_CLASS_$_MTLCompileOptions"} <= metal


def test_no_class_has_the_name_of_one_of_apples(core, wheel):
    """Two classes of one name in a process are a warning, and either may be taken."""
    defined = [path.stem for path in (ROOT / "build" / "native-darwin-arm64").glob("*.m.o")]
    assert len(defined) > 40 and not any("-MTL" in name or "cuda" in name for name in defined)
    classes = set()
    for path in (ROOT / "build" / "native-darwin-arm64").glob("*.m.o"):
        classes |= {name for name in macho.read(path).defined if name.startswith("_OBJC_CLASS_$_")}
    assert len(classes) > 40
    assert [name for name in classes if not name.startswith(tuple(f"_OBJC_CLASS_$_{own}" for own in OWN))] == []


OWN = ("OB", "CPU", "Checker")


def test_the_wheels_name_and_contents(wheel):
    assert wheel.name.endswith(f"-cp311-abi3-{TAG}.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (tags,) = [archive.read(name).decode() for name in names if name.endswith(".dist-info/WHEEL")]
    assert f"Tag: cp311-abi3-{TAG}\n" in tags and "Root-Is-Purelib: false" in tags
    assert "pipeline/shaders/linear.metal" in names and "pipeline/include/metallib.h" in names
    assert [name for name in names if name.endswith(".so")] == ["pipeline/_core.abi3.so"]
    assert wheel.stat().st_size < 25_000_000


def test_tools_that_others_wrote_read_it_alike(wheel, core, tmp_path):
    macholib = pytest.importorskip("macholib.MachO")
    with zipfile.ZipFile(wheel) as archive:
        path = archive.extract("pipeline/_core.abi3.so", tmp_path)
    (header,) = macholib.MachO(path).headers
    assert sorted(name for _, _, name in header.walkRelocatables()) == sorted(core.libraries)


# Clang lets nothing but a loop stand behind these, and the checker puts a scope around each loop.
WISHES = """#include <metal_stdlib>
using namespace metal;
#define TURNS _Pragma("clang loop vectorize(disable)") for (uint k = 0; k < 4; k++)
kernel void wishes(device float *x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
#pragma unroll
    for (uint k = 0; k < 4; k++) x[4 * i + k] += 1.0f;
    #pragma clang loop unroll_count(2)
    for (uint k = 0; k < 4; k++) x[4 * i + k] += 1.0f;
    TURNS x[4 * i + k] += 1.0f;
}
"""


def test_shaders_become_libraries_for_both_devices(tmp_path):
    (tmp_path / "wishes.metal").write_text(WISHES)
    files = ["tests/msl/shaders/basic.metal", str(tmp_path / "wishes.metal")]
    script = (
        "import sys; sys.path[:0] = ['tools', '.']; import cross_mac; from pipeline import metalc;"
        f"cross_mac.choose({TAG!r}); metalc.build({files!r}, {str(tmp_path / 'x')!r},"
        f"build_dir={str(ROOT / 'build/tests/macos/shaders')!r})"
    )
    with alone_in(ROOT / "build" / "tests" / "macos"):
        made = run("-c", script, SDKROOT=str(SDK))
    assert made.returncode == 0, made.stderr
    made = sorted((tmp_path / "x").glob("*.so"))
    assert [path.name for path in made] == ["checker.so", "generic.so"]
    for path in made:
        library = macho.read(path)
        assert (library.processor, library.kind, library.minimum) == (macho.ARM64, macho.DYLIB, (14, 0))
        assert library.names == ["libSystem.B.dylib"] and library.signed
        assert "_ob_metallib" in library.exported
        assert macho.ANY_IMAGE not in library.undefined.values()
    collected = tmp_path / "x" / "checker.so.dwarf"  # which line the checker's code is of
    assert collected.exists() == bool(shutil.which("dsymutil"))
    assert not collected.exists() or macho.read(collected).kind == macho.COLLECTED


@pytest.mark.parametrize(
    "arguments, environment, said",
    [
        (
            ["wheel", "--target", "macosx_11_0_arm64"],
            {},
            "no wheel is made for 'macosx_11_0_arm64' here; choose one of",
        ),
        (
            ["wheel", "--target", TAG],
            {"SDKROOT": "/nonexistent"},
            "name its folder, which has System/Library, in SDKROOT",
        ),
        (["test", "--target", TAG], {}, "--target is of a wheel, not of test"),
    ],
)
def test_what_is_missing_is_one_line(arguments, environment, said):
    made = run("tools/builder.py", *arguments, **environment)
    assert made.returncode and said in made.stderr.splitlines()[-1]
    assert "Traceback" not in made.stderr
