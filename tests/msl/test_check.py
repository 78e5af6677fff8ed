"""`python -m pipeline.check`: what it lists, finds and prints, its exit codes, and one line for each mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT

from pipeline import check, strict
from pipeline.checking.buffers import parse_buffer, shown
from pipeline.errors import UsageError

SHADER = """\
#include <metal_stdlib>
using namespace metal;
struct Args { uint n; float scale; };
#ifndef SIZE
#define SIZE 64
#endif
kernel void total(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant Args &args [[buffer(2)]],
                  threadgroup float *partial [[threadgroup(0)]], uint i [[thread_index_in_threadgroup]],
                  uint size [[threads_per_threadgroup]], uint row [[threadgroup_position_in_grid]]) {
    float sum = 0;
    for (uint k = i; k < args.n; k += size) sum += x[row * args.n + k];
    partial[i] = sum;
#ifndef WRONG
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
    float all = 0;
    for (uint k = 0; k < size; k++) all += partial[k];
    if (i == 0) y[row] = all * args.scale;
}
kernel void places(device uint *y [[buffer(3)]], uint3 at [[thread_position_in_grid]],
                   uint3 grid [[threads_per_grid]]) {
    y[(at.z * grid.y + at.y) * grid.x + at.x] = SIZE + at.x + 10 * at.y + 100 * at.z;
}
"""
LINE = {line.strip(): number for number, line in enumerate(SHADER.splitlines(), 1)}
RACE = LINE["for (uint k = 0; k < size; k++) all += partial[k];"]


@pytest.fixture
def shader(tmp_path, monkeypatch):
    """Runs in a folder with shaders in it and files of their arguments."""
    monkeypatch.chdir(tmp_path)
    Path("sum.metal").write_text(SHADER)
    np.save("args.npy", np.array([(100, 0.5)], dtype=[("n", "u4"), ("scale", "f4")]))
    np.save("x.npy", np.arange(300, dtype=np.float32))
    return "sum.metal"


TOTAL = [
    "--run",
    "total",
    "--threadgroups",
    "3",
    "--threads",
    "32",
    "--threadgroup-memory",
    "0=128",
    "--buffer",
    "0=x.npy",
    "--buffer",
    "1=empty:3:float",
    "--buffer",
    "2=args.npy",
]
PLACES = ["--run", "places", "--grid", "7,3,2", "--threads", "4,2,1", "--buffer", "3=empty:2,3,7:uint"]


def run(capsys, *arguments):
    code = check.main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *arguments, words=()):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and err.startswith("onebuf: error: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err
    return out


# What works


def test_an_argument_that_depends_on_a_function_constant_is_bound_all_the_same(tmp_path, capsys):
    shader = tmp_path / "f.metal"
    shader.write_text(
        """
