"""The programs that are for a machine with a GPU, with a driver that the host plays."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform == "darwin":
    pytest.skip("macOS has Apple's Metal", allow_module_level=True)

from fuzz.gpu_failures import EXPECTED, Ended, Job, deviation, table
from support import gpu_sample
from support import metal_harness as harness

PLAIN = harness.VARIANTS["plain"]
ROOT = harness.ROOT


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library as a machine with a GPU gets it: its kernels are compiled when they are asked for."""
    bundle = tmp_path_factory.mktemp("gpu") / "library.metallib"
    shutil.copytree(harness.build(PLAIN) / "library.metallib", bundle, ignore=shutil.ignore_patterns("sm_*"))
    shutil.copy(harness.SOURCES / "library.cu", bundle / "cuda")
    return bundle


def environment(library, **more):
    own = {
        "OB_CUDA_DRIVER": harness.fake_driver(PLAIN),
        "OB_NVRTC": harness.fake_compiler(),
        "FAKE_NVRTC_CODE": library / "cuda.so",
        "FAKE_CUDA_MEMORY": 64 << 20,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    }
    return os.environ | {name: str(value) for name, value in (own | more).items()}


def failures(library, **more):
    program = ROOT / "tests" / "fuzz" / "gpu_failures.py"
    command = [sys.executable, program, library, "--counting", harness.counting_driver(), "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(library, **more))
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_thousand_failures_are_named(library):
    status, printed = failures(library)
    assert (status, printed.splitlines()[-1]) == (0, "0 deviations"), printed
    assert "2537 command buffers, of which 1018 failed\n" in printed


def test_an_error_that_is_not_expected_is_a_deviation(library):
    status, printed = failures(library, FAKE_CUDA_FAIL="cuGraphLaunch:4=1")
    assert status == 1 and 'DEVIATION addresses 0: good: gave "RunError: ' in printed, printed


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("delay", [0, 300])
def test_what_broke_the_gpu_is_named_whenever_it_is_seen(number, delay, library, tmp_path):
    """Copies may be in flight before, and later command buffers are committed while the GPU breaks."""
    own = {"FAKE_CUDA_FAULT": delay, "OB_CACHE": tmp_path / "cache"}
    command = [sys.executable, "-m", "support.gpu_failing", "addresses", str(library), "cuda:0", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(library, **own))
    assert (done.returncode, done.stderr) == (0, "")
    *told, last = done.stdout.splitlines()
    assert last == "done" and len(told) == 19
    for line in told:
        what, message, seconds = json.loads(line)
        assert deviation(what, message, seconds) is None, (what, message)


def test_deviations_are_those_of_messages_and_times():
    assert deviation("good", None, 0.1) is None
    assert "took 11.0 s" in deviation("good", None, 11.0)
    assert "gave 'RunError: x'" in deviation("good", "RunError: x", 0.1)
    assert "gave 'no error'" in deviation("behind a bad address", None, 0.1)
    assert deviation("what nobody tried", None, 0.1) is not None
    lines, failed = table(
        [Ended(Job("x"), [("good", None, 0.5), ("good", "bad", 1.5), ("cache is back", "x", 0)], None)]
    )
    assert failed == 1 and lines[-1] == "2 command buffers, of which 1 failed"
    assert [line.split()[-4:] for line in lines if line.startswith("good  ")] == [["2", "1", "1", "1.500"]]
    assert len(lines) == len(EXPECTED) + 2


def test_the_sample_is_of_all_kernels_that_are_compiled_ahead(tmp_path):
    """What the tests of the sample run was seen when it was chosen; here they are looked for."""
    harness.build(PLAIN)
    from cuda_kernels import HOT

    assert gpu_sample.RUN.read_text().split() == sorted(HOT), "tests/support/gpu_sample.py chooses anew"
    names = gpu_sample.SAMPLE.read_text().split("\n")[:-1]
    more = {"OB_CUDA_DRIVER": harness.fake_driver(PLAIN), "OB_CACHE": tmp_path / "cache"}
    own = os.environ | {name: str(value) for name, value in more.items()} | {"PYTHONPATH": str(ROOT / "tests")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--collect-only",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *names,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=own, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert gpu_sample.choose({"a": {"x"}, "b": {"x", "y"}, "c": {"z"}}, {"x", "y"}) == ["a", "b"]


def test_the_path_of_the_sample_is_that_of_the_script():
    path = gpu_sample.SAMPLE.relative_to(ROOT)
    assert str(path) in Path(ROOT, "tools", "gpu_suite.sh").read_text()
