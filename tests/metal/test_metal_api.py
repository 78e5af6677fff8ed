"""The Metal API for machines without Apple's: programs written against it as a user would write
them, run plainly and under sanitizers, and its ways to find and compile libraries."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

if sys.platform == "darwin":
    pytest.skip("macOS has Apple's Metal", allow_module_level=True)

from support import metal_harness as harness

PLAIN = harness.VARIANTS["plain"]
ISA = harness.native_isas()[0]


@pytest.mark.parametrize("program, device", harness.ON_DARWIN.items())
def test_what_a_mac_does_in_place_of_linux_own_calls(program, device, tmp_path):
    check_program("plain", f"{program}-darwin", device, tmp_path)


def test_lines_that_a_macs_program_prints_are_read():
    done = harness.run(PLAIN, "symbols-darwin")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 7, done.stdout


@pytest.mark.parametrize("variant, program, device", harness.runs())
def test_program(variant, program, device, tmp_path):
    check_program(variant, program, device, tmp_path)


def check_program(variant, program, device, tmp_path):
    variant = harness.VARIANTS[variant]
    checked = program.startswith("checker")
    library = harness.build(variant) / ("checked.metallib" if checked else "library.metallib")
    done = harness.run(variant, program, library, tmp_path, device)
    lines = done.stdout.splitlines()
    failures = [line for line in lines if not line.startswith("ok ")]
    assert failures == []
    assert len(lines) > 3, "the program checked nothing"
    assert done.stderr == ""
    assert done.returncode == 0


def opened(*arguments, variant=PLAIN, **environment):
    """The lines that the program `libraries` prints about its arguments."""
    done = harness.run(variant, "libraries", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if not line.startswith("threads ")]


# --- starting up


def test_start_up_prints_nothing_without_time_zones_or_home(tmp_path):
    environment = {"TZDIR": str(tmp_path), "TZ": "Nowhere/City", "HOME": "/nonexistent"}
    environment |= {"LANG": "xx_XX", "LC_ALL": "xx_XX"}
    done = harness.run(PLAIN, "libraries", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("threads ")


@pytest.mark.parametrize("threads", ["1", "2", "17"])
def test_ob_threads_sets_the_number_of_threads(threads):
    assert harness.run(PLAIN, "libraries", OB_THREADS=threads).stdout == f"threads {threads}\n"


def test_threads_default_to_the_cores_of_the_process():
    cores = len(os.sched_getaffinity(0))
    assert harness.run(PLAIN, "libraries").stdout == f"threads {cores}\n"
    assert harness.run(PLAIN, "libraries", OB_THREADS="").stdout == f"threads {cores}\n"


@pytest.mark.parametrize("threads", ["0", "-1", "two", "2x", "1025", "99999999999999999999", " 2"])
def test_impossible_ob_threads_is_named(threads):
    lines = harness.run(PLAIN, "libraries", OB_THREADS=threads).stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("exception OB_THREADS is ")
    assert f"'{threads}'" in lines[0] and "1 to 1024" in lines[0]


# --- opening compiled libraries


def test_the_best_instruction_set_is_opened(tmp_path):
    for isa in harness.native_isas():
        harness.tiny_library(tmp_path / "all.metallib", isa, f"made_for_{isa}")
    [line] = opened(tmp_path / "all.metallib")
    assert line == f"opened made_for_{best_isa()}"


def best_isa():
    if platform.machine() != "x86_64":
        return "generic"
    with open("/proc/cpuinfo") as file:
        flags = next(line for line in file if line.startswith("flags")).split()
    return "avx512" if "avx512vl" in flags else "avx2" if "avx2" in flags else "baseline"


def test_the_next_best_is_opened_when_the_best_is_missing(tmp_path):
    harness.tiny_library(tmp_path / "old.metallib", ISA, "made_for_all")
    assert opened(tmp_path / "old.metallib") == ["opened made_for_all"]


def test_ob_isa_chooses(tmp_path):
    for isa in harness.native_isas():
        harness.tiny_library(tmp_path / "all.metallib", isa, f"made_for_{isa}")
    assert opened(tmp_path / "all.metallib", OB_ISA=ISA) == [f"opened made_for_{ISA}"]


@pytest.mark.parametrize("isa", ["sse9", "generic" if ISA == "baseline" else "avx2"])
def test_impossible_ob_isa_is_named(isa, tmp_path):
    harness.tiny_library(tmp_path / "all.metallib", ISA, "function")
    [line] = opened(tmp_path / "all.metallib", OB_ISA=isa)
    assert line.startswith(f"error MTLLibraryErrorDomain 1 OB_ISA is '{isa}'")
    assert best_isa() in line.partition("choose one of: ")[2].split(", ")


def test_a_library_for_other_processors_is_refused(tmp_path):
    harness.tiny_library(tmp_path / "other.metallib", "vax", "function")
    [line] = opened(tmp_path / "other.metallib")
    assert line.startswith("error MTLLibraryErrorDomain 1 ")
    assert f"{tmp_path}/other.metallib" in line and "compile it again" in line


def test_a_missing_library_is_refused(tmp_path):
    (tmp_path / "file.metallib").write_text("text")
    for name in ["none.metallib", "file.metallib"]:
        [line] = opened(tmp_path / name)
        assert line.startswith(f"error MTLLibraryErrorDomain 6 {tmp_path}/{name}: ")


def test_a_library_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "bad.metallib").mkdir()
    (tmp_path / "bad.metallib" / f"{ISA}.so").write_text("not an object")
    [line] = opened(tmp_path / "bad.metallib")
    assert line.startswith("error MTLLibraryErrorDomain 2 ")
    assert f"{ISA}.so: cannot be loaded" in line


def test_a_library_of_another_version_is_refused(tmp_path):
    harness.tiny_library(tmp_path / "old.metallib", ISA, "function", "-DABI=999")
    [line] = opened(tmp_path / "old.metallib")
    assert line.startswith("error MTLLibraryErrorDomain 1 ") and "compile it again" in line


def test_a_library_with_damaged_tables_is_refused(tmp_path):
    harness.tiny_library(tmp_path / "bad.metallib", ISA, "function", "-DWIDTH=0")
    [line] = opened(tmp_path / "bad.metallib")
    assert line.startswith("error MTLLibraryErrorDomain 2 ") and "damaged" in line


# --- compiling from source

FAKE_COMPILER = """#!{python}
import os, subprocess, sys
if sys.argv[1:] == ["--version"]:
    print("fake compiler {version}")
    sys.exit()
