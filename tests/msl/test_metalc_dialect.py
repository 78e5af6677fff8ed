"""What Metal is beyond C++: overloads by address space, implicit indices, function constants, 16-bit conditionals."""

from pathlib import Path

import numpy as np
import pytest
from support.metallib import BUFFER, THREADGROUP, Library, compile_text

from pipeline import metalc
from pipeline.metalc.conditional import rewrite
from pipeline.metalc.toolchain import runnable_isas

SHADERS = Path(__file__).parent / "shaders"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialect")
    isa = runnable_isas()[-1]
    return Library(
        metalc.build([SHADERS / "dialect.metal"], folder / "x.metallib", [isa], build_dir=folder, optimize="1"), isa
    )


def run(library, name, *buffers, size=16, **options):
    out = np.zeros(size, np.float32)
    library.run(name, [out, *buffers], **options)
    return out


def test_overloads_that_differ_in_address_spaces(library):
    out = run(library, "spaces", np.array([10, 20], np.float32))
    assert out[:5].tolist() == [3 + 30 + 2, 2 + 101, 6 + 0.75, 35, 1.5]


def test_parameters_without_indices_take_the_free_ones(library):
    found = library.arguments("numbered")
    slots = {name: (argument.kind, argument.index) for name, argument in found.items()}
    assert slots == {
        "count": (BUFFER, 1),
        "out": (BUFFER, 0),
        "in": (BUFFER, 2),
        "scratch": (THREADGROUP, 0),
        "numbers": (BUFFER, 3),
        "strides": (BUFFER, 4),
        "flag": (THREADGROUP, 1),
    }
    assert library.members("numbered", "numbers") == {"at": (0, 3, 4)}
    buffers = [np.zeros(1, np.float32), np.array([4], np.uint32), np.array([0, 2], np.float32)]
    buffers += [np.array([0, 0, 3, 0], np.float32), np.array([0, 1], np.int64)]
    library.run("numbered", buffers, threadgroup=(4, 4))
    assert buffers[0][0] == 4 + 20 + 300 + 1000 + 5


def test_no_index_is_left(tmp_path):
    parameters = ", ".join(f"device float *a{n}" for n in range(32))
    with pytest.raises(metalc.CompileError, match=r"shader.metal:3: no \[\[buffer\(n\)\]\] is left for 'a31'"):
        compile_text(tmp_path, f"kernel void f({parameters}) {{}}")


def test_function_constants_are_listed(library):
    assert library.constants("specialised") == [("has_bias", 0, 53), ("scale_given", 5, 29), ("tint", 7, 6)]


def test_a_function_constant_needs_an_index(tmp_path):
    with pytest.raises(
        metalc.CompileError, match=r"shader.metal:3: the index of function constant 'c' must be an integer"
    ):
        compile_text(tmp_path, "constant int c [[function_constant(N)]];\nkernel void f(device int *a) {}")


@pytest.mark.parametrize(
    "constants, expected",
    [
        (None, [3, 0, 0, 0]),
        ({}, [3, 0, 0, 0]),
        ({"scale_given": np.array([2], np.int32)}, [2, 0, 0, 0]),
        ({"has_bias": np.array([False])}, [3, 0, 0, 1]),
        ({"has_bias": np.array([True]), "scale_given": np.array([4], np.int32)}, [4.5, 1, 0, 1]),
        ({"has_bias": np.array([True]), "tint": np.arange(4, dtype=np.float32)}, [3.5, 0, 1, 3]),
    ],
)
def test_values_of_function_constants(library, constants, expected):
    out = run(library, "specialised", np.array([0.5], np.float32), constants=constants)
    assert out[:4].tolist() == expected


def test_16_bit_floats(library):
    blocks = np.array([1.5, 4, 0, 0], np.float16)
    out = run(library, "halves", blocks)
    assert out[:11].tolist() == [
        2.5 + 0 + 2.5 - 1.25,
        4 + 20 + 400,
        1.5,
        8,
        3 + 2.5 + 4,
        3.5,
        3 + 8.75 + 1 + 3,
        2 + 10,
        1,
        1,
        2.5 + 2,
    ]