#include <metal_stdlib>
using namespace metal;
constant bool has_bias [[function_constant(0)]];
kernel void f(device float *y [[buffer(0)]], device const float *bias [[buffer(1), function_constant(has_bias)]]) {
    y[0] = has_bias ? bias[0] : -1;
}
"""
    )
    arguments = [shader, "--run", "f", "--grid", 1, "--threads", 1, "--buffer", "0=empty:1:float", "--json"]
    arguments += ["--constant", "has_bias=false"]
    refused(capsys, *arguments, words=["'bias'", "needs --buffer 1=..."])
    code, out, _ = run(capsys, *arguments, "--buffer", "1=ones:1:float")
    assert code == 0 and json.loads(out)["run"]["written"][0]["first_values"] == [-1]


def test_a_list_of_kernels(shader, capsys):
    code, out, err = run(capsys, shader)
    assert code == 0 and err == ""
    line = next(number for text, number in LINE.items() if text.startswith("kernel void total("))
    assert f"sum.metal:{line}: kernel total\n" in out and "kernel places" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["0", "x", "device", "const", "float", "*", "read", "4"] in rows
    assert ["1", "y", "device", "float", "*", "read-write", "4"] in rows
    assert ["2", "args", "constant", "Args", "&", "read", "8"] in rows
    assert ["threadgroup", "0", "partial", "threadgroup", "float", "*", "threadgroup", "4"] in rows
    assert "thread_position_in_grid, threads_per_grid" in out and "2 kernels, the lint finds nothing" in out


def test_a_clean_run(shader, capsys):
    code, out, err = run(capsys, shader, *TOTAL, "--save", "1=y.npy")
    assert code == 0 and err == "" and "nothing found" in out and "8 orders" in out
    sums = np.arange(300).reshape(3, 100).sum(1) * 0.5
    assert np.array_equal(np.load("y.npy"), sums)
    assert "buffer 1, 'y', 3 float32:" in out and str(sums.astype(np.float32)) in out


def test_a_run_with_a_finding(shader, capsys):
    code, out, err = run(capsys, shader, *TOTAL, "-D", "WRONG", "--schedules", 3)
    assert code == 1 and err == "" and "3 orders" in out
    assert f"sum.metal:{RACE}: race: kernel 'total', 'partial' at threadgroup index 0" in out
    assert f"   {RACE} | for (uint k = 0; k < size; k++) all += partial[k];\n" in out
    assert f"    sum.metal:{LINE['partial[i] = sum;']}, a write by thread (" in out and "| partial[i] = sum;\n" in out
    assert "To fix it: put threadgroup_barrier(mem_flags::mem_threadgroup) between them" in out


def test_a_run_that_is_stopped(shader, capsys):
    code, out, err = run(capsys, shader, *TOTAL[:-4], "--buffer", "1=empty:2:float", "--buffer", "2=args.npy")
    assert code == 1 and "out of bounds: kernel 'total', 'y' at buffer index 1" in out
    assert "The run was stopped" in out


def test_grids_in_threads_with_partial_edges_macros_and_includes(shader, capsys):
    Path("include").mkdir()
    Path("include/size.h").write_text("#define SIZE 1000\n")
    Path(shader).write_text('#include "size.h"\n' + SHADER)
    code, out, _ = run(capsys, shader, *PLACES, "-I", "include", "--save", "3=places.npy")
    z, y, x = np.indices((2, 3, 7))
    assert code == 0 and np.array_equal(np.load("places.npy"), 1000 + x + 10 * y + 100 * z)
    assert "7 x 3 x 2 threads in threadgroups of 4 x 2 x 1" in out


@pytest.mark.parametrize(
    "sizes, noted",
    [
        (("--grid", "1,1,1", "--threads", "128,1,1"), "no threadgroup has more than 1 of its 128"),
        (("--grid", "2,3", "--threads", "4,4"), "no threadgroup has more than 6 of its 16"),
        (("--grid", "65", "--threads", "64"), None),  # the last threadgroup may be small
        (("--grid", "60", "--threads", "64"), None),
        (("--threadgroups", "1", "--threads", "64"), None),
    ],
)
def test_a_grid_that_leaves_every_threadgroup_nearly_empty_is_noted(shader, capsys, sizes, noted):
    arguments = [shader, "--no-lint", "--run", "places", *sizes, "--buffer", "3=empty:200:uint"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and ("note: --grid" in out) == (noted is not None)
    if noted:
        assert noted in out and f"write --threadgroups {sizes[1]}" in out
        _, out, _ = run(
            capsys, shader, "--no-lint", "--run", "places", *sizes, "--buffer", "3=empty:200:uint", "--json"
        )
        assert noted in json.loads(out)["run"]["notes"][0]


def test_json(shader, capsys):
    code, out, err = run(capsys, shader, *TOTAL, "-D", "WRONG=1", "--json")
    shown = json.loads(out)
    assert code == 1 and err == ""
    (file,) = shown["files"]
    assert file["file"] == "sum.metal" and file["error"] is None and file["lint"] == []
    total, places = file["kernels"]
    assert [argument["index"] for argument in total["arguments"]] == [0, 1, 2, 0] and places["name"] == "places"
    assert total["arguments"][2]["members"] == {"n": 0, "scale": 4}
    found = [finding for finding in shown["run"]["findings"] if finding["kind"] == "race"]
    assert found and RACE in {found[0]["here"]["line"], found[0]["there"]["line"]}
    (written,) = shown["run"]["written"]
    assert written["index"] == 1 and written["shape"] == [3] and len(written["first_values"]) == 3


def test_the_lint(shader, capsys):
    Path("loose.metal").write_text(
        "#include <metal_stdlib>\nusing namespace metal;\n"
        "static float first(float *p) { return p[0]; }\n"
        "kernel void f(device float *x [[buffer(0)]]) { x[1] = first(x); }\n"
    )
    code, out, _ = run(capsys, "loose.metal")
    assert code == 1 and "loose.metal:3:" in out and "lint: " in out and "address space" in out
    assert "    3 | static float first(float *p)" in out and "To fix it: " in out
    code, out, _ = run(capsys, "loose.metal", "--json")
    assert code == 1 and json.loads(out)["files"][0]["lint"][0]["line"] == 3
    code, out, _ = run(capsys, "loose.metal", "--no-lint")
    assert code == 0 and "lint" not in out


def test_without_what_the_lint_needs(shader, capsys, monkeypatch):
    monkeypatch.setattr(strict, "available", lambda: False)
    code, out, err = run(capsys, shader)
    assert code == 0 and "kernel total" in out and err == f"onebuf: no lint: {strict.INSTALL}\n"


def test_several_files(shader, capsys):
    Path("other.metal").write_text(SHADER.replace("total", "other"))
    code, out, _ = run(capsys, shader, "other.metal", "--compile-only")
    assert code == 0 and out == "sum.metal: compiles\nother.metal: compiles\n"
    refused(capsys, shader, "other.metal", *PLACES, words=["places", "sum.metal and other.metal"])
    code, out, _ = run(capsys, shader, "other.metal", *TOTAL)
    assert code == 0 and "kernel other" in out and "nothing found" in out


# Buffers


@pytest.mark.parametrize(
    "text, dtype, values",
    [
        ("0=zeros:2,3:half", "float16", np.zeros((2, 3))),
        ("1=ones:4:uint8", "uint8", np.ones(4)),
        ("2=1000:uint", "uint32", [1000]),
        ("2=-1,0x10:int16", "int16", [-1, 16]),
        ("2=1.5,nan,-inf:float", "float32", [1.5, np.nan, -np.inf]),
        ("2=true,0:bool", "bool", [1, 0]),
        ("2=1.00390625,2.5:bfloat", "bfloat16", [1.0, 2.5]),
        ("0=ones:2:bfloat16", "bfloat16", [1, 1]),
        ("2=-9223372036854775808:long", "int64", [-(2**63)]),
    ],
)
def test_what_buffers_hold(text, dtype, values):
    option = parse_buffer(text)
    assert option.index == int(text[0]) and option.dtype == dtype
    assert (
        np.array_equal(shown(option.values, option.dtype), values, equal_nan=True)
        and option.values.shape == option.shape
    )


def test_random_buffers():
    first, again, other = (parse_buffer(f"0=random:50:float{seed}").values for seed in ("", ":0", ":1"))
    assert np.array_equal(first, again) and not np.array_equal(first, other) and 0.5 < first.std() < 2
    whole = parse_buffer("0=random:50:ushort").values
    assert whole.dtype == np.uint16 and 50 < whole.max() < 100
    assert set(parse_buffer("0=random:50:bool").values) == {False, True}
    assert 0.5 < shown(parse_buffer("0=random:50:bfloat").values, "bfloat16").std() < 2


def test_nothing_writes_an_empty_buffer(shader, capsys):
    assert parse_buffer("0=empty:4:float").values is None
    code, out, _ = run(capsys, shader, *(word.replace("0=x.npy", "0=empty:300:float") for word in TOTAL))
    assert code == 1 and "uninitialised read: kernel 'total', 'x' at buffer index 0" in out


def test_files_of_other_types(tmp_path):
    np.save(tmp_path / "big.npy", np.arange(3, dtype=">u2"))
    np.save(tmp_path / "order.npy", np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)))
    assert parse_buffer(f"0={tmp_path}/big.npy").values.tobytes() == np.arange(3, dtype=np.uint16).tobytes()
    assert np.array_equal(parse_buffer(f"0={tmp_path}/order.npy").values, np.arange(6).reshape(2, 3))


BAD_BUFFERS = {
    "": "INDEX=",
    "zeros:4:float": "INDEX=",
    "x=zeros:4:float": "INDEX=",
    "0=": "INDEX=",
    "0=zeros:4": "zeros:SHAPE:DTYPE",
    "0=zeros:4:float:1": "zeros:SHAPE:DTYPE",
    "0=zeros:x:float": "'x'",
    "0=zeros::float": "''",
    "0=zeros:-4:float": "'-4'",
    "0=zeros:0:float": "0 bytes",
    "0=zeros:4:double": "'double'",
    "0=zeros:4:float64": "no dtype 'float64'",
    "0=random:4:float:x": "the seed",
    "0=random:4": "random:SHAPE:DTYPE[:SEED]",
    "0=zeros:99999999,99999999:float": "bytes; a buffer has",
    "0=zeros:2000000000:float": "8000000000 bytes",
    "0=abc:int": "'abc' is no int32",
    "0=1.5:int": "'1.5' is no int32",
    "0=300:uchar": "holds 0 to 255",
    "0=-1:uint": "holds 0 to 4294967295",
    "0=2:bool": "'2' is no bool",
    "0=x:float": "'x' is no float32",
    "0=none.npy": "no such file; check the path",
    "0=none": "INDEX=FILE.npy",
    "0=text.npy": ".npy format",
    "0=double.npy": "float64, which Metal lacks",
    "0=objects.npy": ".npy format",
    "0=empty.npy": "an empty array",
    "0=many.npy": "several arrays",
    "0=folder.npy": "directory",
}


@pytest.mark.parametrize("text", BAD_BUFFERS)
def test_bad_buffers(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.npy").write_text("nothing")
    Path("folder.npy").mkdir()
    np.save("double.npy", np.zeros(3))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    np.save("empty.npy", np.zeros(0, np.float32))
    with open("many.npy", "wb") as file:
        np.savez(file, a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(UsageError) as error:
        parse_buffer(text)
    assert str(error.value).startswith(f"--buffer {text}: ") and BAD_BUFFERS[text] in str(error.value)


# Bad options


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["FILE.metal", "--help"]),
        (["sum.metal", "--what"], ["--what", "--help"]),
        (["sum.metal", "--grid", "4"], ["--grid needs --run"]),
        (["sum.metal", "--buffer", "0=zeros:4:float"], ["--buffer needs --run"]),
        (["sum.metal", "--schedules", "2"], ["--schedules needs --run"]),
        (["sum.metal", "--run", "total", "--compile-only"], ["exclude"]),
        (["sum.metal", "--run", "total", "--threads", "4"], ["--grid", "--threadgroups"]),
        (["sum.metal", "--run", "total", "--grid", "4", "--threadgroups", "4", "--threads", "4"], ["one of"]),
        (["sum.metal", "--run", "total", "--grid", "4"], ["--threads"]),
        ([*PLACES, "--grid", "4,x", "sum.metal"], ["--grid x"]),
        ([*PLACES, "--grid", "1,2,3,4", "sum.metal"], ["three"]),
        ([*PLACES, "--grid", "0", "sum.metal"], ["from 1"]),
        ([*PLACES, "--grid", "99999,99999", "sum.metal"], ["in all"]),
        ([*PLACES, "--threads", "-4", "sum.metal"], ["--threads"]),
        ([*PLACES, "--threads", "64,64", "sum.metal"], ["64 x 64 x 1", "1024"]),
        ([*PLACES, "--schedules", "0", "sum.metal"], ["1 to 1000"]),
        ([*PLACES, "--schedules", "many", "sum.metal"], ["many"]),
        ([*TOTAL, "--threadgroup-memory", "0=20", "sum.metal"], ["multiple of 16"]),
        ([*TOTAL, "--threadgroup-memory", "0", "sum.metal"], ["INDEX=BYTES"]),
        ([*TOTAL, "--threadgroup-memory", "0=256", "sum.metal"], ["twice"]),
        ([*TOTAL, "--threadgroup-memory", "1=64", "sum.metal"], ["--threadgroup-memory 1", "no threadgroup argument"]),
        ([*TOTAL, "--threadgroup-memory", "31=64", "sum.metal"], ["0 to 30"]),
        ([*TOTAL, "--buffer", "0=zeros:4:float", "sum.metal"], ["twice"]),
        ([*TOTAL, "--buffer", "31=zeros:4:float", "sum.metal"], ["0 to 30"]),
        ([*TOTAL, "--buffer", "7=zeros:4:float", "sum.metal"], ["--buffer 7", "it has 0, 1, 2"]),
        ([*TOTAL[:-2], "sum.metal"], ["'args' (constant Args &) needs --buffer 2"]),
        ([*TOTAL[:-2], "--buffer", "2=1:uint", "sum.metal"], ["--buffer 2: 4 bytes", "'args', which has 8"]),
        (["--run", "nothing", *PLACES[2:], "sum.metal"], ["no such kernel", "total, places"]),
        ([*PLACES, "--save", "3=y.txt", "sum.metal"], [".npy"]),
        ([*PLACES, "--save", "1=y.npy", "sum.metal"], ["no --buffer has index 1"]),
        ([*PLACES, "--save", "3=no/y.npy", "sum.metal"], ["no folder no"]),
        ([*PLACES, "--save", "y.npy", "sum.metal"], ["INDEX=FILE.npy"]),
        (["none.metal"], ["none.metal", "no such file"]),
        (["."], [".", "no such file"]),
    ],
)
def test_bad_options(shader, capsys, arguments, words):
    refused(capsys, *arguments, words=words)


DRAWING = """\
struct Corner { float4 position [[position]]; float2 at; };
vertex Corner corner(uint id [[vertex_id]], device const float2 *p [[buffer(0)]]) {
    return {float4(p[id], 0, 1), p[id]};
}
fragment float4 color(Corner in [[stage_in]], texture2d<float> t [[texture(0)]], sampler s [[sampler(0)]]) {
    if (fwidth(in.at.x) + dfdx(in.at.y) + dfdy(in.at.y) > 1) discard_fragment();
    return t.sample(s, in.at);
}
"""


@pytest.mark.parametrize("text", [DRAWING, "static int f() { return 1; }\n"])
def test_files_without_compute_kernels(capsys, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("draw.metal").write_text(f"#include <metal_stdlib>\nusing namespace metal;\n{text}")
    assert check.main(["draw.metal"]) == 0
    assert capsys.readouterr().out == "draw.metal: no compute kernels, the lint finds nothing\n"
    assert check.main(["draw.metal", "--no-lint", "--cases"]) == 0
    assert capsys.readouterr().out == "draw.metal: no compute kernels\n"
    refused(
        capsys, "draw.metal", "--run", "f", "--grid", "1", "--threads", "1", words=["draw.metal: no compute kernels"]
    )


@pytest.mark.parametrize(
    "text, words",
    [
        ("kernel void f(device float *x [[buffer(0)]]) { x[0] = y; }", ["bad.metal:3", "y"]),
        ("kernel int f(device float *x [[buffer(0)]]) { return 1; }", ["bad.metal:3", "must return void"]),
        ("kernel void f(tensor<device half, dextents<int, 2>> t) {}", ["bad.metal:3", "tensors are not supported"]),
        ('#include "none.h"\nkernel void f() {}', ["bad.metal:3", "none.h"]),
    ],
)
def test_files_that_do_not_compile(shader, capsys, text, words):
    Path("bad.metal").write_text(f"#include <metal_stdlib>\nusing namespace metal;\n{text}\n")
    refused(capsys, "bad.metal", words=words)
    out = refused(capsys, "bad.metal", shader, words=words)
    assert "kernel total" in out  # the other file is still listed
    code, out, _ = run(capsys, "bad.metal", "--json")
    assert code == 2 and all(word in json.loads(out)["files"][0]["error"] for word in words)


TEXTURES = """\
#include <metal_stdlib>
#include <metal_texture>
using namespace metal;
constexpr sampler linear(coord::normalized, address::clamp_to_edge, filter::linear);
struct Images { array<texture2d<float>, 2> some; device float *out; };
struct More { Images inner; };
float4 fetch(texture2d<float> t, float2 at) { return t.sample(linear, at, level(0)) + t.gather(linear, at); }
kernel void blur(texture2d<float, access::read_write> in [[texture(0)]], depth2d<float> d [[texture(1)]],
                 sampler s [[sampler(0)]], uint2 at [[thread_position_in_grid]]) {
    if (at.x < in.get_width()) in.write(in.read(at) * d.sample(s, float2(at)), at);
    in.fence();
}
kernel void many(constant More &images [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    images.inner.out[i] = images.inner.some[0].read(uint2(i, 0)).x;
}
kernel void doubled(device float *x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] *= 2; }
"""
RUN_DOUBLED = ["--run", "doubled", "--grid", 4, "--threads", 4, "--buffer", "0=1,2,3,4:float"]


def test_kernels_of_a_file_with_textures_run(shader, capsys):
    """Those that take a texture, also in a struct, are listed with the reason, and refused when they are to run."""
    Path("images.metal").write_text(TEXTURES)
    code, out, err = run(capsys, "images.metal", *RUN_DOUBLED, "--expect", "0=2,4,6,8:float")
    assert (code, err) == (0, "") and "3 kernels, the lint finds nothing" in out
    assert "cannot be run: parameter 'in' of kernel 'blur': textures are not supported; pass a buffer" in out
    assert "parameter 'images' of kernel 'many' has a member that no buffer can hold: textures" in out
    refused(capsys, "images.metal", "--run", "blur", "--grid", 4, "--threads", 4, words=["--run blur: images.metal:8:"])
    Path("images.metal").write_text(TEXTURES.split("kernel void doubled")[0])
    code, out, _ = run(capsys, "images.metal", "--json")
    kernels = json.loads(out)["files"][0]["kernels"]
    assert code == 0 and [(each["name"], bool(each["refused"])) for each in kernels] == [("blur", True), ("many", True)]


# As a process


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.check", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )


def test_a_process(shader, tmp_path):
    done = process(shader, *TOTAL, "-D", "WRONG", cwd=tmp_path)
    assert (
        done.returncode == 1
        and "race: kernel 'total'" in done.stdout
        and "\x1b" not in done.stdout
        and done.stderr == ""
    )
    done = process("--help")
    assert done.returncode == 0 and all(
        word in done.stdout for word in ("--threadgroup-memory", "INDEX=VALUE,...:DTYPE", "exit codes")
    )


def test_on_a_terminal(shader, monkeypatch, capsys):
    """With colours and a table, and the same findings."""
    monkeypatch.setattr("pipeline.checking.report.is_live", lambda stream: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    code, out, _ = run(capsys, shader, *TOTAL, "-D", "WRONG")
    assert code == 1 and "\x1b[" in out and "─" in out and f"| {'partial[i] = sum;'}" in out and "[buffer" not in out