with open({log!r}, "a") as log:
    print(*sys.argv[1:], file=log)
isa, out, source = sys.argv[2], sys.argv[4], sys.argv[5]
text = open(source).read()
if "wrong" in text:
    sys.exit(source + ":1: error: 'wrong' is not declared\\n  wrong\\n  ^")
function = "twice" if "#define TWICE 2" in text else text.split()[-1]
os.mkdir(out)
subprocess.run({command!r} + ['-DFUNCTION="' + function + '"', "-o", out + "/" + isa + ".so"], check=True)
"""


class Compiler:
    """A compiler in place of pipeline.metalc that writes down how it was called."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "log"
        self.cache = folder / "cache" / "deep"
        self.path = folder / "metalc"
        self.write(version=1)

    def write(self, version):
        text = FAKE_COMPILER.format(
            python=sys.executable,
            version=version,
            log=str(self.log),
            command=harness.library_command(harness.SOURCES / "tiny.c"),
        )
        self.path.write_text(text)
        self.path.chmod(0o755)

    def source(self, text, name="shader"):
        path = self.folder / f"{name}.metal"
        path.write_text(text)
        return path

    def compile(self, *arguments, **environment):
        environment = {"OB_METALC": f"  {self.path} ", "OB_CACHE": str(self.cache)} | environment
        return opened(*arguments, **environment)

    def calls(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def compiler(tmp_path):
    return Compiler(tmp_path)


def test_source_is_compiled_once_and_cached(compiler):
    source = compiler.source("kernel void hello")
    assert compiler.compile(source) == ["opened hello"]
    assert compiler.compile(source) == ["opened hello"]
    [call] = compiler.calls()
    assert call.startswith(f"--isa {best_isa()} -o {compiler.cache}/")
    assert call.endswith(".metal")
    assert [path.suffix for path in compiler.cache.iterdir()] == [".metallib"]


def test_the_cache_tells_sources_macros_instruction_sets_and_compilers_apart(compiler):
    first, second = compiler.source("void one", "a"), compiler.source("void two", "b")
    assert compiler.compile(first, second) == ["opened one", "opened two"]
    assert compiler.compile("TWICE=2", first) == ["opened twice"]
    assert compiler.compile(first) == ["opened one"]
    assert len(compiler.calls()) == 3
    if best_isa() != ISA:
        assert compiler.compile(first, OB_ISA=ISA) == ["opened one"]
        assert compiler.calls()[-1].startswith(f"--isa {ISA} ")
    count = len(compiler.calls())
    compiler.write(version=2)
    assert compiler.compile(first) == ["opened one"]
    assert len(compiler.calls()) == count + 1


def test_the_compilers_messages_are_the_error(compiler):
    lines = compiler.compile(compiler.source("wrong"))
    assert lines == ["error MTLLibraryErrorDomain 3 source.metal:1: error: 'wrong' is not declared", "  wrong", "  ^"]
    assert list(compiler.cache.iterdir()) == []


def test_source_after_a_failure_is_compiled(compiler):
    wrong, good = compiler.source("wrong", "wrong"), compiler.source("void good", "good")
    assert compiler.compile(wrong, good)[-1] == "opened good"


def test_a_missing_compiler_is_named(compiler):
    [line] = compiler.compile(compiler.source("void f"), OB_METALC="/nonexistent/metalc -v")
    assert line.startswith("error MTLLibraryErrorDomain 2 ")
    assert "'/nonexistent/metalc -v'" in line and "OB_METALC" in line


def test_a_cache_that_cannot_be_written_is_named(compiler):
    blocked = compiler.folder / "file"
    blocked.write_text("")
    [line] = compiler.compile(compiler.source("void f"), OB_CACHE=str(blocked / "cache"))
    assert line.startswith(f"error MTLLibraryErrorDomain 2 {blocked}/cache: ")
    assert "OB_CACHE" in line


def test_a_command_may_have_blanks_and_quotes(compiler):
    folder = compiler.folder / 'it\'s "a" \\ folder'
    folder.mkdir()
    compiler.path = folder / "met alc"
    compiler.write(version=1)
    source = compiler.source("void f")
    assert compiler.compile(source, OB_METALC=shlex.quote(str(compiler.path))) == ["opened f"]
    escaped = "".join(f"\\{each}" if each in " \\\"'" else each for each in str(compiler.path))
    assert compiler.compile(source, OB_METALC=escaped, OB_CACHE=str(compiler.folder / "other")) == ["opened f"]
    assert len(compiler.calls()) == 2


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o1777, 0o702])
def test_a_cache_that_others_can_write_is_not_used(compiler, mode):
    source = compiler.source("void f")
    assert compiler.compile(source) == ["opened f"]
    assert compiler.cache.stat().st_mode & 0o777 == 0o700
    compiler.cache.chmod(mode)
    [line] = compiler.compile(source)
    assert line.startswith(
        f"error MTLLibraryErrorDomain 2 {compiler.cache}: the cache is not used, because other users"
    )
    compiler.cache.chmod(0o700)
    assert compiler.compile(source) == ["opened f"]


