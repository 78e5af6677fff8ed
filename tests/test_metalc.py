"""The shader compiler: reflection, thunks, messages, incremental builds. Runs shared objects directly."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from metallib import BUFFER, READ, READ_WRITE, THREADGROUP, Library, runnable_isas

from pipeline import metalc
from pipeline.metalc.constants import integer
from pipeline.metalc.parse import parse

SHADERS = Path(__file__).parent / "shaders"
ROOT = Path(__file__).parent.parent
FLOAT, FLOAT3, HALF4, INT, UINT, UCHAR, BOOL, POINTER, STRUCT = 3, 5, 19, 29, 33, 49, 53, 60, 1
BFLOAT, BFLOAT2, FLOAT2, HALF = 121, 122, 4, 16
HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"


@pytest.fixture(scope="session")
def objects(tmp_path_factory):
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, objects):
    out = tmp_path_factory.mktemp("bundle") / "samples.metallib"
    files = [SHADERS / "basic.metal", SHADERS / "language.metal"]
    return metalc.build(files, out, runnable_isas()[-1:], build_dir=objects)


@pytest.fixture(scope="session")
def library(bundle):
    return Library(bundle, runnable_isas()[-1])


@pytest.fixture
def compile_text(tmp_path, objects):
    """Compiles the text of one shader, or of several named files, for one instruction set."""

    def compile_text(text, isa=None, **options):
        files = text if isinstance(text, dict) else {"shader.metal": text}
        for name, content in files.items():
            (tmp_path / name).write_text(HEADER + content if name.endswith(".metal") else content)
        sources = [tmp_path / name for name in files if name.endswith(".metal")]
        isa = isa or runnable_isas()[-1]
        options = {"build_dir": objects, "optimize": "0", **options}
        return Library(metalc.build(sources, tmp_path / "out.metallib", [isa], **options), isa)

    return compile_text


# -- reflection ------------------------------------------------------------------------------------


def test_table_names_abi_isa_and_functions_in_order(library):
    assert library.table.abi == 1
    assert library.table.isa.decode() == runnable_isas()[-1]
    names = list(library.functions)
    assert names == sorted(names)
    assert {"add", "scale_float_3", "scale_bfloat_4", "scale_half_2", "scoped", "attributed"} <= set(names)
    assert "scale" not in names, "a template is no kernel"


def test_arguments_have_kind_index_access_and_type(library):
    found = library.arguments("add")
    assert list(found) == ["a", "b", "args"]
    a, b, args = found.values()
    assert (a.kind, a.index, a.access, a.constant, a.reference) == (BUFFER, 0, READ, 0, 0)
    assert (a.type, a.size, a.alignment, a.member_count) == (FLOAT, 4, 4, 0)
    assert (b.index, b.access) == (1, READ_WRITE)
    assert (args.access, args.constant, args.reference, args.type) == (READ, 1, 1, STRUCT)
    assert (args.size, args.alignment) == (48, 16)


def test_struct_members_have_offset_type_and_count(library):
    assert library.members("add", "args") == {
        "n": (0, UINT, 1), "scale": (4, FLOAT, 1), "offset": (16, FLOAT3, 1), "dims": (32, UINT, 4)
    }  # fmt: skip
    assert library.members("scoped", "settings") == {
        "scale": (0, FLOAT, 1), "offset": (4, FLOAT3, 1), "weights": (16, HALF4, 2), "kind": (32, UCHAR, 1),
        "mode": (33, UCHAR, 1), "enabled": (34, BOOL, 1), "pair": (36, BFLOAT2, 1), "pointer": (40, POINTER, 1),
    }  # fmt: skip


def test_threadgroup_arguments_and_lengths(library):
    scratch = library.arguments("attributed")["scratch"]
    assert (scratch.kind, scratch.index, scratch.type, scratch.size) == (THREADGROUP, 3, FLOAT2, 8)
    assert library.functions["attributed"].static_threadgroup_length == 16 + 48
    assert library.functions["scale_half_2"].static_threadgroup_length == 32
    assert library.functions["add"].static_threadgroup_length == 0


def test_a_threadgroup_is_one_thread(library):
    for function in library.functions.values():
        assert (function.max_total_threads, function.thread_execution_width) == (1, 1)


def test_indices_may_be_enumerators_and_31_slots_exist(library):
    assert {name: a.index for name, a in library.arguments("attributed").items()} == {
        "in": 1, "out": 2, "scratch": 3
    }  # fmt: skip
    assert library.arguments("scoped")["all"].index == 30


def test_types_of_elements(compile_text):
    types = {
        "half": HALF, "bfloat": BFLOAT, "int": INT, "float3": 5, "short2": 38, "ushort4": 44, "char3": 47, "bool2": 54,
        "long": 81, "ulong2": 86, "packed_float3": 5, "half2": 17, "uchar4": 52, "atomic_uint": UINT, "int64_t": 81,
    }  # fmt: skip
    text = "".join(
        f"kernel void k_{name}(device {name} *a [[buffer(0)]], device const {name} &b [[buffer(1)]]) {{}}\n"
        for name in types
    )
    library = compile_text(text)
    for name, code in types.items():
        for argument in library.arguments(f"k_{name}").values():
            assert argument.type == code, name


# -- thunks ----------------------------------------------------------------------------------------


def test_elementwise_kernel(library):
    a = np.linspace(-3, 3, 100, dtype=np.float32)
    b = np.ones(101, np.float32)
    args = np.zeros(48, np.uint8)
    args[:4].view(np.uint32)[0] = 99
    args[4:8].view(np.float32)[0] = 2
    args[16:28].view(np.float32)[:] = (7, 5, 7)
    library.run("add", [a, b, args], (101,))
    np.testing.assert_allclose(b[:99], 1 + 2 * np.exp(a[:99].astype(np.float64)) + 5, rtol=1e-6)
    assert (b[99:] == 1).all()


@pytest.mark.parametrize("ranges", [None, [(0, 5), (5, 6), (11, 1)], [(7, 5), (0, 7)], [(0, 0), (0, 12)]])
def test_partial_ranges_of_a_3d_grid(library, ranges):
    x = np.arange(24, dtype=np.float16)
    y = np.full(24, -1, np.float16)
    library.run("scale_half_2", [x, y], (3, 2, 2), ranges, threadgroup=[16])
    np.testing.assert_array_equal(y, 2 * x)


def test_only_the_range_runs(library):
    x = np.arange(24, dtype=np.float16)
    y = np.full(24, -1, np.float16)
    library.run("scale_half_2", [x, y], (3, 2, 2), [(4, 5)], threadgroup=[16])
    np.testing.assert_array_equal(y[8:18], 2 * x[8:18])
    assert (y[:8] == -1).all() and (y[18:] == -1).all()


def test_template_instantiations(library):
    x = np.array([1.0, 2.5, -3.0, 0.5] * 3, np.float32)
    y = np.zeros(12, np.float32)
    library.run("scale_float_3", [x, y], (4,), threadgroup=[16])
    np.testing.assert_array_equal(y, 2 * x)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    out = np.zeros(12, np.uint16)
    library.run("scale_bfloat_4", [bits, out], (3,), threadgroup=[16])
    np.testing.assert_array_equal((out.astype(np.uint32) << 16).view(np.float32), 2 * x)


def test_namespaces_and_high_indices(library):
    out = np.zeros(1, np.float32)
    settings = np.zeros(96, np.uint8)
    settings.view(np.float32)[0], settings.view(np.float32)[1], settings.view(np.float32)[12] = 2, 4, 8
    library.run("scoped", {0: out, 3: settings, 30: settings})
    assert out[0] == 2 + 4 + 8 + 3


def test_grid_positions(library):
    out = np.zeros(6, np.float32)
    library.run("attributed", {1: np.array([0.5], np.float32), 2: out}, (3, 2), threadgroup=[8] * 4)
    np.testing.assert_array_equal(out, [1.5, 2.5, 3.5, 11.5, 12.5, 13.5])


def test_constant_arguments_are_read_at_launch(compile_text):
    library = compile_text(
        "kernel void f(device uint *out [[buffer(0)]], constant uint &n [[buffer(1)]],"
        " uint i [[thread_position_in_grid]]) { out[0] = 100; out[1 + i] = n; }"
    )
    out = np.zeros(4, np.uint32)
    library.run("f", [out, out], (3,))
    assert out.tolist() == [100, 0, 0, 0], "a constant does not change while the kernel runs"


def test_a_kernel_may_have_the_name_of_a_library_function(compile_text):
    library = compile_text("kernel void select(device float *a [[buffer(0)]]) { a[0] = metal::select(1.0f, 2.0f, true); }")
    out = np.zeros(1, np.float32)
    library.run("select", [out])
    assert out[0] == 2


def test_kernels_from_macros_and_included_headers(compile_text):
    library = compile_text(
        {
            "types.h": "#pragma once\n#include <stdint.h>\nstruct Args { uint32_t n; float f[3]; };\n"
            "#ifndef __METAL_VERSION__\n#error host only\n#endif\n",
            "a.metal": '#include "types.h"\n#define K(name, op) kernel void name(device float *a [[buffer(0)]], '
            "constant Args &args [[buffer(1)]]) { a[0] = a[0] op args.f[1]; }\nK(plus, +)\nK(times, *)\n",
            "b.metal": '#include "types.h"\nkernel void minus(device float *a [[buffer(0)]], '
            "constant Args &args [[buffer(1)]]) { a[0] -= args.f[1]; }\n",
        }
    )
    assert list(library.functions) == ["minus", "plus", "times"]
    args = np.array([0, 0, 3, 0], np.float32)
    a = np.array([5], np.float32)
    for name in ("plus", "times", "minus"):
        library.run(name, [a, args])
    assert a[0] == (5 + 3) * 3 - 3
    assert library.members("plus", "args") == {"n": (0, UINT, 1), "f": (4, FLOAT, 3)}


# -- messages --------------------------------------------------------------------------------------

A = "device float *a [[buffer(0)]]"
MISTAKES = {
    "no index": (f"kernel void f({A}, device float *b) {{}}", "'b' of kernel 'f' has no index; add [[buffer(n)]]"),
    "no threadgroup index": ("kernel void f(threadgroup float *s) {}", "has no index; add [[threadgroup(n)]]"),
    "no attribute": (f"kernel void f({A}, uint i) {{}}", "'i' of kernel 'f' has no attribute"),
    "clash": (f"kernel void f({A}, device int *b [[buffer(0)]]) {{}}", "[[buffer(0)]] of kernel 'f' is taken by both 'a' and 'b'"),
    "index": ("kernel void f(device float *a [[buffer(31)]]) {}", "index 31 of [[buffer(31)]] is outside 0 to 30"),
    "negative index": ("kernel void f(device float *a [[buffer(-1)]]) {}", "index -1 of [[buffer(-1)]] is outside 0 to 30"),
    "index not constant": ("kernel void f(device float *a [[buffer(N)]]) {}", "must be an integer constant"),
    "no argument": ("kernel void f(device float *a [[buffer]]) {}", "must be an integer constant"),
    "unknown attribute": (f"kernel void f({A}, uint i [[thread_position]]) {{}}", "'i' of kernel 'f' has the unknown attribute [[thread_position]]"),
    "unknown kernel attribute": ("kernel [[fast]] void f() {}", "unknown attribute [[fast]] on kernel 'f'"),
    "two attributes": ("kernel void f(uint i [[thread_position_in_grid, thread_index_in_threadgroup]]) {}", "has both [[thread_position_in_grid]] and [[thread_index_in_threadgroup]]"),
    "pointer to position": ("kernel void f(device uint *i [[thread_position_in_grid]]) {}", "takes a value, not a pointer"),
    "buffer by value": ("kernel void f(float a [[buffer(0)]]) {}", "[[buffer(n)]] takes a pointer or reference"),
    "returns": (f"kernel int f({A}) {{ return 1; }}", "kernel 'f' returns int; a kernel must return void"),
    "duplicate": (f"kernel void f({A}) {{}}\nkernel void f(device int *b [[buffer(1)]]) {{}}", "kernel 'f' is already defined at"),
    "texture": ("kernel void f(texture2d<float> t [[texture(0)]]) {}", "textures are not supported; pass a buffer"),
    "sampler": ("kernel void f(sampler s [[sampler(0)]]) {}", "samplers are not supported"),
    "no host name": ("template <typename T> kernel void f(device T *a [[buffer(0)]]) {}\ntemplate kernel void f<int>(device int *a [[buffer(0)]]);", "instantiation of 'f' has no name for the host"),
    "no template": ('template [[host_name("x")]] kernel void f<int>(device int *a [[buffer(0)]]);', "no kernel template 'f' precedes this instantiation"),
    "C++": (f"kernel void f({A}) {{\n  a[0] = nonsense;\n}}", "nonsense"),
    "C++ in the library": (f"kernel void f({A}) {{\n  a[0] = dot(float3(1), float2(2));\n}}", ""),
    "no such header": ('#include "missing.h"\nkernel void f() {}', "missing.h"),
    "nothing": ("float f(float x) { return x; }", "no kernel found"),
}  # fmt: skip
LINES = {"C++": 4, "C++ in the library": 4, "duplicate": 4, "no host name": 4, "nothing": 1}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_give_one_line_with_the_place(compile_text, tmp_path, name):
    text, message = MISTAKES[name]
    with pytest.raises(metalc.CompileError) as caught:
        compile_text(text)
    first = str(caught.value).splitlines()[0]
    assert message in first
    assert first.startswith(f"{tmp_path}/shader.metal:{LINES.get(name, 3)}: "), first


def test_one_kernel_name_in_two_files(compile_text, tmp_path):
    text = "kernel void f(device float *a [[buffer(0)]]) {}"
    with pytest.raises(metalc.CompileError, match=r"b\.metal:3: kernel 'f' is already defined at .*a\.metal:3"):
        compile_text({"a.metal": text, "b.metal": text})
    assert not (tmp_path / "out.metallib").exists()


def test_missing_file_empty_list_and_unknown_isa(tmp_path):
    with pytest.raises(metalc.CompileError, match=r"absent\.metal: no such file"):
        metalc.build([tmp_path / "absent.metal"], tmp_path / "out")
    with pytest.raises(metalc.CompileError, match=r"no \.metal files given"):
        metalc.build([], tmp_path / "out")
    with pytest.raises(metalc.CompileError, match="unknown instruction set 'mmx'; this machine has"):
        metalc.build([SHADERS / "basic.metal"], tmp_path / "out", ["mmx"])


def test_out_is_a_file(tmp_path, objects):
    (tmp_path / "out").write_text("")
    with pytest.raises(metalc.CompileError, match="out: is a file; a library is a folder"):
        metalc.build([SHADERS / "basic.metal"], tmp_path / "out", runnable_isas()[:1], build_dir=objects)


def test_text_that_is_not_utf8(tmp_path, objects):
    (tmp_path / "bad.metal").write_bytes(b"kernel void f() {}\nconst char *s = \"\xff\";\n")
    with pytest.raises(metalc.CompileError, match=r"bad\.metal:2: .*not UTF-8"):
        metalc.build([tmp_path / "bad.metal"], tmp_path / "out", build_dir=objects)


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


def test_options_are_part_of_what_is_compared(tmp_path, objects):
    (tmp_path / "a.metal").write_text(HEADER + "kernel void f(device int *a [[buffer(0)]]) { a[0] = X; }")
    isa, values = runnable_isas()[0], []
    for value in (3, 4):
        out = tmp_path / f"{value}.metallib"
        metalc.build(tmp_path / "a.metal", out, [isa], build_dir=objects, optimize="0", defines=[f"X={value}"])
        result = np.zeros(1, np.int32)
        Library(out, isa).run("f", [result])
        values.append(result[0])
    assert values == [3, 4]


def test_a_bundle_holds_exactly_the_requested_instruction_sets(tmp_path, objects):
    out = tmp_path / "x.metallib"
    every = metalc.default_isas()
    metalc.build([SHADERS / "basic.metal"], out, build_dir=objects, optimize="0")
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{isa}.so" for isa in every)
    metalc.build([SHADERS / "basic.metal"], out, every[:1], build_dir=objects, optimize="0")
    assert [path.name for path in out.iterdir()] == [f"{every[0]}.so"]


def test_a_failed_build_leaves_the_old_library(tmp_path, compile_text, objects):
    library = compile_text("kernel void f(device int *a [[buffer(0)]]) { a[0] = 1; }")
    before = stamps(tmp_path / "out.metallib")
    with pytest.raises(metalc.CompileError):
        compile_text("kernel void f(device int *a [[buffer(0)]]) { a[0] = ; }")
    assert stamps(tmp_path / "out.metallib") == before and "f" in library.functions
    assert not [path for path in objects.iterdir() if path.name.startswith(".") or path.is_dir()]


def test_only_the_table_is_exported(bundle):
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", bundle / f"{runnable_isas()[-1]}.so"], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["ob_metallib"]


def run_command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.metalc", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip


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


# -- parsing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, value",
    [("3", 3), ("0x1f", 31), ("2u", 2), ("1 + 2 * 3", 7), ("1 < < 4", 16), ("kSlot + 1", 6), ("-1", -1)]
    + [("x", None), ("", None), ("f(1)", None), ("1.5", None), ("'a'", None), ("1 +", None), ("True", None)],
)
def test_integer_constants(text, value):
    assert integer(text, {"kSlot": 5}) == value


def test_declarations_around_kernels_do_not_confuse_the_parser():
    shader = parse(
        "struct S { int a, b[2]; int f() const { return a; } int bits : 3; static int s; float *p = nullptr; };\n"
        "inline bool operator==(S x, S y) { return x.a == y.a; }\n"
        "constexpr int t[2] = {1, 2}; constexpr int u[2]{3, 4}; int w[] = {1}, z = 2;\n"
        "template <typename T, typename = enable_if_t<(sizeof(T) > 2)>> struct V { T t; };\n"
        "using F = decltype(sizeof(int)); typedef struct { float r; } Named; enum E : int { one = 1, two };\n"
        "template <typename T> void helper(T t) { if (t) { } }\n"
        "template void helper<int>(int);\n"
        "kernel void k(device V<int> *v [[buffer(two)]], device S &s [[buffer(0)]]);\n"
        "kernel void k(device V<int> *v [[buffer(two)]], device S &s [[buffer(0)]]) { auto x = [&] { return 1; }; }\n",
        "x.metal",
    )
    (kernel,) = shader.kernels
    assert (kernel.name, kernel.line, [p.name for p in kernel.parameters]) == ("k", 9, ["v", "s"])
    fields = {name[-1]: struct.fields for name, struct in shader.structs.items()}
    assert fields == {"S": ("a", "b", "p"), "V": ("t",), "Named": ("r",)}
    assert shader.enumerators == {"one": 1, "two": 2}
    assert "[[" not in shader.text and shader.text.count("\n") == 9
