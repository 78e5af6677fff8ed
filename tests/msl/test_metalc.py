"""The shader compiler: reflection, thunks, parsing. Runs the shared objects directly."""

from pathlib import Path

import numpy as np
import pytest
from support.metallib import BUFFER, READ, READ_WRITE, THREADGROUP, Library, compile_text

from pipeline import metalc
from pipeline.metalc.constants import integer
from pipeline.metalc.parse import parse
from pipeline.metalc.toolchain import runnable_isas

SHADERS = Path(__file__).parent / "shaders"
FLOAT, FLOAT3, HALF4, INT, UINT, UCHAR, BOOL, POINTER, STRUCT = 3, 5, 19, 29, 33, 49, 53, 60, 1
BFLOAT, BFLOAT2, FLOAT2, HALF = 121, 122, 4, 16


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    files = [SHADERS / "basic.metal", SHADERS / "language.metal"]
    isa = runnable_isas()[-1]
    return Library(metalc.build(files, folder / "x.metallib", [isa], build_dir=folder / "objects"), isa)


# -- reflection ------------------------------------------------------------------------------------


def test_table_names_abi_isa_and_functions_in_order(library):
    assert library.table.abi == 7
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
        "n": (0, UINT, 1),
        "scale": (4, FLOAT, 1),
        "offset": (16, FLOAT3, 1),
        "dims": (32, UINT, 4),
    }
    assert library.members("scoped", "settings") == {
        "scale": (0, FLOAT, 1),
        "offset": (4, FLOAT3, 1),
        "weights": (16, HALF4, 2),
        "kind": (32, UCHAR, 1),
        "mode": (33, UCHAR, 1),
        "enabled": (34, BOOL, 1),
        "pair": (36, BFLOAT2, 1),
        "pointer": (40, POINTER, 1),
    }


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
    assert {name: a.index for name, a in library.arguments("attributed").items()} == {"in": 1, "out": 2, "scratch": 3}
    assert library.arguments("scoped")["all"].index == 30


def test_types_of_elements(tmp_path):
    types = {
        "half": HALF,
        "bfloat": BFLOAT,
        "int": INT,
        "float3": 5,
        "short2": 38,
        "ushort4": 44,
        "char3": 47,
        "bool2": 54,
        "long": 81,
        "ulong2": 86,
        "packed_float3": 5,
        "half2": 17,
        "uchar4": 52,
        "atomic_uint": UINT,
        "int64_t": 81,
    }
    text = "".join(
        f"kernel void k_{name}(device {name} *a [[buffer(0)]], device const {name} &b [[buffer(1)]]) {{}}\n"
        for name in types
    )
    library = compile_text(tmp_path, text)
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


def test_constant_arguments_are_read_at_launch(tmp_path):
    library = compile_text(
        tmp_path,
        "kernel void f(device uint *out [[buffer(0)]], constant uint &n [[buffer(1)]],"
        " uint i [[thread_position_in_grid]]) { out[0] = 100; out[1 + i] = n; }",
    )
    out = np.zeros(4, np.uint32)
    library.run("f", [out, out], (3,))
    assert out.tolist() == [100, 0, 0, 0], "a constant does not change while the kernel runs"


def test_a_kernel_may_have_the_name_of_a_library_function(tmp_path):
    library = compile_text(
        tmp_path, "kernel void select(device float *a [[buffer(0)]]) { a[0] = metal::select(1.0f, 2.0f, true); }"
    )
    out = np.zeros(1, np.float32)
    library.run("select", [out])
    assert out[0] == 2


def test_kernels_from_macros_and_included_headers(tmp_path):
    library = compile_text(
        tmp_path,
        {
            "types.h": "#pragma once\n#include <stdint.h>\nstruct Args { uint32_t n; float f[3]; };\n"
            "#ifndef __METAL_VERSION__\n#error host only\n#endif\n",
            "a.metal": '#include "types.h"\n#define K(name, op) kernel void name(device float *a [[buffer(0)]], '
            "constant Args &args [[buffer(1)]]) { a[0] = a[0] op args.f[1]; }\nK(plus, +)\nK(times, *)\n",
            "b.metal": '#include "types.h"\nkernel void minus(device float *a [[buffer(0)]], '
            "constant Args &args [[buffer(1)]]) { a[0] -= args.f[1]; }\n",
        },
    )
    assert list(library.functions) == ["minus", "plus", "times"]
    args = np.array([0, 0, 3, 0], np.float32)
    a = np.array([5], np.float32)
    for name in ("plus", "times", "minus"):
        library.run(name, [a, args])
    assert a[0] == (5 + 3) * 3 - 3
    assert library.members("plus", "args") == {"n": (0, UINT, 1), "f": (4, FLOAT, 3)}


# -- parsing ---------------------------------------------------------------------------------------


INTEGERS = {
    "3": 3,
    "0x1f": 31,
    "2u": 2,
    "1 + 2 * 3": 7,
    "1 < < 4": 16,
    "kSlot + 1": 6,
    "-1": -1,
    "00": 0,
    "010": 8,
} | dict.fromkeys(("x", "", "f(1)", "1.5", "'a'", "1 +", "True"))


def test_integer_constants():
    assert {text: integer(text, {"kSlot": 5}) for text in INTEGERS} == INTEGERS


def test_declarations_around_kernels_do_not_confuse_the_parser():
    shader = parse(
        "struct S { int a, b[2]; int f() const { return a; } int bits : 3; static int s; float *p = nullptr; };\n"
        "inline bool operator==(S x, S y) { return x.a == y.a; }\n"
        "constexpr int t[2] = {1, 2}; constexpr int u[2]{3, 4}; int w[] = {1}, z = 2;\n"
        "template <typename T, typename = enable_if_t<(sizeof(T) > 2)>> struct V { T t; };\n"
        "struct P { float a; metal::array<int, 3> both; private: int hidden; public: int seen = 1 < 2; };\n"
        "using F = decltype(sizeof(int)); typedef struct { float r; } Named; enum E : int { one = 1, two };\n"
        "template <typename T> void helper(T t) { if (t) { } }\n"
        "template void helper<int>(int);\n"
        "kernel void k(device V<int> *v [[buffer(two)]], device S &s [[buffer(0)]]);\n"
        "kernel void k(device V<int> *v [[buffer(two)]], device S &s [[buffer(0)]]) { auto x = [&] { return 1; }; }\n",
        "x.metal",
    )
    (kernel,) = shader.kernels
    assert (kernel.name, kernel.line, [p.name for p in kernel.parameters]) == ("k", 10, ["v", "s"])
    fields = {name[-1]: struct.fields for name, struct in shader.structs.items()}
    assert fields == {"S": ("a", "b", "p"), "V": ("t",), "P": ("a", "both", "seen"), "Named": ("r",)}
    assert shader.enumerators == {"one": 1, "two": 2}
    assert "[[" not in shader.text and shader.text.count("\n") == 10
