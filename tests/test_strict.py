"""Strict MSL: for each rule a small shader that breaks it, refused at its line, and its corrected twin."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import strict

ROOT = Path(__file__).parent.parent
SHADERS = ROOT / "shaders"
HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"
KERNEL = "kernel void k(device float *y [[buffer(0)]], device const float *x [[buffer(1)]], uint i [[thread_position_in_grid]])"

needs_clang = pytest.mark.skipif(not strict.available(), reason=strict.INSTALL)


def check(folder, text, **options):
    file = folder / "shader.metal"
    file.write_text(HEAD + text)
    return strict.check([file], **options)


def body(text):
    return f"{KERNEL} {{\n{text}\n}}"


# (rule, what is wrong, in a line marked with <, and the same corrected)
CASES = {
    "pointer parameter": (
        "no-address-space",
        "float f(float *p) { return p[0]; } // <",
        "float f(device float *p) { return p[0]; }",
    ),
    "reference parameter": (
        "no-address-space",
        "void f(float &a) { a = 1; } // <",
        "void f(thread float &a) { a = 1; }",
    ),
    "member": ("no-address-space", "struct S {\n float *p; // <\n};", "struct S {\n device float *p;\n};"),
    "result": (
        "no-address-space",
        "float &f(device float *p) { return p[0]; } // <",
        "device float &f(device float *p) { return p[0]; }",
    ),
    "local pointer": (
        "no-address-space",
        body("float a = x[i];\nfloat *p = &a; // <\ny[i] = *p;"),
        body("float a = x[i];\nthread float *p = &a;\ny[i] = *p;"),
    ),
    "cast to a pointer": (
        "no-address-space",
        body("y[i] = ((float *)x)[0]; // <"),
        body("y[i] = ((device const float *)x)[0];"),
    ),
    "pointer to a template's type": (
        "no-address-space",
        "template <typename T> T f(T *p) { return p[0]; } // <",
        "template <typename T> T f(device T *p) { return p[0]; }",
    ),
    "type name": ("no-address-space", "typedef float *floats; // <", "typedef device float *floats;"),
    "device as threadgroup": (
        "address-space",
        "float f(threadgroup float *p) { return p[0]; }\n" + body("y[i] = f(y); // <"),
        "float f(device float *p) { return p[0]; }\n" + body("y[i] = f(y);"),
    ),
    "constant as device": (
        "address-space",
        "constant float table[2] = {1, 2};\n" + body("device const float *p = table; // <\ny[i] = p[0];"),
        "constant float table[2] = {1, 2};\n" + body("constant float *p = table;\ny[i] = p[0];"),
    ),
    "thread as device": (
        "address-space",
        body("float a[2] = {0, 1};\ndevice float *p = a; // <\ny[i] = p[0];"),
        body("float a[2] = {0, 1};\nthread float *p = a;\ny[i] = p[0];"),
    ),
    "assignment between spaces": (
        "address-space",
        body("threadgroup float s[4];\nthreadgroup float *p = s;\np = y; // <\np[0] = 1;"),
        body("threadgroup float s[4];\nthreadgroup float *p = s;\np = s + 1;\np[0] = 1;"),
    ),
    "cast between spaces": (
        "address-space",
        body("threadgroup float *p = (threadgroup float *)y; // <\np[0] = 1;"),
        body("device uint *p = (device uint *)y;\np[0] = 1;"),
    ),
    "spaces in an instantiation": (
        "address-space",
        "float g(threadgroup const float *p) { return p[0]; }\ntemplate <typename P> float f(P p) { return g(p); // <\n}\n"
        + body("y[i] = f(x);"),
        "float g(device const float *p) { return p[0]; }\ntemplate <typename P> float f(P p) { return g(p);\n}\n"
        + body("y[i] = f(x);"),
    ),
    "device object as thread reference": (
        "address-space",
        "struct S { float a; };\nvoid f(thread S &s) { s.a = 1; }\nkernel void k(device S *s [[buffer(0)]]) {\nf(s[0]); // <\n}",
        "struct S { float a; };\nvoid f(device S &s) { s.a = 1; }\nkernel void k(device S *s [[buffer(0)]]) {\nf(s[0]);\n}",
    ),
    "member function of a device object": (
        "address-space",
        "struct S { float a; float twice() const { return 2 * a; } };\n"
        "kernel void k(device S *s [[buffer(0)]], device float *y [[buffer(1)]]) {\ny[0] = s[0].twice(); // <\n}",
        "struct S { float a; float twice() const { return 2 * a; } };\n"
        "kernel void k(device S *s [[buffer(0)]], device float *y [[buffer(1)]]) {\nS t = s[0];\ny[0] = t.twice();\n}",
    ),
    "write to constant": (
        "read-only",
        "struct A { uint n; };\nkernel void k(constant A &a [[buffer(0)]]) {\na.n = 1; // <\n}",
        "struct A { uint n; };\nkernel void k(device A &a [[buffer(0)]]) {\na.n = 1;\n}",
    ),
    "write to const": ("read-only", body("x[i] = 1; // <"), body("y[i] = 1;")),
    "const dropped": ("read-only", body("device float *p = x; // <\np[i] = 1;"), body("device float *p = y;\np[i] = 1;")),
    "missing buffer index": (
        "binding",
        "kernel void k(device float *x [[buffer(0)]],\n device float *y // <\n) { y[0] = x[0]; }",
        "kernel void k(device float *x [[buffer(0)]],\n device float *y [[buffer(1)]]\n) { y[0] = x[0]; }",
    ),
    "clashing buffer index": (
        "binding",
        "kernel void k(device float *x [[buffer(0)]],\n device float *y [[buffer(0)]] // <\n) { y[0] = x[0]; }",
        "kernel void k(device float *x [[buffer(0)]],\n device float *y [[buffer(1)]]\n) { y[0] = x[0]; }",
    ),
    "buffer index too large": (
        "binding",
        "kernel void k(\n device float *x [[buffer(31)]] // <\n) { x[0] = 0; }",
        "kernel void k(\n device float *x [[buffer(30)]]\n) { x[0] = 0; }",
    ),
    "threadgroup memory bound as a buffer": (
        "binding",
        "kernel void k(\n threadgroup float *x [[buffer(0)]] // <\n) { x[0] = 0; }",
        "kernel void k(\n threadgroup float *x [[threadgroup(0)]]\n) { x[0] = 0; }",
    ),
    "value bound as a buffer": (
        "binding",
        "kernel void k(device float *x [[buffer(0)]],\n uint n [[buffer(1)]] // <\n) { x[0] = n; }",
        "kernel void k(device float *x [[buffer(0)]],\n constant uint &n [[buffer(1)]]\n) { x[0] = n; }",
    ),
    "argument without attribute": (
        "binding",
        "kernel void k(device float *x [[buffer(0)]],\n uint n // <\n) { x[0] = n; }",
        "kernel void k(device float *x [[buffer(0)]],\n constant uint &n [[buffer(1)]]\n) { x[0] = n; }",
    ),
    "position of a wrong type": (
        "binding",
        "kernel void k(device float *x [[buffer(0)]],\n int i [[thread_position_in_grid]] // <\n) { x[i] = 0; }",
        "kernel void k(device float *x [[buffer(0)]],\n uint i [[thread_position_in_grid]]\n) { x[i] = 0; }",
    ),
    "unknown attribute": (
        "attribute",
        "kernel void k(device float *x [[buffer(0)]],\n uint i [[thread_position]] // <\n) { x[i] = 0; }",
        "kernel void k(device float *x [[buffer(0)]],\n uint i [[thread_position_in_grid]]\n) { x[i] = 0; }",
    ),
    "kernel with a result": (
        "kernel-result",
        "kernel float k(device float *x [[buffer(0)]]) { return x[0]; } // <",
        "kernel void k(device float *x [[buffer(0)]]) { x[0] = 1; }",
    ),
    "kernel called": (
        "kernel-call",
        "kernel void a(device float *x [[buffer(0)]]) { x[0] = 1; }\nkernel void b(device float *x [[buffer(0)]]) {\na(x); // <\n}",
        "void f(device float *x) { x[0] = 1; }\nkernel void b(device float *x [[buffer(0)]]) {\nf(x);\n}",
    ),
    "recursion": (
        "recursion",
        "uint f(uint n) {\nreturn n ? n * f(n - 1) : 1; // <\n}",
        "uint f(uint n) {\nuint r = 1; while (n) r *= n--; return r;\n}",
    ),
    "mutual recursion": (
        "recursion",
        "uint odd(uint n);\nuint even(uint n) { return n ? odd(n - 1) : 1; } // <\nuint odd(uint n) { return n ? even(n - 1) : 0; }",
        "uint odd(uint n) { return n % 2; }\nuint even(uint n) { return 1 - odd(n); }",
    ),
    "double": ("double", body("double a = x[i]; // <\ny[i] = a;"), body("float a = x[i];\ny[i] = a;")),
    "function pointer": (
        "function-pointer",
        "float f(float a) { return a; }\n" + body("float (*g)(float) = f; // <\ny[i] = g(x[i]);"),
        "float f(float a) { return a; }\n" + body("y[i] = f(x[i]);"),
    ),
    "long double": ("double", body("y[i] = 1.0L; // <"), body("y[i] = 1.0f;")),
    "narrowing": ("narrowing", body("int n = 3;\nuint a[2] = {n, 1}; // <\ny[i] = a[0];"), body("int n = 3;\nuint a[2] = {uint(n), 1};\ny[i] = a[0];")),
    "array of variable length": (
        "variable-length-array",
        body("float a[i]; // <\na[0] = 1; y[i] = a[0];"),
        body("float a[8];\na[0] = 1; y[i] = a[0];"),
    ),
    "inline assembly": ("inline-assembly", body('asm("nop"); // <\ny[i] = 0;'), body("y[i] = 0;")),
    "exception": ("exception", body("if (i > 9) throw 1; // <\ny[i] = 0;"), body("if (i > 9) return;\ny[i] = 0;")),
    "virtual function": (
        "virtual-function",
        "struct S {\n virtual float f() { return 1; } // <\n};",
        "struct S {\n float f() { return 1; }\n};",
    ),
    "new": ("dynamic-allocation", body("auto p = new float[4]; // <\ny[i] = p[0];"), body("float p[4] = {};\ny[i] = p[0];")),
    "malloc": ("dynamic-allocation", body("auto p = malloc(4); // <\ny[i] = 0;"), body("y[i] = 0;")),
    "typeid": ("rtti", body("y[i] = &typeid(float) != nullptr; // <"), body("y[i] = is_same_v<float, half>;")),
    "thread_local": ("storage", "thread_local float a; // <", "constant float a = 1;"),
    "global variable": ("global-state", "float a = 1; // <", "constant float a = 1;"),
    "static local variable": (
        "global-state",
        body("static uint n = 0; // <\ny[i] = n;"),
        body("uint n = 0;\ny[i] = n;"),
    ),
    "goto": ("goto", body("goto end; // <\nend:\ny[i] = 0;"), body("y[i] = 0;")),
    "variadic function": ("variadic", "void f(int n, ...); // <", "void f(int n, int m);"),
    "std": ("std", body("y[i] = std::min(x[i], 1.0f); // <"), body("y[i] = metal::min(x[i], 1.0f);")),
    "threadgroup memory": (
        "threadgroup-memory",
        KERNEL + " { // <\nthreadgroup float a[4096];\nthreadgroup float b[4097];\na[i] = b[i] = x[i]; y[i] = a[i];\n}",
        KERNEL + " {\nthreadgroup float a[4096];\nthreadgroup float b[4096];\na[i] = b[i] = x[i]; y[i] = a[i];\n}",
    ),
    "threadgroup memory of a template": (
        "threadgroup-memory",
        "template <typename T> kernel void f(device T *y [[buffer(0)]]) {\nthreadgroup T a[9000]; // <\na[0] = 1; y[0] = a[0];\n}\n"
        'template [[host_name("f_float")]] kernel void f<float>(device float *y [[buffer(0)]]);',
        "template <typename T> kernel void f(device T *y [[buffer(0)]]) {\nthreadgroup T a[9000];\na[0] = 1; y[0] = a[0];\n}\n"
        'template [[host_name("f_half")]] kernel void f<half>(device half *y [[buffer(0)]]);',
    ),
    "threadgroup initialiser": (
        "threadgroup-variable",
        body("threadgroup float s[2] = {0, 1}; // <\ny[i] = s[0];"),
        body("threadgroup float s[2];\ns[i] = 0; y[i] = s[0];"),
    ),
    "threadgroup variable outside a kernel": (
        "threadgroup-variable",
        "float f() {\nthreadgroup float s[2]; // <\nreturn s[0];\n}",
        "float f(threadgroup float *s) {\nreturn s[0];\n}",
    ),
    "ambiguous call": ("invalid", body("y[i] = min(i, 3); // <"), body("y[i] = min(i, 3u);")),
    "function named main": ("reserved-name", "float main() { return 1; } // <", "float start() { return 1; }"),
}


@needs_clang
@pytest.mark.parametrize("name", CASES)
def test_a_violation_is_refused_at_its_line(tmp_path, name):
    rule, wrong, _ = CASES[name]
    line = next(n for n, text in enumerate((HEAD + wrong).split("\n"), 1) if text.endswith("// <"))
    found = check(tmp_path, wrong)
    assert [(d.line, d.rule) for d in found] == [(line, rule)], "\n".join(map(str, found))
    diagnostic = found[0]
    assert diagnostic.file == str(tmp_path / "shader.metal") and diagnostic.fix
    text = (HEAD + wrong).split("\n")[line - 1]
    assert 1 <= diagnostic.column <= len(text) and not text[diagnostic.column - 1].isspace()
    assert str(diagnostic).startswith(f"{diagnostic.file}:{line}:{diagnostic.column}: ")
    assert "\n" not in str(diagnostic) and "__" not in str(diagnostic), "in Metal's words"


@needs_clang
@pytest.mark.parametrize("name", CASES)
def test_the_corrected_twin_is_clean(tmp_path, name):
    assert check(tmp_path, CASES[name][2]) == []


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
        while (!atomic_compare_exchange_weak_explicit(&counters[0], &old, old + 1, memory_order_relaxed, memory_order_relaxed)) {}
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
    text = "kernel void k(device float *x, constant uint &n, uint i [[thread_position_in_grid]]) { if (i < n) x[i] = 0; }"
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
    assert [(Path(d.file).name, d.line) for d in found] == [("a.metal", 3), ("a.metal", 4), ("b.metal", 3), ("b.metal", 4)]


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
