"""The pytest plugin: which shaders it collects, what fails, what is allowed, and that it costs other tests nothing."""

import gc
import re
import subprocess
import sys

import numpy as np
import pytest
from support.paths import ROOT

import pipeline.checking.pytest_items
import pipeline.checking.running  # noqa: F401  (see `project`)

pytest_plugins = ["pytester"]

DOUBLED = """\
#include <metal_stdlib>
using namespace metal;
#ifndef BY
#define BY 2
#endif
kernel void doubled(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                    uint i [[thread_position_in_grid]]) {
    y[i] = BY * x[i];
}
"""
LINE = 1 + DOUBLED.splitlines().index("    y[i] = BY * x[i];")
STATED = 1 + DOUBLED.count("\n")  # the line of a case
RUN = "// onebuf-check: --run doubled --grid 4 --threads 4\n//     --buffer 0=1,2,3,4:float --buffer 1=empty:4:float"
GOOD = f"{DOUBLED}{RUN} --expect 1=2,4,6,8:float\n"
SHORT = GOOD.replace("0=1,2,3,4:float", "0=1,2,3:float")
LOOSE = DOUBLED + "static float first(float *p) { return p[0]; }\n"
TESTS = """
import numpy as np
import pytest

def run(device):
    x, y = np.arange(3, dtype=np.float32), np.zeros(4, np.float32)
    device.compile(open("a.metal").read()).kernel("doubled").run(x, y, grid=4, threads=4)

def test_found(onebuf_checker):
    run(onebuf_checker)

@pytest.mark.onebuf_check(schedules=2, allow=["doubled:LINE=the last thread reads too far"])
def test_allowed(onebuf_checker):
    with pytest.raises(Exception):
        run(onebuf_checker)

def test_clean(onebuf_checker):
    assert onebuf_checker.name == "checker" and onebuf_checker.findings == []
""".replace("LINE", str(LINE))


@pytest.fixture
def project(pytester):
    """Writes shaders and settings, then runs pytest with the plugin, in this process: another one takes a second to
    import what this one has. What pytest would import anew must be there before."""
    pytester.makepyfile(test_other="def test_other(): pass")

    def run(shaders, *arguments, ini=""):
        pytester.makeini(f"[pytest]\n{ini}\n")
        for name, text in shaders.items():
            path = pytester.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        gc.collect()  # a process has room for ten checkers, and one of an earlier run may be in a cycle
        return pytester.runpytest_inprocess("-p", "no:onebuf-check", "-p", "pipeline.pytest_plugin", *arguments)

    return run


def outcomes(result):
    """{test: outcome} of pytest -v."""
    return dict(re.findall(r"^(\S+) (PASSED|FAILED|SKIPPED|ERROR)", result.stdout.str(), re.M))


@pytest.mark.parametrize(
    "ini, arguments, count",
    [
        ("", [], 1),
        ("onebuf_check = shaders", [], 4),
        ("onebuf_check = **/*.metal", [], 4),
        ("onebuf_check = .", [], 4),
        ("", ["--onebuf-check"], 4),
        ("", ["shaders/good.metal"], 3),
        ("", ["shaders/good.metal::lint"], 1),
        ("", ["shaders/good.metal", "-k", "doubled"], 1),
        ("onebuf_check_options = --no-lint", ["shaders/good.metal"], 2),
    ],
)
def test_what_is_collected(project, ini, arguments, count):
    result = project({"shaders/good.metal": GOOD}, "--collect-only", "-q", *arguments, ini=ini)
    assert sum("::" in line for line in result.outlines) == count


def test_shaders_are_tests(project):
    shaders = {"a.metal": GOOD, "b.metal": LOOSE, "c.metal": "kernel void f() {\n x = 1; }\n"}
    shaders["d.metal"] = LOOSE + "// onebuf-check: --no-lint\n"
    result = project(shaders, "--onebuf-check", "-v")
    assert outcomes(result) == {
        "a.metal::compiles": "PASSED",
        "a.metal::lint": "PASSED",
        f"a.metal::doubled:{STATED}": "PASSED",
        "b.metal::compiles": "PASSED",
        "b.metal::lint": "FAILED",
        "c.metal::compiles": "FAILED",
        "c.metal::lint": "SKIPPED",
        "d.metal::compiles": "PASSED",
        "test_other.py::test_other": "PASSED",
    }
    result.stdout.fnmatch_lines(["b.metal:*lint: *address space*", "*To fix it: *"])
    result.stdout.fnmatch_lines(["c.metal:2: *x*"])
    assert "Traceback" not in result.stdout.str() and "pytest_items" not in result.stdout.str()