def test_parts_of_vectors_as_places(library):
    out = run(library, "places")
    v = [2 + 10, 1 - 5, 3 + 10, 8 * 2]
    assert out[0] == v[0] + 10 * v[1] + 100 * v[2] + 1000 * v[3]
    assert out[1] == 1 + 20, "a part that is kept is a copy"
    u = [24 + 1, 3 + 1, 19 + 1]
    assert out[2] == u[0] + 100 * u[1] + 1000 * u[2] - 1
    assert out[3:7].tolist() == [6 + 50 + 400, 1 + 0 + 0.75 + 4, 2.75 + 12 + 3, -1 + 5 + 512]


def test_matrices(library):
    given = np.arange(1, 7, dtype=np.float32)  # columns (1, 2), (3, 4), (5, 6)
    out = run(library, "matrices", given)
    assert out[:7].tolist() == [31 + 43, 15 + 3 - 2, 16 + 8, 9 + 6, 18 + 22, 24 + 1, -4]


def test_products_of_tiles(library):
    random = np.random.default_rng(1)
    a = random.integers(-4, 5, (10, 16)).astype(np.float32)
    b = random.integers(-4, 5, (8, 8)).astype(np.float16)
    out = run(library, "tiles", a, b, size=129)
    x = a[1:9, 8:]
    np.testing.assert_array_equal(out[:64].reshape(8, 8), x @ b.T.astype(np.float32) + 1)
    np.testing.assert_array_equal(out[64:128].reshape(8, 8), 2 * x.T)
    assert out[128] == 8 + 2 * x[0, 1]


def test_names_of_the_library_and_of_the_shader(library):
    out = run(library, "names")
    assert out[:4].tolist() == [4 + 3, 6 + 7, 6 + 7, 12 + 1 + 2]
    assert out[4] == np.float32(1.0) + np.float32(-1.0)
    assert out[5] == np.float32(0xFF80FF00) and out[6] == 0x7FFF and out[7] == 1
    assert out[8:13].tolist() == [7 + 48 + 32, 3 + 4 + 1, 3, 1 + 10 + 2 + 0.5 + 2, 1.5 + 1 + 1]


def test_instantiations(library):
    n, other = np.array([7], np.uint32), np.array([1.5], np.float16)
    assert run(library, "store_float_2", n)[0] == 9
    assert run(library, "store_typedef", n)[0] == 12
    assert run(library, "store_float_half_3", other)[0] == 4.5
    assert run(library, "deduced_float", np.array([1, 4], np.float32))[0] == 8
    whole = np.zeros(1, np.int32)
    library.run("store_int_4", [whole, n])
    assert whole[0] == 11
    assert library.functions["store_int_4"].static_threadgroup_length == 16