def test_a_cache_that_is_a_link_is_not_used(compiler):
    elsewhere, link = compiler.folder / "elsewhere", compiler.folder / "link"
    elsewhere.mkdir(mode=0o700)
    link.symlink_to(elsewhere)
    [line] = compiler.compile(compiler.source("void f"), OB_CACHE=str(link))
    assert f"{link}: the cache is not used" in line


def test_without_a_home_the_cache_is_asked_for(compiler):
    [line] = compiler.compile(compiler.source("void f"), OB_CACHE="", HOME="", XDG_CACHE_HOME="")
    assert line == "error MTLLibraryErrorDomain 2 there is no folder for compiled shaders; set OB_CACHE to one, or HOME"


def test_the_cache_is_where_the_desktop_keeps_caches(compiler):
    source = compiler.source("void f")
    home, caches = compiler.folder / "home", compiler.folder / "caches"
    environment = {"OB_CACHE": "", "HOME": str(home), "XDG_CACHE_HOME": ""}
    assert compiler.compile(source, **environment) == ["opened f"]
    assert len(list((home / ".cache" / "onebuf").iterdir())) == 1
    environment["XDG_CACHE_HOME"] = str(caches)
    assert compiler.compile(source, **environment) == ["opened f"]
    assert len(list((caches / "onebuf").iterdir())) == 1


def test_processes_that_compile_the_same_at_once_all_succeed(compiler):
    source = compiler.source("void shared")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: compiler.compile(source), range(4)))
    assert results == [["opened shared"]] * 4
    assert [path.suffix for path in compiler.cache.iterdir()] == [".metallib"]


