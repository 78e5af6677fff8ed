"""Values of function constants: from Python, from the command line, of every type; one line where one is lacking."""

import json

import numpy as np
import pytest

from pipeline import _core, check
from pipeline.device.kernels import Library
from pipeline.errors import BuildError, CompileError

HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"
SHADER = (
    HEADER
    + """
constant uint n [[function_constant(0)]];
constant float scale [[function_constant(3)]];
constant bool negative [[function_constant(4)]];
constant float4 tint [[function_constant(5)]];
constant half3 small [[function_constant(6)]];
constant bfloat wide [[function_constant(7)]];
constant long large [[function_constant(8)]];
constant int given [[function_constant(9)]];
constant int or_three = is_function_constant_defined(given) ? given : 3;
constant uint twice = 2 * n;
namespace more { constant char low [[function_constant(10)]]; }
float scaled(float x) { return x * scale; }
template <typename T> T signed_(T x) { return negative ? -x : x; }
kernel void plain(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i] = 1; }
kernel void some(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    if (i < twice) y[i] = signed_(scaled(1));
}
kernel void types(device float *y [[buffer(0)]]) {
    y[0] = tint.x + 10 * tint.w; y[1] = small.y + small.z; y[2] = wide; y[3] = large / (1l << 40); y[4] = more::low;
}
kernel void optional(device float *y [[buffer(0)]]) { y[0] = or_three; }
"""
)
TYPES = {"tint": (1, 2, 3, 4), "small": [0, 0.5, 2], "wide": 1.0 / 3, "large": 5 << 40, "low": -7}


@pytest.fixture(scope="module", params=["cpu", "checker"])
def library(request):
    device = _core.open_device(request.param)
    return Library(device, device.compile(SHADER))


def run(library, name, constants=None, count=6):
    y = np.zeros(count, np.float32)
    threads = 1 if library.core.constants(name) and name != "some" else 2
    library.kernel(name, constants=constants).run(y, grid=1 if threads == 1 else count, threads=1)
    return y.tolist()


def test_values_reach_the_kernel(library):
    assert run(library, "some", {"n": 2, "scale": 0.5, "negative": True}) == [-0.5] * 4 + [0, 0]
    assert run(library, "some", {"n": 1, "scale": 3, "negative": False}) == [3, 3, 0, 0, 0, 0]


def test_every_type(library):
    assert run(library, "types", TYPES) == [41, 2.5, np.float32(0.333984375), 5, -7, 0]


def test_a_constant_may_be_optional(library):
    assert run(library, "optional")[0] == 3
    assert run(library, "optional", {"given": 8})[0] == 8


def test_a_kernel_that_uses_none_needs_none(library):
    assert run(library, "plain") == [1] * 6
    assert library.core.constants("plain") == ()
    found = [(each.name, each.index, each.required) for each in library.core.constants("some")]
    assert found == [("n", 0, True), ("scale", 3, True), ("negative", 4, True)]
    assert [each.required for each in library.core.constants("optional")] == [False]


@pytest.mark.parametrize(
    "kernel, constants, error, words",
    [
        ("some", None, CompileError, ["some", "'n'", "[[function_constant(0)]]", "'scale'", "'negative'"]),
        ("some", {"n": 1, "negative": True}, CompileError, ["'scale'", "[[function_constant(3)]]"]),
        ("some", {"m": 1}, BuildError, ["no function constant called m", "n, scale, negative"]),
        ("plain", {"n": 1}, BuildError, ["plain", "no function constant called n", "none"]),
        ("some", {"n": -1}, BuildError, ["n = -1 does not fit"]),
        ("some", {"n": "x"}, BuildError, ["n = 'x' does not fit"]),
        ("types", {"tint": (1, 2)}, BuildError, ["tint = (1, 2) does not fit", "a vector of 4"]),
    ],
)
def test_what_does_not_fit_is_one_line(library, kernel, constants, error, words):
    with pytest.raises(error) as raised:
        library.kernel(kernel, constants=constants)
    assert "\n" not in str(raised.value) and all(word in str(raised.value) for word in words), str(raised.value)


