"""Strict MSL: for each rule a small shader that breaks it, refused at its line, and its corrected twin."""

import pytest
from support.strict import HEAD, check, needs_clang

KERNEL = (
    "kernel void k(device float *y [[buffer(0)]], device const float *x [[buffer(1)]], "
    "uint i [[thread_position_in_grid]])"
)


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
    "list of initialisers": (
        "invalid",
        "struct S { threadgroup float *p; };\nfloat f(S s) { return s.p[0]; }\n"
        + body("float a[4] = {};\ny[i] = f({a}); // <"),
        "struct S { threadgroup float *p; };\nfloat f(S s) { return s.p[0]; }\n"
        + body("threadgroup float a[4];\ny[i] = f({a});"),
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
        "float g(threadgroup const float *p) { return p[0]; }\n"
        "template <typename P> float f(P p) { return g(p); // <\n}\n" + body("y[i] = f(x);"),
        "float g(device const float *p) { return p[0]; }\ntemplate <typename P> float f(P p) { return g(p);\n}\n"
        + body("y[i] = f(x);"),
    ),
    "device object as thread reference": (
        "address-space",
        "struct S { float a; };\nvoid f(thread S &s) { s.a = 1; }\n"
        "kernel void k(device S *s [[buffer(0)]]) {\nf(s[0]); // <\n}",
        "struct S { float a; };\nvoid f(device S &s) { s.a = 1; }\n"
        "kernel void k(device S *s [[buffer(0)]]) {\nf(s[0]);\n}",
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
    "const dropped": (
        "read-only",
        body("device float *p = x; // <\np[i] = 1;"),
        body("device float *p = y;\np[i] = 1;"),
    ),
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
        "kernel void a(device float *x [[buffer(0)]]) { x[0] = 1; }\n"
        "kernel void b(device float *x [[buffer(0)]]) {\na(x); // <\n}",
        "void f(device float *x) { x[0] = 1; }\nkernel void b(device float *x [[buffer(0)]]) {\nf(x);\n}",
    ),
    "recursion": (
        "recursion",
        "uint f(uint n) {\nreturn n ? n * f(n - 1) : 1; // <\n}",
        "uint f(uint n) {\nuint r = 1; while (n) r *= n--; return r;\n}",
    ),
    "mutual recursion": (
        "recursion",
        "uint odd(uint n);\nuint even(uint n) { return n ? odd(n - 1) : 1; } // <\n"
        "uint odd(uint n) { return n ? even(n - 1) : 0; }",
        "uint odd(uint n) { return n % 2; }\nuint even(uint n) { return 1 - odd(n); }",
    ),
    "double": ("double", body("double a = x[i]; // <\ny[i] = a;"), body("float a = x[i];\ny[i] = a;")),
    "function pointer": (
        "function-pointer",
        "float f(float a) { return a; }\n" + body("float (*g)(float) = f; // <\ny[i] = g(x[i]);"),
        "float f(float a) { return a; }\n" + body("y[i] = f(x[i]);"),
    ),
    "long double": ("double", body("y[i] = 1.0L; // <"), body("y[i] = 1.0f;")),
    "narrowing": (
        "narrowing",
        body("int n = 3;\nuint a[2] = {n, 1}; // <\ny[i] = a[0];"),
        body("int n = 3;\nuint a[2] = {uint(n), 1};\ny[i] = a[0];"),
    ),
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
    "new": (
        "dynamic-allocation",
        body("auto p = new float[4]; // <\ny[i] = p[0];"),
        body("float p[4] = {};\ny[i] = p[0];"),
    ),
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
        "template <typename T> kernel void f(device T *y [[buffer(0)]]) {\n"
        "threadgroup T a[9000]; // <\na[0] = 1; y[0] = a[0];\n}\n"
        'template [[host_name("f_float")]] kernel void f<float>(device float *y [[buffer(0)]]);',
        "template <typename T> kernel void f(device T *y [[buffer(0)]]) {\n"
        "threadgroup T a[9000];\na[0] = 1; y[0] = a[0];\n}\n"
        'template [[host_name("f_half")]] kernel void f<half>(device half *y [[buffer(0)]]);',
    ),
    "threadgroup initialiser": (
        "threadgroup-variable",
        body("threadgroup float s[2] = {x[i], 1}; // <\ny[i] = s[0];"),
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
