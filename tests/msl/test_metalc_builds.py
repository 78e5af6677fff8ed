"""The shader compiler: its messages, incremental builds, bundles and command line."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.metallib import HEADER, Library, compile_text, is_gcc
from support.paths import ROOT

from pipeline import _core, metalc
from pipeline.metalc import toolchain
from pipeline.metalc.preprocess import Preprocessor
from pipeline.metalc.toolchain import runnable_isas

SHADERS = Path(__file__).parent / "shaders"


# -- messages --------------------------------------------------------------------------------------

A = "device float *a [[buffer(0)]]"
MISTAKES = {
    "no attribute": (f"kernel void f({A}, uint i) {{}}", "'i' of kernel 'f' has no attribute"),
    "clash": (
        f"kernel void f({A}, device int *b [[buffer(0)]]) {{}}",
        "[[buffer(0)]] of kernel 'f' is taken by both 'a' and 'b'",
    ),
    "index": ("kernel void f(device float *a [[buffer(31)]]) {}", "index 31 of [[buffer(31)]] is outside 0 to 30"),
    "negative index": (
        "kernel void f(device float *a [[buffer(-1)]]) {}",
        "index -1 of [[buffer(-1)]] is outside 0 to 30",
    ),
    "index not constant": ("kernel void f(device float *a [[buffer(N)]]) {}", "must be an integer constant"),
    "no argument": ("kernel void f(device float *a [[buffer]]) {}", "must be an integer constant"),
    "unknown attribute": (
        f"kernel void f({A}, uint i [[thread_position]]) {{}}",
        "'i' of kernel 'f' has the unknown attribute [[thread_position]]",
    ),
    "unknown kernel attribute": ("kernel [[fast]] void f() {}", "unknown attribute [[fast]] on kernel 'f'"),
    "two attributes": (
        "kernel void f(uint i [[thread_position_in_grid, thread_index_in_threadgroup]]) {}",
        "has both [[thread_position_in_grid]] and [[thread_index_in_threadgroup]]",
    ),
    "pointer to position": (
        "kernel void f(device uint *i [[thread_position_in_grid]]) {}",
        "takes a value, not a pointer",
    ),
    "buffer by value": ("kernel void f(float a [[buffer(0)]]) {}", "[[buffer(n)]] takes a pointer or reference"),
    "returns": (f"kernel int f({A}) {{ return 1; }}", "kernel 'f' returns int; a kernel must return void"),
    "duplicate": (
        f"kernel void f({A}) {{}}\nkernel void f(device int *b [[buffer(1)]]) {{}}",
        "kernel 'f' is already defined at",
    ),
    "texture": ("kernel void f(texture2d<float> t [[texture(0)]]) {}", "textures are not supported; pass a buffer"),
    "sampler": ("kernel void f(sampler s [[sampler(0)]]) {}", "samplers are not supported"),
    "no host name": (
        "template <typename T> kernel void f(device T *a [[buffer(0)]]) {}\n"
        "template kernel void f<int>(device int *a [[buffer(0)]]);",
        "instantiation of 'f' has no name for the host",
    ),
    "no template": (
        'template [[host_name("x")]] kernel void f<int>(device int *a [[buffer(0)]]);',
        "no kernel template 'f' precedes this instantiation",
    ),
    "C++": (f"kernel void f({A}) {{\n  a[0] = nonsense;\n}}", "nonsense"),
    "C++ in the library": (f"kernel void f({A}) {{\n  a[0] = dot(float3(1), float2(2));\n}}", ""),
    "no such header": ('#include "missing.h"\nkernel void f() {}', "missing.h"),
    "nothing": ("float f(float x) { return x; }", "no kernel found"),
}
LINES = {"C++": 4, "C++ in the library": 4, "duplicate": 4, "no host name": 4, "nothing": 1}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_give_one_line_with_the_place(tmp_path, name):
    text, message = MISTAKES[name]
    with pytest.raises(metalc.CompileError) as caught:
        compile_text(tmp_path, text)
    first = str(caught.value).splitlines()[0]
    assert message in first
    assert first.startswith(f"{tmp_path}/shader.metal:{LINES.get(name, 3)}: "), first


def test_one_kernel_name_in_two_files(tmp_path):
    text = "kernel void f(device float *a [[buffer(0)]]) {}"
    with pytest.raises(metalc.CompileError, match=r"b\.metal:3: kernel 'f' is already defined at .*a\.metal:3"):
        compile_text(tmp_path, {"a.metal": text, "b.metal": text})
    assert not (tmp_path / "out.metallib").exists()


def test_missing_file_empty_list_and_unknown_isa(tmp_path):
    with pytest.raises(metalc.CompileError, match=r"absent\.metal: no such file"):
        metalc.build([tmp_path / "absent.metal"], tmp_path / "out")
    with pytest.raises(metalc.CompileError, match=r"no \.metal files given"):
        metalc.build([], tmp_path / "out")
    with pytest.raises(metalc.CompileError, match="unknown instruction set 'mmx'; this machine has"):
        metalc.build([SHADERS / "basic.metal"], tmp_path / "out", ["mmx"])


def test_out_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(metalc.CompileError, match="out: is a file; a library is a folder"):
        metalc.build([SHADERS / "basic.metal"], tmp_path / "out", runnable_isas()[:1], build_dir=tmp_path / "objects")


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "bad.metal").write_bytes(b'kernel void f() {}\nconst char *s = "\xff";\n')
    with pytest.raises(metalc.CompileError, match=r"bad\.metal:2: .*not UTF-8"):
        metalc.build([tmp_path / "bad.metal"], tmp_path / "out", build_dir=tmp_path / "objects")


@pytest.mark.parametrize("cxx", ["/nonexistent", "/nonexistent -m64", "'"])
def test_missing_compiler(monkeypatch, tmp_path, cxx):
    monkeypatch.setenv("CXX", cxx)
    with pytest.raises(metalc.CompileError) as caught:
        metalc.build([SHADERS / "basic.metal"], tmp_path / "out")
    assert str(caught.value).splitlines() == [
        f"metalc: C++ compiler not found: CXX={cxx}; unset CXX or install g++ (apt-get install g++)"
    ]


def test_no_compiler_on_the_path(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(metalc.CompileError, match=r"no C\+\+ compiler found; install one"):
        metalc.build([SHADERS / "basic.metal"], tmp_path / "out")


# -- bundles and builds ----------------------------------------------------------------------------


def stamps(folder):
    return {path.name: path.stat().st_ino for path in Path(folder).iterdir() if path.is_file()}


def test_other_flags_are_compiled_again(tmp_path):
    (tmp_path / "a.metal").write_text(HEADER + "kernel void f(device int *a [[buffer(0)]]) { a[0] = 7; }")
    build_dir, isas = tmp_path / "objects", runnable_isas()
    for isa, optimize in [(isas[0], "0"), (isas[0], "1"), (isas[-1], "1")]:
        metalc.build([tmp_path / "a.metal"], tmp_path / "x.metallib", [isa], build_dir=build_dir, optimize=optimize)
    assert len(list(build_dir.glob("*.o"))) == (3 if len(isas) > 1 else 2)


def test_unchanged_inputs_are_not_compiled_again(tmp_path):
    (tmp_path / "value.h").write_text("#define VALUE 1\n")
    text = HEADER + '#include "value.h"\nkernel void f(device int *a [[buffer(0)]]) { a[0] = VALUE; }'
    (tmp_path / "a.metal").write_text(text)
    (tmp_path / "b.metal").write_text(HEADER + "kernel void g(device int *a [[buffer(0)]]) { a[0] = 7; }")
    build_dir, isa = tmp_path / "objects", runnable_isas()[0]

    def build():
        files = [tmp_path / "a.metal", tmp_path / "b.metal"]
        out = metalc.build(files, tmp_path / "x.metallib", [isa], build_dir=build_dir, optimize="0")
        return stamps(build_dir), stamps(out)

    first = build()
    assert len(first[0]) == 3 and len(first[1]) == 1, "two objects and one library"
    assert build() == first
    (tmp_path / "value.h").write_text("#define VALUE 1  // only a comment\n")
    assert build() == first
    (tmp_path / "value.h").write_text("#define VALUE 2\n")
    second = build()
    assert len(second[0]) == 5 and second[1] != first[1], "one object and the library are new"
    (tmp_path / "copy.metallib").mkdir()
    (tmp_path / "copy.metallib" / f"{isa}.so").write_bytes((tmp_path / "x.metallib" / f"{isa}.so").read_bytes())
    out = np.zeros(1, np.int32)
    Library(tmp_path / "copy.metallib", isa).run("f", [out])
    assert out[0] == 2


def test_the_clock_does_not_change_what_is_compared(tmp_path, monkeypatch):
    """Empty headers that stand for the library's are written one after another, maybe in two seconds."""
    shader = tmp_path / "a.metal"
    shader.write_text("#include <metal_stdlib>\n#include <simd/simd.h>\nkernel void f(device int *a) {}\n")

    def text():
        with Preprocessor() as preprocessor:
            return preprocessor.run(shader)

    plain, writes = Path.write_text, []

    def write_text(path, content, **options):
        plain(path, content, **options)
        writes.append(path)
        os.utime(path, (len(writes), len(writes)))

    usual = text()
    monkeypatch.setattr(Path, "write_text", write_text)
    assert text() == usual and len(writes) > 10


