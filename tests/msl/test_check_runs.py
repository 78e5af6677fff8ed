"""`python -m pipeline.check` on several kernels: their buffers, what is expected, what is allowed, and reports."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline import check
from pipeline.checking.buffers import parse_buffer
from pipeline.checking.expected import difference, parse_expected
from pipeline.errors import UsageError

SHADER = """\
#include <metal_stdlib>
using namespace metal;
struct Args { uint n; float scale; int shift; };
kernel void parts(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant Args &args [[buffer(2)]],
                  uint row [[thread_position_in_grid]]) {
    float sum = 0;
    for (uint k = 0; k < args.n; k++) sum += x[row * args.n + k];
    y[row] = sum * args.scale + args.shift;
}
kernel void total(device const float *y [[buffer(0)]], device float *z [[buffer(1)]], constant uint &n [[buffer(2)]],
                  threadgroup float *s [[threadgroup(0)]], uint i [[thread_index_in_threadgroup]]) {
    s[i] = y[i];
#ifndef WRONG
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
    float sum = 0;
    for (uint k = 0; k < n; k++) sum += s[k];
    if (i == 0) z[0] = sum;
}
"""
TABLE = """
struct Table { device float *rows [[id(0)]]; uint n [[id(1)]]; };
kernel void table(constant Table &t [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = t.rows[i];
}
"""
WRITE, READ = (
    next(n for n, line in enumerate(SHADER.splitlines(), 1) if text in line) for text in ("s[i] = y[i]", "sum += s[k]")
)
X = np.arange(64, dtype=np.float32)
Y = X.reshape(16, 4).sum(1) * 0.5 - 3
BUFFERS = ["--buffer", "x=x.npy", "--buffer", "y=empty:16:float", "--buffer", "z=empty:1:float"]
BUFFERS += ["--buffer", "args=struct:n=4,scale=0.5,shift=-3"]
PARTS = ["--dispatch", "parts grid=16 threads=8 0=x 1=y 2=args"]
TOTAL = ["--dispatch", "total threadgroups=1 threads=16 0=y 1=z 2=16:uint memory=0:64"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sums.metal").write_text(SHADER + TABLE)
    np.save("x.npy", X)
    np.save("y.npy", Y.astype(np.float64))
    np.save("z.npy", np.array([Y.sum() * 1.001], np.float32))
    np.save("square.npy", Y.reshape(4, 4))
    np.save("whole.npy", Y.astype(np.int64))
    np.save("half.npy", Y.astype(np.float16))


def run(capsys, *arguments):
    code = check.main(["sums.metal", "--no-lint", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_kernels_run_one_after_another_on_shared_buffers(capsys):
    code, out, err = run(capsys, *BUFFERS, *PARTS, *TOTAL, "--save", "z=out.npy", "--expect", "y=y.npy")
    assert (code, err) == (0, "") and "nothing found" in out
    assert np.load("out.npy").tolist() == [Y.sum()]
    assert "parts: 16 x 1 x 1 threads in threadgroups of 8" in out and "total: 1 x 1 x 1 threadgroups" in out
    assert "buffer y, 'y', 16 float32" in out and "buffer z, 'z', 1 float32" in out


def test_a_struct_by_its_members_in_a_single_run(capsys):
    arguments = ["--run", "parts", "--grid", 16, "--threads", 8, "--buffer", "0=x.npy", "--buffer", "1=empty:16:float"]
    code, out, _ = run(
        capsys, *arguments, "--buffer", "2=struct:n=4,scale=0.5,shift=-3", "--expect", "1=y.npy", "--json"
    )
    assert code == 0 and json.loads(out)["run"]["written"][0]["first_values"] == Y.tolist()
    for members, words in (
        ("n=4,scale=1", "has the members n, scale, shift"),
        ("n=-4,scale=1,shift=0", ".n = -4 does not fit uint, which holds 0 to 4294967295"),
    ):
        code, _, err = run(capsys, *arguments, "--buffer", f"2=struct:{members}")
        assert code == 2 and words in err and err.count("\n") == 1


def test_what_is_expected_within_a_tolerance(capsys):
    code, out, _ = run(capsys, *BUFFERS, *PARTS, *TOTAL, "--expect", "z=z.npy")
    assert code == 1 and f"buffer z: 1 of 1 values differ from z.npy, most at [0]: {Y.sum():g} instead of" in out
    assert run(capsys, *BUFFERS, *PARTS, *TOTAL, "--expect", "z=z.npy:0.01")[0] == 0
    assert run(capsys, *BUFFERS, *PARTS, *TOTAL, "--expect", "z=z.npy:0:10", "--expect", "y=y.npy:0")[0] == 0
    code, out, _ = run(capsys, *BUFFERS, *PARTS, *TOTAL, "--expect", "z=z.npy:1e-4", "--json")
    (difference,) = json.loads(out)["run"]["differences"]
    assert code == 1 and (difference["name"], difference["count"], difference["worst"]) == ("z", 1, 0)


def test_what_is_expected_without_a_file(capsys):
    values = ",".join(map(str, Y))
    assert run(capsys, *BUFFERS, *PARTS, "--expect", f"y={values}:float:0")[0] == 0
    code, out, _ = run(capsys, *BUFFERS, *PARTS, "--expect", "y=zeros:16:float:0:100")
    assert code == 1 and "values differ from zeros:16:float, most at [15]" in out
    assert run(capsys, *BUFFERS, *PARTS, "--expect", "y=zeros:16:float:0:200")[0] == 0


@pytest.mark.parametrize(
    "buffer, kept, good",
    [
        ("bfloat", np.array([1.5, 2], np.float32), True),
        ("bfloat", np.array([0x3FC0, 0x4000], np.uint16), True),  # the bits, as --save writes them
        ("bfloat", np.array([1, 2], np.int32), False),
        ("half", np.array([1.5, 2]), True),  # an oracle's float64
        ("int", np.array([1, 2]), True),  # NumPy's int64
        ("uint", np.array([1, 2]), False),
        ("long", np.array([1, 2], np.int32), False),
        ("bool", np.array([1, 1], np.uint8), False),
    ],
)
def test_types_that_may_be_expected(buffer, kept, good):
    np.save("kept.npy", kept)
    option = parse_buffer(
        f"0={'1.5,2' if buffer in ('bfloat', 'half') else '1,1' if buffer == 'bool' else '1,2'}:{buffer}"
    )
    expected = parse_expected("0=kept.npy:0")
    if good:
        assert difference(expected, option, option.values) is None
        assert difference(expected, option, option.values[::-1].copy()).count == 2
    else:
        with pytest.raises(UsageError, match=f"its dtype is {kept.dtype}, and the buffer's is {option.dtype}; save"):
            difference(expected, option, option.values)


def test_findings_may_be_allowed_with_a_reason(capsys):
    wrong = ["-D", "WRONG", *BUFFERS, *PARTS, *TOTAL, "--json"]
    code, out, _ = run(capsys, *wrong)
    found = json.loads(out)["run"]["findings"]
    assert code == 1 and {"race", "uninitialised read"} <= {each["kind"] for each in found}
    Path("allowed.txt").write_text(
        f"# looked at in spring\n\ntotal:{WRITE}=lanes run in lockstep\ntotal:{READ} = as above\n"
    )
    code, out, _ = run(capsys, *wrong, "--allow-file", "allowed.txt", "--allow", "parts:7=nothing is there")
    shown = json.loads(out)["run"]
    assert {each["reason"] for each in shown["allowed"]} <= {"lanes run in lockstep", "as above"}
    kinds = {each["kind"] for each in shown["findings"]}
    assert "race" not in kinds and "uninitialised read" not in kinds and (code == 1) == bool(kinds)
    assert any("--allow parts:7: nothing was found there" in note for note in shown["notes"])
    code, out, _ = run(capsys, *wrong, "--allow", f"total:{READ}:race=only this kind")
    assert {each["kind"] for each in json.loads(out)["run"]["allowed"]} == {"race"}


def test_reports_for_other_programs(capsys):
    files = ["--junit", "out.xml", "--sarif", "out.sarif"]
    code, _, _ = run(capsys, "-D", "WRONG", *BUFFERS, *PARTS, *TOTAL, *files, "--allow", f"total:{READ}:race=known")
    suite = ElementTree.parse("out.xml").getroot()
    cases = {case.get("name"): case.find("failure") for case in suite}
    assert code == 1 and (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert cases["sums.metal compiles"] is None and "uninitialised read" in cases["run parts, total"].text
    (log,) = json.loads(Path("out.sarif").read_text())["runs"]
    results = {result["ruleId"]: result for result in log["results"]}
    assert {rule["id"] for rule in log["tool"]["driver"]["rules"]} == results.keys()
    place = results["run/uninitialised read"]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "sums.metal"}, "region": {"startLine": READ}}
    assert results["run/race"]["suppressions"] == [{"kind": "external", "justification": "known"}]
    assert run(capsys, *BUFFERS, *PARTS, *files)[0] == 0
    assert ElementTree.parse("out.xml").getroot().get("failures") == "0"
    assert json.loads(Path("out.sarif").read_text())["runs"][0]["results"] == []


def test_a_file_that_does_not_compile_is_in_the_reports(capsys):
    Path("sums.metal").write_text("#include <metal_stdlib>\nusing namespace metal;\nkernel void f() { x = 1; }\n")
    code, _, err = run(capsys, "--junit", "out.xml", "--sarif", "out.sarif")
    assert code == 2 and "sums.metal:3" in err and ElementTree.parse("out.xml").getroot().get("failures") == "1"
    (result,) = json.loads(Path("out.sarif").read_text())["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 3}


CASES = "kernel void f(device float *x [[buffer(0)]]) { x[0] = 1; }\n"


@pytest.mark.parametrize(
    "comment, case",
    [
        ("// onebuf-check: --run none --grid 1 --threads 1", "sums.metal:4 runs"),
        ("// onebuf-check: --run f --grid 1 --threads 1", "sums.metal:4 runs"),
        ("// onebuf-check: --run 'f", "sums.metal:4 runs"),
        ("/* onebuf-check: --run f */", "sums.metal:4 runs"),
        ("// Onebuf-Check: --run f", "sums.metal:4 runs"),
        ("int one;  // onebuf-check: --run f", "sums.metal:4 runs"),
    ],
)
def test_a_case_that_cannot_run_is_in_the_reports(comment, case, capsys):
    Path("sums.metal").write_text(f"#include <metal_stdlib>\nusing namespace metal;\n{CASES}{comment}\n")
    code, _, err = run(capsys, "--cases", "--junit", "out.xml", "--sarif", "out.sarif")
    suite = ElementTree.parse("out.xml").getroot()
    failed = [each.get("name") for each in suite if each.find("failure") is not None]
    assert code == 2 and "sums.metal:4: " in err and failed == [case] and suite.get("failures") == "1"
    (result,) = json.loads(Path("out.sarif").read_text())["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 4}


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([*BUFFERS, "--run", "parts", *PARTS], ["--run and --dispatch exclude each other"]),
        ([*BUFFERS, *PARTS, "--compile-only"], ["--compile-only and --dispatch"]),
        ([*BUFFERS, *PARTS, "--grid", "4"], ["--grid needs --run KERNEL"]),
        (["--expect", "y=y.npy"], ["--expect needs --run KERNEL or --dispatch"]),
        ([*BUFFERS, "--dispatch", "parts"], ["give grid= or threadgroups=", "KERNEL grid="]),
        ([*BUFFERS, "--dispatch", "parts grid=4"], ["give threads="]),
        ([*BUFFERS, "--dispatch", "parts grid=4 threads=4 0"], ["'0'", "KERNEL grid="]),
        ([*BUFFERS, "--dispatch", "parts grid=4 threads=4 0=x 0=y"], ["index 0 is given twice"]),
        ([*BUFFERS, "--dispatch", "parts grid=4 threads=4 0=w"], ["there is no --buffer w", "x, y, z, args"]),
        ([*BUFFERS, "--dispatch", "parts grid=4 threads=4 99=x"], ["'99=x'"]),
        ([*BUFFERS, "--dispatch", "parts grid=4,x threads=4 0=x"], ["grid x", "whole number"]),
        ([*BUFFERS, "--dispatch", "parts grid=4 threads=4 0=x 1=y 2=1:float3"], ["no dtype 'float3'"]),
        ([*BUFFERS, "--dispatch", "parts grid=4 threads=4 0=x 1=y"], ["'args' (constant Args &) needs 2="]),
        ([*BUFFERS, "--dispatch", "parts grid=4 threads=4 0=x 1=y 2=args 3=z"], ["3", "no buffer argument"]),
        ([*BUFFERS, "--dispatch", "none grid=4 threads=4"], ["no such kernel", "parts, total, table"]),
        ([*BUFFERS, "--dispatch", "total grid=4 threads=4 0=y 1=z 2=1:uint"], ["'s'", "needs memory=0:BYTES"]),
        ([*BUFFERS, "--buffer", "x=zeros:4:float", *PARTS], ["x is given twice"]),
        ([*BUFFERS, *PARTS, "--expect", "w=y.npy"], ["no --buffer has name w"]),
        ([*BUFFERS, *PARTS, "--expect", "y=none.npy"], ["none.npy", "no such file"]),
        ([*BUFFERS, *PARTS, "--expect", "y=x.npy"], ["its shape is 64, and the buffer's is 16"]),
        ([*BUFFERS, *PARTS, "--expect", "y=square.npy"], ["its shape is 4 x 4, and the buffer's is 16"]),
        ([*BUFFERS, *PARTS, "--expect", "y=1,2:float"], ["its shape is 2, and the buffer's is 16"]),
        ([*BUFFERS, *PARTS, "--expect", "y=ones:4,4:float"], ["its shape is 4 x 4, and the buffer's is 16"]),
        (
            [*BUFFERS, *PARTS, "--expect", "y=whole.npy"],
            ["dtype is int64, and the buffer's is float32; save it as float32"],
        ),
        ([*BUFFERS, *PARTS, "--expect", "y=half.npy"], ["dtype is float16, and the buffer's is float32"]),
        ([*BUFFERS, *PARTS, "--expect", "y=ones:16:int"], ["dtype is int32, and the buffer's is float32"]),
        ([*BUFFERS, *PARTS, "--expect", "y=random:16:float"], ["INDEX=FILE.npy"]),
        ([*BUFFERS, *PARTS, "--expect", "y=1"], ["INDEX=FILE.npy"]),
        ([*BUFFERS, *PARTS, "--expect", "y=y.npy:-1"], ["a tolerance is a number from 0 on"]),
        ([*BUFFERS, *PARTS, "--expect", "z=y.npy"], ["no kernel has that buffer"]),
        ([*BUFFERS, *PARTS, "--allow", "parts:7"], ["the reason must be there"]),
        ([*BUFFERS, *PARTS, "--allow-file", "none.txt"], ["none.txt", "No such file"]),
        ([*BUFFERS, *PARTS, "--junit", "no/out.xml"], ["no folder no"]),
        ([*BUFFERS, *PARTS, "--sarif", "sums.metal"], ["sums.metal", "is a shader"]),
        (["--run", "parts", "--grid", "4", "--threads", "4", "--buffer", "0=struct:n"], ["struct:MEMBER=VALUE"]),
        ([*BUFFERS, "--dispatch", "table grid=4 threads=4 0=struct:n=4 1=y"], ["t has the members rows, n, got n"]),
        (
            [*BUFFERS, "--dispatch", "table grid=4 threads=4 0=4,4:ulong 1=struct:n=4"],
            ["'y' (device float *)", "no members"],
        ),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, words):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and err.startswith("onebuf: error: ") and err.count("\n") == 1, err
    assert all(word in err for word in words), err
