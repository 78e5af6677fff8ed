"""Strict MSL: valid shaders stay clean, and every diagnostic has its place in the original file."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT
from support.strict import HEAD, check, needs_clang

from pipeline import strict

SHADERS = ROOT / "shaders"


# -- what is valid stays clean ---------------------------------------------------------------------


@needs_clang
@pytest.mark.parametrize("file", sorted(path.name for path in SHADERS.glob("*.metal")))
def test_the_projects_shaders_are_clean(file):
    found = strict.check([SHADERS / file])
    assert found == [], "\n".join(map(str, found))


VALID = {
    "vectors": """
        float4 v = float4(x[i]), w = float4(v.xy, 1, 2), z = {1, 2, 3, 4};
        half4 h = half4(v * 2.0f) * 0.5h;
        v.xz = w.yx; v[1] = z[i % 4]; v += (float4)h; h = static_cast<half4>(w);
        bool4 m = v < w;
        if (any(m) || all(v == w && v != z)) v = select(v, w, m);
        int3 n = int3(v.xyz); uchar4 c = as_type<uchar4>(uint(n.x)); n += int3(c.xyz);
        y[i] = dot(v, w) + length(v.xy) + n.x + max(v, 0.0f).x + vec<float, 2>(v.x, 1).y;
    """,
    "half and bfloat": """
        bfloat b = bfloat(x[i]), c = 1.0bf; half h = half(b) + 1.0h;
        bfloat4 q = bfloat4(float4(x[i])); y[i] = float(b * c) + h + exp(float(b)) + float(q.x);
    """,
    "threadgroup memory": """
        threadgroup float s[32], t[4][4]; threadgroup uint n; threadgroup float *p = s;
        if (i == 0) { n = 0; t[1][2] = 1; }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        p[i] = x[i] + t[0][1]; y[i] = s[n] + sizeof(s) + simd_sum(p[i]);
    """,
    "threadgroup variables with values, which Metal takes and drops": """
        threadgroup float beta = 0.0, gamma[4] = {1, 2 < 3 ? 4 : 5}, delta{2}; threadgroup int2 n = int2(0, 1);
        threadgroup atomic_uint c = {0}; threadgroup array<float, 2> q = {}; threadgroup float *p = gamma;
        y[i] = beta + gamma[i % 4] + delta + n.x + q[0] + p[1] + atomic_load_explicit(&c, memory_order_relaxed);
    """,
    "results in thread memory": "float t[1] = {halved(x[i])}; y[i] = *first_of(t) + same_as(1.0f);",
    "objects of every memory": """
        Pair a = items[i], b = args; a = args; a = items[0]; items[1] = b; items[2] = twice(items[0]);
        thread Pair &r = a; r.b += get(a) + get(b) + Pair{1, 2}.sum() + Sum{}(a.a, 3.0f);
        Pair c = i > 2 ? a : make(1); c = i > 3 ? items[3] : make(2); y[i] = c.sum() + r.b;
    """,
    "auto and templates": """
        auto p = x + i; auto &first = p[0]; auto square = [&](float a) { return a * a * x[0]; };
        y[i] = square(first) + load(p) + load(y) + scale(1.0f) + sizeof(float4);
    """,
    "constants": """
        constexpr uint n = 4; const float f = table[i % n] + limit + numeric_limits<float>::infinity() + M_PI_F;
        for (uint k = 0; k < n; k++) y[k] = use_scale ? f * INFINITY : half_limit;
    """,
    "atomics": """
        atomic_fetch_add_explicit(&counters[i], 1, memory_order_relaxed);
        uint old = atomic_load_explicit(&counters[0], memory_order_relaxed);
        while (!atomic_compare_exchange_weak_explicit(&counters[0], &old, old + 1, memory_order_relaxed,
                                                      memory_order_relaxed)) {}
        threadgroup atomic_int t; atomic_store_explicit(&t, 0, memory_order_relaxed);
    """,
    "names that OpenCL keeps": "float local = x[i], global = 1, read_only = 2; y[i] = local + global + read_only;",
    "matrices": """
        float4x4 m(1.0f); float3x3 n; n[1] = float3(2); float4 v = m * float4(1) + m[2]; y[i] = v.x + n[0].y;
        simdgroup_float8x8 a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(0); simdgroup_load(a, x, 8);
        simdgroup_multiply_accumulate(c, a, b, c); simdgroup_store(c, y, 8);
    """,
}
LANGUAGE = """
struct Pair { float a, b; float sum() const { return a + b; } };
struct Sum { float operator()(float a, float b) { return a + b; } };
Pair make(float a) { return {a, a}; }
Pair twice(Pair p) { return {2 * p.a, 2 * p.b}; }
float get(const thread Pair &p) { return p.a; }
thread float halved(float a) { return a / 2; }
thread float *first_of(thread float *p) { return p; }
template <typename T> thread T same_as(T a) { return a; }
template <typename P> float load(P p) { return p[0]; }
template <typename T> T scale(const thread T &a) { return a * 2; }
constant float table[4] = {1, 2, 3, 4};
constant constexpr float limit = 3;
static constant half half_limit = 2.0h;
constant bool use_scale [[function_constant(0)]];
kernel void k(device float *y [[buffer(0)]], device const float *x [[buffer(1)]], device Pair *items [[buffer(2)]],
              constant Pair &args [[buffer(3)]], device atomic_uint *counters [[buffer(4)]],
              threadgroup float *shared [[threadgroup(0)]], uint i [[thread_position_in_grid]],
              uint3 grid [[threads_per_grid]], ushort lane [[thread_index_in_simdgroup]]) {
"""


@needs_clang
@pytest.mark.parametrize("name", VALID)
def test_valid_metal_is_clean(tmp_path, name):
    found = check(tmp_path, LANGUAGE + VALID[name] + "}")
    assert found == [], "\n".join(map(str, found))


@needs_clang
def test_indices_may_be_left_to_apples_compiler(tmp_path):
    text = (
        "kernel void k(device float *x, constant uint &n, uint i [[thread_position_in_grid]]) { if (i < n) x[i] = 0; }"
    )
    assert {d.rule for d in check(tmp_path, text)} == {"binding"}
    assert check(tmp_path, text, explicit_indices=False) == []


@needs_clang
def test_a_kernel_has_31_buffers_at_most(tmp_path):
    def kernel(count):
        return f"kernel void k({', '.join(f'device float *x{n}' for n in range(count))}) {{ x0[0] = 1; }}"

    assert check(tmp_path, kernel(31), explicit_indices=False) == []
    assert [(d.line, d.rule) for d in check(tmp_path, kernel(32), explicit_indices=False)] == [(3, "binding")]


# -- places ----------------------------------------------------------------------------------------


@needs_clang
def test_a_violation_in_a_header_is_reported_in_the_header(tmp_path):
    (tmp_path / "more").mkdir()
    header = tmp_path / "more" / "f.h"
    header.write_text("#pragma once\n\ninline float f(float *p) { return *p; }\n")
    found = check(tmp_path, '#include "f.h"\n', include=[tmp_path / "more"])
    assert [(d.file, d.line, d.column, d.rule) for d in found] == [(str(header), 3, 23, "no-address-space")]


@needs_clang
def test_a_violation_in_a_macro_is_reported_where_the_macro_is_used(tmp_path):
    found = check(tmp_path, "#define F(name) \\\n  float name(float *p) { return *p; }\n\nF(f)\n")
    assert [(d.line, d.rule) for d in found] == [(6, "no-address-space")]


@needs_clang
def test_defines_choose_what_is_checked(tmp_path):
    text = "#ifdef BAD\nint *p;\n#endif\n"
    assert check(tmp_path, text) == []
    assert {d.rule for d in check(tmp_path, text, defines=["BAD"])} == {"no-address-space", "global-state"}


@needs_clang
def test_several_files_are_reported_in_order(tmp_path):
    for name in ("b.metal", "a.metal"):
        (tmp_path / name).write_text(HEAD + "double f();\nfloat *g();\n")
    found = strict.check([tmp_path / "b.metal", tmp_path / "a.metal"])
    assert [(Path(d.file).name, d.line) for d in found] == [
        ("a.metal", 3),
        ("a.metal", 4),
        ("b.metal", 3),
        ("b.metal", 4),
    ]


@needs_clang
def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(strict.CompileError, match=r"none\.metal"):
        strict.check([tmp_path / "none.metal"])
    with pytest.raises(strict.CompileError, match=r"shader\.metal:3: .*gone\.h"):
        check(tmp_path, '#include "gone.h"\n')


# -- without libclang ------------------------------------------------------------------------------


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_without_libclang_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['clang'] = None\nfrom pipeline import strict\nassert not strict.available()\n"
        "try: strict.check(['shaders/norm.metal'])\nexcept strict.Unavailable as error: print(error)"
    )
    result = run(code)
    assert result.stdout == strict.INSTALL + "\n" and "pip install" in strict.INSTALL, result.stderr


def test_the_package_does_not_import_clang():
    result = run("import sys, pipeline, pipeline.strict\nprint(any(name.startswith('clang') for name in sys.modules))")
    assert result.stdout == "False\n", result.stderr