# The command line


def command(capsys, folder, *arguments):
    (folder / "f.metal").write_text(SHADER)
    code = check.main([str(folder / "f.metal"), "--no-lint", *arguments])
    return code, *capsys.readouterr()


RUN = ["--run", "some", "--grid", "4", "--threads", "4", "--buffer", "0=zeros:4:float"]


def test_the_command_line_gives_values(tmp_path, capsys):
    given = ["--constant", "n=1", "--constant", "scale=2.5", "--constant", "negative=true"]
    code, out, _ = command(capsys, tmp_path, *RUN, *given, "--json")
    shown = json.loads(out)
    assert code == 0 and shown["run"]["written"][0]["first_values"] == [-2.5, -2.5, 0, 0]
    constants = {each["name"]: each["constants"] for each in shown["files"][0]["kernels"]}
    assert constants["some"][0] == {"name": "n", "index": 0, "type": "uint", "required": True}
    assert [each["type"] for each in constants["types"]] == ["float4", "half3", "bfloat", "long", "char"]
    assert constants["plain"] == []


def test_the_list_of_kernels_shows_them(tmp_path, capsys):
    code, out, _ = command(capsys, tmp_path)
    assert code == 0 and "function constant 3: float scale, needs a value" in out
    assert "function constant 9: int given, may have a value" in out


@pytest.mark.parametrize(
    "options, words",
    [
        ([], ["function constant 'n' (uint, index 0) has no value", "--constant n=VALUE"]),
        (["n=1", "scale=1"], ["'negative' (bool, index 4)"]),
        (["n"], ["--constant n: write NAME=VALUE"]),
        (["n=1", "n=2"], ["n is given twice"]),
        (["m=1"], ["no function constant of that name", "n, scale, negative"]),
        (["n=1.5", "scale=1", "negative=1"], ["'1.5' is no uint"]),
        (["n=-1", "scale=1", "negative=1"], ["n = -1 does not fit"]),
        (["n=1", "scale=1,2", "negative=1"], ["a float takes 1 value, not 2"]),
        (["n=1", "scale=1", "negative=maybe"], ["'maybe' is no bool"]),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, capsys, options, words):
    given = [word for option in options for word in ("--constant", option)]
    code, _, err = command(capsys, tmp_path, *RUN, *given)
    assert code == 2 and err.count("\n") == 1 and all(word in err for word in words), err


def test_a_name_that_means_something_else_needs_no_value():
    """A variable, a parameter, a member, and a loop's variable with the name of a kernel that has constants."""
    shader = (
        HEADER
        + """
constant uint n [[function_constant(0)]];
struct Pair { uint n; };
uint twice(uint n) { return 2 * n; }
kernel void k(device uint *y [[buffer(0)]]) { y[0] = n; }
kernel void variable(device uint *y [[buffer(0)]]) { uint n = 3; y[0] = n; }
kernel void others(device uint *y [[buffer(0)]]) {
    Pair pair;
    pair.n = twice(4);
    for (uint k = 0; k < 5; k++) pair.n += k;
    y[0] = pair.n;
}
kernel void inner(device uint *y [[buffer(0)]]) { { uint n = 1; y[1] = n; } y[0] = n; }
"""
    )
    device = _core.open_device("cpu")
    library = Library(device, device.compile(shader))
    y = np.zeros(2, np.uint32)
    for name, expected in (("variable", 3), ("others", 18)):
        library.kernel(name).run(y, grid=1, threads=1)
        assert y[0] == expected
    for name in ("k", "inner"):
        with pytest.raises(CompileError, match="function constant 'n'"):
            library.kernel(name)
        library.kernel(name, constants={"n": 9}).run(y, grid=1, threads=1)
        assert y[0] == 9
