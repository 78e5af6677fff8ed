"""The device of NVIDIA's GPUs with a driver that the host plays: what fails there, and what is called how often."""

import os
import re
import subprocess
import sys

import pytest

if sys.platform == "darwin":
    pytest.skip("macOS has Apple's Metal", allow_module_level=True)

from support import metal_harness as harness

PLAIN = harness.VARIANTS["plain"]
# Functions of the driver that may fail while command buffers are made and run, and a result that each may give.
FAILING = {
    "cuMemAlloc": 2,
    "cuMemHostAlloc": 2,
    "cuMemHostGetDevicePointer": 1,
    "cuMemsetD8Async": 700,
    "cuEventCreate": 2,
    "cuEventRecord": 719,
    "cuEventQuery": 700,
    "cuEventElapsedTime": 1,
    "cuModuleLoadData": 1,
    "cuModuleGetFunction": 1,
    "cuFuncGetAttribute": 1,
    "cuLaunchKernel": 719,
}
CURE = "its driver serves this process no more, start it again"
NAMED = re.compile(r"no memory|no kernel|the GPU's driver says|broke the GPU|raise the limit|context")


def run(tmp_path, runs, variant=PLAIN, **environment):
    library = harness.build(variant) / "library.metallib"
    done = harness.run(variant, "gpu", library, tmp_path, "cuda:0", runs, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    *failed, last = done.stdout.splitlines()
    good, left = map(int, re.fullmatch(r"good (\d+), left (\d+)", last).groups())
    return failed, good, left


def counts_of(file):
    return {name: int(count) for name, count in map(str.split, file.read_text().splitlines())}


@pytest.mark.parametrize("variant", ["plain", "address"])
@pytest.mark.parametrize("function", FAILING)
def test_a_failure_of_the_driver_is_the_error_of_its_command_buffer(function, variant, tmp_path):
    for numbers in ((1,), (2, 3), (4, 9, 20)):
        faults = ",".join(f"{function}:{number}={FAILING[function]}" for number in numbers)
        failed, good, left = run(tmp_path, 20, harness.VARIANTS[variant], FAKE_CUDA_FAIL=faults)
        assert good + len(failed) == 20 and left == 0
        assert all(NAMED.search(line) for line in failed), failed
        if FAILING[function] >= 700:  # from then on nothing works in this process, and all say so
            assert [int(line.split()[0]) for line in failed] == list(range(good, 20))
            assert all(CURE in line for line in failed[1:]), failed
        else:
            assert len(failed) <= len(numbers), failed  # nothing else fails


def test_a_broken_gpu_is_named_with_what_started_last(tmp_path):
    failed, good, left = run(tmp_path, 10, FAKE_CUDA_FAIL="cuEventQuery:3=700")
    assert good == 10 - len(failed) and left == 0
    named = r"'chain': .*illegal memory access[^(]*(\(kernel step, the step\))?; its driver serves this process no more"
    assert re.search(named, failed[0]), failed  # the kernel, if it had started


def test_a_kernel_without_an_end_is_stopped_waiting_for(tmp_path):
    failed, good, _ = run(tmp_path, 4, FAKE_CUDA_HANG="3", OB_CUDA_DEADLINE="0.2")
    assert len(failed) == 1 and good == 3
    assert re.search(r"did not end within .*OB_CUDA_DEADLINE.*kernel step", failed[0]), failed


def test_a_command_buffer_is_few_calls_of_the_driver(tmp_path):
    counts = {}
    for runs in (10, 20):
        file = tmp_path / "counts"
        assert run(tmp_path, runs, FAKE_CUDA_COUNT=str(file))[0] == []
        counts[runs] = counts_of(file)
    more = {name: counts[20][name] - counts[10][name] for name in counts[10]}
    assert more["cuLaunchKernel"] == 10 and more["cuEventRecord"] == 20
    assert more["cuStreamSynchronize"] == more["cuModuleLoadData"] == more["cuEventCreate"] == 0


@pytest.mark.parametrize("program, arguments", [("gpu", (10,)), ("indirect", ())])
def test_calls_are_passed_on_and_counted(program, arguments, tmp_path):
    """The library that counts the calls of a real driver, here in front of the one that the host plays."""
    library = harness.build(PLAIN) / "library.metallib"
    seen, passed_on = tmp_path / "seen", tmp_path / "passed_on"
    environment = {
        "OB_CUDA_DRIVER": harness.counting_driver(),
        "COUNT_CUDA_DRIVER": harness.fake_driver(PLAIN),
        "COUNT_CUDA_FILE": seen,
        "FAKE_CUDA_COUNT": passed_on,
    }
    environment = {name: str(value) for name, value in environment.items()}
    done = harness.run(PLAIN, program, library, tmp_path, "cuda:0", *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "") and "FAILED" not in done.stdout, done.stdout
    counted, took = counts_of(seen), {name: count for name, count in counts_of(passed_on).items() if count}
    assert {name: counted[name] for name in took} == took and counted["cuCtxPushCurrent"] > 0
    assert took["cuLaunchKernel"] >= 10 or took["cuGraphLaunch"] > 0


@pytest.mark.parametrize("values, n, programmatic", [(0, 0, 1), (1, 0, 0), (0, 1, 0)])
def test_what_a_kernel_reads_early_is_not_written_beside_it(values, n, programmatic, tmp_path):
    """A kernel starts before the one ahead of it is done only where that writes nothing which it reads at once."""
    library, edges = harness.build(PLAIN) / "library.metallib", tmp_path / "edges"
    environment = {"FAKE_CUDA_EDGES": str(edges)}
    done = harness.run(PLAIN, "gpu", library, tmp_path, "cuda:0", "early", values, n, **environment)
    assert (done.returncode, done.stderr) == (0, "") and "FAILED" not in done.stdout, done.stdout
    assert int(edges.read_text()) == programmatic


def test_a_gpu_is_listed():
    """In a process of its own, for a driver is opened once per process."""
    harness.build(PLAIN)
    environment = {"OB_CUDA_DRIVER": str(harness.fake_driver(PLAIN)), "FAKE_CUDA_DEVICES": "2"}
    command = [sys.executable, "-m", "pipeline.run", "--device", "list"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *_ = done.stdout.splitlines()
    assert first == "cuda:0   Fake GPU 0 (compute capability 9.0), sm_90a, 8.0 GiB free of 8.0 GiB"
    assert second.startswith("cuda:1   Fake GPU 1 (") and "absent" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "problem, environment",
    [
        ("NVIDIA's driver is not there: install it", {"OB_CUDA_DRIVER": "/nonexistent/libcuda.so"}),
        ("NVIDIA's driver does not start", {"FAKE_CUDA_FAIL": "cuInit:1=100"}),
        ("NVIDIA's driver is for CUDA 12.0: install one for CUDA 12.3 or newer", {"FAKE_CUDA_VERSION": "12000"}),
        ("NVIDIA's driver shows no GPU", {"FAKE_CUDA_DEVICES": "0"}),
        ("GPU Fake GPU 0 cannot be used: it is older than compute capability 8.0", {"FAKE_CUDA_MAJOR": "7"}),
    ],
    ids=["driver", "start", "version", "gpu", "old"],
)
def test_what_is_missing_is_named(problem, environment):
    """In a process of its own, for a driver is opened once per process."""
    clean = os.environ | {"OB_CUDA_DRIVER": str(harness.fake_driver(PLAIN))} | environment
    harness.build(PLAIN)
    code = "import pipeline\ntry: pipeline.open_device('cuda')\nexcept Exception as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean)
    assert done.stderr == ""
    assert done.stdout.startswith("no device named 'cuda' on this machine: ") and problem in done.stdout
    assert done.stdout.count("\n") == 1


UPLOADING = """
import pathlib
import sys
import pipeline
from pipeline.device import device, resources
from pipeline.run import main

library, *arguments = sys.argv[1:]
resources.shader_library = lambda kind: pathlib.Path(library)  # the one that this driver has kernels for
device.Device.simd_width = 32  # which a built-in kernel would tell
if arguments:
    sys.exit(main([*arguments, "--device", "cuda", "--prompt", "Once"]))
from pipeline.checkpoints.storyteller import builtin_model
with pipeline.open_checkpoint(builtin_model()) as checkpoint:
    pipeline.load_model(checkpoint, device="cuda").place()
"""


def uploading(tmp_path, memory, *arguments):
    """(exit status, messages, copies to the GPU) of a run, or without arguments of weights that go up."""
    library, count = harness.build(PLAIN) / "library.metallib", tmp_path / "count"
    environment = {
        "OB_CUDA_DRIVER": str(harness.fake_driver(PLAIN)),
        "FAKE_CUDA_MEMORY": str(memory),
        "FAKE_CUDA_COUNT": str(count),
    }
    command = [sys.executable, "-c", UPLOADING, str(library), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    return done.returncode, done.stderr, sum(n for name, n in counts_of(count).items() if name.startswith("cuMemcpy"))


@pytest.mark.parametrize(
    "memory, message",
    [
        (16, "a KV cache of 1 × 1,000 positions takes 4.0 MiB in f16, the weights 8.2 MiB, scratch memory 6"),
        (4, "the weights take 8.2 MiB; the device cuda:0 has 3.9 MiB left of 4.0 MiB; use a checkpoint of fewer bits"),
    ],
    ids=["cache", "weights"],
)
def test_what_does_not_fit_a_gpu_is_refused_before_a_byte_goes_up(tmp_path, memory, message):
    status, messages, copies = uploading(tmp_path, memory << 20, "--context", "1000")
    assert status == 2 and messages.count("\n") == 1, messages
    assert message in messages
    assert copies == 0


def test_weights_that_fit_a_gpu_go_up(tmp_path):
    status, messages, copies = uploading(tmp_path, 12 << 20)
    assert (status, messages) == (0, "") and copies > 0