def test_options_are_part_of_what_is_compared(tmp_path):
    (tmp_path / "a.metal").write_text(HEADER + "kernel void f(device int *a [[buffer(0)]]) { a[0] = X; }")
    isa, values = runnable_isas()[0], []
    for value in (3, 4):
        out = tmp_path / f"{value}.metallib"
        metalc.build(
            tmp_path / "a.metal", out, [isa], build_dir=tmp_path / "objects", optimize="0", defines=[f"X={value}"]
        )
        result = np.zeros(1, np.int32)
        Library(out, isa).run("f", [result])
        values.append(result[0])
    assert values == [3, 4]


def test_a_bundle_holds_exactly_the_requested_instruction_sets(tmp_path):
    out = tmp_path / "x.metallib"
    every = metalc.default_isas()
    metalc.build([SHADERS / "basic.metal"], out, build_dir=tmp_path / "objects", optimize="0")
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{isa}.so" for isa in every)
    metalc.build([SHADERS / "basic.metal"], out, every[:1], build_dir=tmp_path / "objects", optimize="0")
    assert [path.name for path in out.iterdir()] == [f"{every[0]}.so"]


def test_a_failed_build_leaves_the_old_library(tmp_path):
    library = compile_text(tmp_path, "kernel void f(device int *a [[buffer(0)]]) { a[0] = 1; }")
    before = stamps(tmp_path / "out.metallib")
    with pytest.raises(metalc.CompileError):
        compile_text(tmp_path, "kernel void f(device int *a [[buffer(0)]]) { a[0] = ; }")
    assert stamps(tmp_path / "out.metallib") == before and "f" in library.functions
    assert not [path for path in (tmp_path / "objects").iterdir() if path.name.startswith(".") or path.is_dir()]