def test_findings_fail_and_may_be_allowed(project):
    wrong = GOOD.replace("2,4,6,8", "2,4,6,9")
    result = project({"a.metal": SHORT, "b.metal": wrong}, "a.metal", "b.metal", "-v")
    assert [test for test, outcome in outcomes(result).items() if outcome == "FAILED"] == [
        f"a.metal::doubled:{STATED}",
        f"b.metal::doubled:{STATED}",
    ]
    result.stdout.fnmatch_lines([f"a.metal:{LINE}: out of bounds: kernel 'doubled', 'x' at*", f"*{LINE} | y*"])
    result.stdout.fnmatch_lines(["FAILED b.metal::* - buffer 1: 1 of 4 values differ*"])
    allowed = SHORT.split(" --expect")[0] + f" --allow 'doubled:{LINE}=the last one'\n"
    result = project({"a.metal": allowed}, "a.metal", "-rA")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"allowed: out of bounds at doubled:{LINE}: the last one"])


def test_options_hold_for_all_files_and_paths_go_from_their_folders(project, pytester):
    np.save(pytester.path / "x.npy", np.arange(4, dtype=np.float32))
    np.save(pytester.path / "three.npy", 3 * np.arange(4, dtype=np.float32))
    pytester.mkdir("include").joinpath("by.h").write_text("#define BY 3\n")
    (pytester.path / "allowed.txt").write_text("doubled:1=never seen\n")
    text = GOOD.replace("1,2,3,4:float", "../x.npy").replace("2,4,6,8:float", "../three.npy")
    of_file = "// onebuf-check: -I ../include\n"
    ini = "onebuf_check = shaders\nonebuf_check_options = -D TWICE=1 --allow-file allowed.txt --schedules 2"
    shaders = {
        "shaders/a.metal": '#include "by.h"\n' + text + of_file,
        "shaders/b.metal": "#if !TWICE\n#error\n#endif\n" + GOOD,
    }
    result = project(shaders, "-rA", ini=ini)
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(["*--allow doubled:1: nothing was found there*"])


@pytest.mark.parametrize(
    "comment, words",
    [
        ("--run none --grid 4 --threads 4", ["--run none: no such kernel", "doubled"]),
        ("--run doubled --grid 4", ["--threads"]),
        ("--run doubled --grid 4 --threads 4", ["'x'", "needs --buffer 0="]),
        ("--run doubled --junit x.xml", ["--junit has no place in a file"]),
        ("--run 'doubled", ["No closing quotation"]),
        ("doubled --grid 4", ["--grid needs --run"]),
        ("-I . doubled", ["unrecognized arguments: doubled"]),
        ("doubled", ["doubled is no option"]),
        ("--buffer 0=zeros:4:float", ["--buffer needs --run"]),
    ],
)
def test_mistakes_in_a_comment_are_one_line(project, comment, words):
    result = project({"a.metal": f"{DOUBLED}// onebuf-check: {comment}\n"}, "a.metal")
    text = result.stdout.str()
    line = next(line for line in text.splitlines() if "onebuf-check:" in line)
    assert all(word in line for word in words) and "Traceback" not in text
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)


@pytest.mark.parametrize(
    "ini, words",
    [
        ("onebuf_check = none", "onebuf_check: none: there is nothing of that name"),
        ("onebuf_check = .\nonebuf_check_options = --what", "onebuf_check_options: *--what*"),
    ],
)
def test_mistakes_in_the_settings_are_one_line(project, ini, words):
    result = project({"a.metal": GOOD}, ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {words}*"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_the_fixture(project, pytester):
    pytester.makepyfile(test_own=TESTS)
    result = project({"a.metal": DOUBLED}, "test_own.py", "-v", "--strict-markers")
    result.assert_outcomes(passed=2, failed=1)
    assert outcomes(result)["test_own.py::test_found"] == "FAILED"
    result.stdout.fnmatch_lines(["*FindingsError: the checker found 1 mistake:*", "*out of bounds: kernel 'doubled'*"])


def test_it_costs_other_tests_nothing(pytester):
    pytester.makepyfile(
        test_light="import sys\n"
        "def test_light():\n"
        "    assert 'pipeline.pytest_plugin' in sys.modules\n"
        "    heavy = {'numpy', 'pipeline._core', 'pipeline.checking.options', 'pipeline.device'}\n"
        "    assert not heavy & sys.modules.keys()\n"
    )
    (pytester.path / "a.metal").write_text(GOOD)
    command = [sys.executable, "-m", "pytest", "-p", "no:onebuf-check", "-p", "pipeline.pytest_plugin"]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout


def test_the_package_names_it():
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\nonebuf-check = "pipeline.pytest_plugin"\n' in text


def test_files_without_compute_kernels_pass(project):
    text = "#include <metal_stdlib>\nusing namespace metal;\n"
    text += "fragment float4 red(float4 at [[position]]) { return float4(1, 0, 0, 1); }\n"
    result = project({"shaders/draw.metal": text}, "-v", ini="onebuf_check = shaders")
    assert [each for each in outcomes(result).values()] == ["PASSED"] * 3


def test_a_list_of_what_is_allowed_that_is_not_there(project):
    ini = "onebuf_check = a b\nonebuf_check_options = --allow-file none.txt"
    result = project({"a/good.metal": GOOD, "b/good.metal": GOOD}, ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.stderr.str().splitlines() if line]
    assert len(lines) == 1 and "onebuf_check_options" in lines[0] and "none.txt: No such file" in lines[0]