def test_compiling_under_sanitizers(compiler):
    source, wrong = compiler.source("void f", "a"), compiler.source("wrong", "b")
    lines = opened(
        source, wrong, variant=harness.VARIANTS["address"], OB_METALC=str(compiler.path), OB_CACHE=str(compiler.cache)
    )
    assert lines[0] == "opened f" and lines[1].startswith("error MTLLibraryErrorDomain 3 ")


def test_the_projects_own_compiler(tmp_path):
    source = tmp_path / "add.metal"
    source.write_text(
        "#include <metal_stdlib>\nusing namespace metal;\n"
        "kernel void add(device const float *a [[buffer(0)]], device float *b [[buffer(1)]],\n"
        "                uint i [[thread_position_in_grid]]) { b[i] += a[i]; }\n"
    )
    command = f"{sys.executable} -m pipeline.metalc"
    environment = {"OB_METALC": command, "OB_CACHE": str(tmp_path), "OB_ISA": ISA}
    environment["PYTHONPATH"] = str(harness.ROOT)
    assert opened(source, **environment) == ["opened add"]


# --- what links against it


def test_public_headers_compile_alone(tmp_path):
    tools = harness.toolchain.find()
    flags = [*tools.objc_flags, "-Werror", f"-I{harness.ROOT / 'objc'}", "-fsyntax-only"]
    sources = []
    for header in sorted((harness.ROOT / "objc" / "metal" / "api").glob("M*.h")):
        sources.append(tmp_path / f"{header.stem}.m")
        sources[-1].write_text(f'#import "metal/api/{header.name}"\nint one;\n')
    done = subprocess.run([*tools.compiler, *flags, *sources], capture_output=True, text=True)
    assert (len(sources) > 15, done.stderr) == (True, "")


def test_every_global_name_has_a_prefix():
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm")
    harness.build(PLAIN)
    objects = [str(harness.device_object(PLAIN, path)) for path in harness.stand_in()]
    text = subprocess.run([nm, "-g", "--defined-only", *objects], capture_output=True, text=True).stdout
    names = {line.split()[-1] for line in text.splitlines() if " T " in line or " D " in line or " B " in line}
    assert {"MTLCreateSystemDefaultDevice", "MTLCopyAllDevices"} <= names
    assert all(
        name.startswith(
            ("NS", "OBF", "obf_", "MTL", "OBM", "obm_", "CPU", "cpu_", "CUDA", "cuda_", "Checker", "check_", "checker_")
            + ("__objc", "_OBJC")
        )
        for name in names
    )


# Folders of objc/, and what their files may include besides their own folder.
LAYERS = {
    "foundation": set(),
    "metal/abi": set(),
    "metal/api": set(),
    "core": {"metal/api", "metal"},
    "metal/base": {"metal/abi", "metal/api", "core"},
    "metal/cpu/native": {"metal/abi", "weights"},  # of shaders/: tables that both read
    "metal/cpu": {"metal/abi", "metal/api", "metal/base", "metal/cpu/native", "core"},
    "metal/checker/engine": {"metal/abi", "metal/base"},
    "metal/checker": {"metal/abi", "metal/api", "metal/base", "metal/checker/engine", "core"},
    "metal/cuda": {"metal/abi", "metal/api", "metal/base", "core"},
    "metal": {"metal", "metal/base", "metal/cpu", "metal/cuda", "metal/checker"},
}


def test_no_device_is_known_to_the_base_or_to_another():
    root, found = harness.ROOT / "objc", set()
    for path in sorted(root.rglob("*.[hmc]*")):
        folder = path.parent.relative_to(root).as_posix()
        for name in re.findall(r'^# *(?:include|import) "([^"]+/[^"]+)"', path.read_text(), re.MULTILINE):
            below = name.rpartition("/")[0]
            found.add(folder)
            assert below in LAYERS[folder], f"{path.relative_to(root)} includes {name}"
            if folder != "core" and below == "core":
                assert name == "core/OBExtensions.h", f"{path.relative_to(root)} includes {name}"
            if folder == "core" and below == "metal":
                assert name == "metal/devices.h", f"{path.relative_to(root)} includes {name}"
    assert found == set(LAYERS) - {"foundation", "metal/abi", "metal/api"}