UNSUPPORTED = {
    "tensor": ("#include <metal_tensor>\n", "tensors are not supported; use device pointers or simdgroup_matrix"),
    "primitives": (
        "#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>\n",
        "tensor operations are not supported; use simdgroup_matrix",
    ),
    "ray tracing": (
        "#include <metal_raytracing>\n",
        "ray tracing is not supported; traverse a structure in device buffers",
    ),
    "texture": (
        "kernel void f(texture2d<float, access::read> t) {}",
        "parameter 't' of kernel 'f': textures are not supported; pass a buffer",
    ),
    "depth": ("kernel void f(depth2d<float> t [[texture(0)]]) {}", "textures are not supported; pass a buffer"),
    "tensor parameter": (
        "kernel void f(tensor<device half, dextents<int, 2>> t) {}",
        "tensors are not supported; pass a buffer and its strides",
    ),
    "structure": (
        "kernel void f(acceleration_structure<instancing> a [[buffer(0)]]) {}",
        "ray tracing is not supported; pass a buffer",
    ),
    "functions": (
        "kernel void f(visible_function_table<int(int)> t [[buffer(0)]]) {}",
        "function tables are not supported",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_one_line(tmp_path, name):
    text, message = UNSUPPORTED[name]
    with pytest.raises(metalc.CompileError) as caught:
        compile_text(tmp_path, text)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{tmp_path}/shader.metal:3: ") and message in first, first


@pytest.mark.parametrize(
    "text",
    [
        "half a = c ? 1 : 2;",  # integers alone
        "constexpr half a = n > 1 ? x : y;",  # a constant expression
        "half a; auto f = c ? [] { return 1; }() : b;",  # C++17 has no lambda in decltype
        "half a; x = c ? : b;",
        "float a = c ? x : y;",  # no 16-bit float in the file
    ],
)
def test_conditionals_that_are_left_alone(text):
    assert rewrite(text) == text


def test_conditionals_nest_and_keep_their_lines():
    text = "half r = a ? f<b, c>(x) :\n d >> 1 ? e : g[h ? 1 : i],\n z = 0;"
    found = rewrite(text)
    assert found.count("\n") == 2 and found.count("arm<decltype(") == 14  # six, and those in the copies
    assert found.startswith("half r = a ? metal::metal_detail::arm<decltype(")
    assert found.endswith(",\n z = 0;") and "(f<b, c>(x)) :\n" in found and "> >" not in found


def test_a_conditional_that_is_left_alone_is_part_of_the_arm_around_it():
    text = "half h; x = a ? b : c ? 1u : 2u; y = a ? c ? 1 : 2 : b;"
    arm = "metal::metal_detail::arm<decltype({})>({})"
    inner, second = "c ? 1u : 2u", "c ? 1 : 2 "
    assert rewrite(text) == (
        f"half h; x = a ? {arm.format(inner, 'b')} : {arm.format('b', inner)}; "
        f"y = a ? {arm.format('b', second.strip())} : {arm.format(second.strip(), 'b')};"
    )


CAST = """
template <typename T, const int N, const bool twice, bool more = false>
[[kernel, max_total_threads_per_threadgroup(N * 32)]] void f(device T *x [[buffer(0)]]) {
    x[0] = T(N) * (twice ? 2 : 1) + more;
}
template [[host_name("once")]] [[kernel]] decltype(f<float, 3, (bool)0>) f<float, 3, (bool)0>;
template [[host_name("twice")]] [[kernel]] decltype(f<float, 3, (bool)1, (1 < 2)>) f<float, 3, (bool)1, (1 < 2)>;
"""


def test_casts_among_the_arguments_of_a_template(tmp_path):
    library = compile_text(tmp_path, CAST)
    for name, value in (("once", 3), ("twice", 7)):
        x = np.zeros(1, np.float32)
        library.run(name, [x])
        assert x[0] == value


LISTED = """
struct Three {
    float v[3];
    thread Three &operator=(initializer_list<float> from) thread {
        size_t k = 0;
        for (float one : from) v[k++] = one;
        return *this;
    }
};
struct Buffer { uint n; };
static inline void add(coherent device Buffer &to, coherent(device) device const uint *from,
                       device coherent uint *out) {
    to.n += from[0];
    out[0] = to.n;
}
kernel void f(coherent device Buffer *b [[buffer(0)]], coherent(system) device uint *out [[buffer(1)]]) {
    Three three;
    three = {1, 2, 4};
    uint coherent = uint(three.v[0] + three.v[1] + three.v[2]);
    out[1] = coherent * 2;
    add(b[0], out + 1, out);
}
"""


def test_lists_and_coherent_memory(tmp_path):
    b, out = np.array([3], np.uint32), np.zeros(2, np.uint32)
    compile_text(tmp_path, LISTED).run("f", [b, out])
    assert (b[0], out.tolist()) == (17, [17, 14])