def test_only_the_table_is_exported(tmp_path):
    isa = runnable_isas()[0]
    out = metalc.build(
        SHADERS / "basic.metal", tmp_path / "x.metallib", [isa], optimize="0", build_dir=tmp_path / "objects"
    )
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", out / f"{isa}.so"], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["ob_metallib"]


def run_command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.metalc", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_command_line(tmp_path):
    isa = runnable_isas()[0]
    shader = SHADERS / "basic.metal"
    result = run_command("--isa", isa, "-O", 0, "-j", 1, "-o", tmp_path / "x.metallib", shader, OB_CACHE=str(tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert Library(tmp_path / "x.metallib", isa).functions
    assert list((tmp_path / "objects").glob("*.so")), "objects go to the cache by default"


def test_command_line_mistakes_are_one_line_without_traceback(tmp_path):
    result = run_command("-o", tmp_path / "x.metallib", tmp_path / "absent.metal")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "absent.metal: no such file" in result.stderr
    result = run_command("-o", tmp_path / "x.metallib", SHADERS / "basic.metal", CXX="/nonexistent")
    assert result.returncode == 2 and result.stderr.startswith("metalc: C++ compiler not found")


def test_version_names_the_compiler():
    result = run_command("--version")
    assert result.returncode == 0
    assert re.fullmatch(r"metalc \d+ [0-9a-f]{24}, .*\d+\.\d+.*\n", result.stdout)


OUT_OF_BOUNDS = (
    HEADER
    + """kernel void f(device int *a [[buffer(0)]]) {
    threadgroup int s[4];
    for (int i = 0; i < 4; ++i) s[i] = i;
    a[0] = s[a[0]];
}
"""
)
RUN = "import sys, numpy; sys.path[:0] = sys.argv[3:]; from support import metallib\n"
RUN += "metallib.Library(*sys.argv[1:3]).run('f', [numpy.full(4, 4, numpy.int32)])"


@pytest.mark.parametrize("sanitizer, finding", [("address", "stack-buffer-overflow"), ("undefined", "out of bounds")])
def test_sanitizers_name_the_line_of_the_shader(tmp_path, sanitizer, finding):
    if not is_gcc():
        pytest.skip("loads GCC's runtime")
    name = {"address": "libasan.so", "undefined": "libubsan.so"}[sanitizer]
    command = [*toolchain.compiler(), f"-print-file-name={name}"]
    runtime = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(runtime):
        pytest.skip(f"{name} is not installed")
    (tmp_path / "f.metal").write_text(OUT_OF_BOUNDS)
    isa, out = runnable_isas()[0], tmp_path / "f.metallib"
    metalc.build(tmp_path / "f.metal", out, [isa], sanitize=(sanitizer,), optimize="1", build_dir=tmp_path / "objects")
    environment = {**os.environ, "LD_PRELOAD": os.path.realpath(runtime), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-c", RUN, str(out), isa, str(ROOT), str(ROOT / "tests")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode != 0
    assert finding in result.stderr and "f.metal:6" in result.stderr


def test_objects_unused_for_a_month_leave_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OB_CACHE", str(tmp_path))
    old, new = tmp_path / "objects" / "old.o", tmp_path / "objects" / "new.o"
    old.parent.mkdir()
    for path, age in ((old, 31), (new, 29)):
        path.touch()
        os.utime(path, (time.time() - age * 86400,) * 2)
    metalc.build(SHADERS / "basic.metal", tmp_path / "x.metallib", runnable_isas()[:1], optimize="0")
    assert new.exists() and not old.exists()


@pytest.mark.parametrize("name", ["cpu", "checker"])
def test_a_library_that_was_rebuilt_is_opened_afresh(tmp_path, name):
    source, path, held, values = tmp_path / "one.metal", tmp_path / "one.metallib", [], []
    device = _core.open_device(name, threads=1)
    for value in (1, 2, 3):
        source.write_text(
            f"#include <metal_stdlib>\nkernel void one(device float *y [[buffer(0)]]) {{ *y = {value}; }}"
        )
        metalc.build([str(source)], path, ["checker" if name == "checker" else runnable_isas()[-1]])
        held.append(device.open_library(str(path)))
        y = device.buffer(4)
        for library in held:  # those of before stay what they were
            device.chain([_core.Dispatch(library.kernel("one"), [(0, y, 0, 4)])], "one").run()
            values.append(float(np.frombuffer(y, np.float32)[0]))
    assert values == [1, 1, 2, 1, 2, 3]
