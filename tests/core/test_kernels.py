"""Kernels of one's own through the public interface: arrays in and out, several in one command buffer, findings."""

import numpy as np
import pytest
from support.axes import axis, each

import pipeline as p
from pipeline.device import resources
from pipeline.errors import BuildError, CompileError, DTypeError, FindingsError, OnebufError, RunError, ShapeError

SOURCE = """
#include <metal_stdlib>
using namespace metal;

struct Args { uint n; float scale; };

kernel void scaled(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                   constant Args &args [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    if (i < args.n) y[i] = args.scale * x[i];
}

kernel void counted(device uint *counts [[buffer(0)]], constant uint &step [[buffer(1)]],
                    uint i [[thread_position_in_grid]]) {
    counts[i] += step;
}

kernel void reversed(device float *x [[buffer(0)]], threadgroup float *shared [[threadgroup(0)]],
                     constant uint &n [[buffer(1)]], uint i [[thread_index_in_threadgroup]],
                     uint size [[threads_per_threadgroup]]) {
    for (uint k = i; k < n; k += size) shared[k] = x[k];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint k = i; k < n; k += size) x[k] = shared[n - 1 - k];
}

kernel void moved(device const float4 *x [[buffer(0)]], device half2 *y [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
    y[i] = half2(x[i].xw);
}

kernel void unguarded(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                      uint i [[thread_position_in_grid]]) {
    y[i] = x[i + 1];
}
"""


@pytest.fixture(scope="module", params=["cpu", "checker"])
def own(request):
    return p.open_device(request.param, threads=2 if request.param == "cpu" else 0)


# Refusals are the same on every device.
once = each("own", axis(["cpu", "checker"], daily=["cpu"]), indirect=["own"])


@pytest.fixture(scope="module")
def library(own):
    return own.compile(SOURCE)


@pytest.fixture
def kernel(library, own):
    yield library.kernel
    own.check()


def test_arrays_are_written_in_place_and_returned(kernel):
    x, y = np.arange(10, dtype=np.float32), np.full(12, -1, np.float32)
    (result,) = kernel("scaled").run(x, y, grid=12, threads=1, constants={"args": {"n": 10, "scale": 0.5}})
    assert result is y
    np.testing.assert_array_equal(y, [*x / 2, -1, -1])


def test_arrays_need_not_be_contiguous(kernel):
    whole = np.zeros((6, 2), np.uint32)
    kernel("counted").run(whole[::2, 1], np.uint32(3), grid=3, threads=1)
    np.testing.assert_array_equal(whole, [[0, 3], [0, 0]] * 3)


def test_a_scalar_may_be_a_constant_by_name(kernel):
    counts = np.zeros(4, np.uint32)
    kernel("counted").run(counts, threadgroups=4, threads=1, constants={"step": np.uint32(7)})
    np.testing.assert_array_equal(counts, 7)


def test_vectors_have_their_numbers_last(kernel):
    x, y = np.arange(12, dtype=np.float32).reshape(3, 4), np.zeros((3, 2), np.float16)
    kernel("moved").run(x, y, grid=3, threads=1)
    np.testing.assert_array_equal(y, x[:, [0, 3]])


def test_threadgroup_memory_has_a_length(kernel):
    x = np.arange(9, dtype=np.float32)
    kernel("reversed").run(x, np.uint32(9), threadgroups=1, threadgroup_memory={"shared": 48})
    np.testing.assert_array_equal(x, np.arange(9)[::-1])


def test_records_are_structs(kernel):
    args, y = np.array([(3, 2.0)], [("n", "<u4"), ("scale", "<f4")]), np.zeros(4, np.float32)
    kernel("scaled").run(np.ones(4, np.float32), y, args, grid=4, threads=1)
    np.testing.assert_array_equal(y, [2, 2, 2, 0])


def test_memory_that_stays(kernel, own):
    counts = own.buffer(np.zeros((2, 2), np.uint32))
    for step in (1, 10):
        (result,) = kernel("counted").run(counts, np.uint32(step), grid=4, threads=1)
    np.testing.assert_array_equal(result, [[11, 11], [11, 11]])
    np.testing.assert_array_equal(counts.array, result)
    assert counts.nbytes == 16 and "uint32" in repr(counts)


def test_a_chain_is_one_command_buffer_and_orders_its_kernels(kernel, own):
    x, y, z = own.buffer(np.arange(8, dtype=np.float32)), own.empty(8), own.empty((2, 4))
    args = {"args": {"n": 8, "scale": 2.0}}
    chain = own.chain(
        [
            p.Dispatch(kernel("scaled"), x, y, grid=8, threads=1, constants=args, label="first"),
            p.Dispatch(kernel("scaled"), y, z, grid=8, threads=1, constants=args, label="second"),
        ]
    )
    before = own.command_buffers
    chain.run()
    assert own.command_buffers == before + 1 and len(chain) == 2 and chain.core.conflicts == [-1, 0]
    np.testing.assert_array_equal(z.array, 4 * np.arange(8).reshape(2, 4))


@once
def test_names(library):
    assert {"scaled", "counted", "reversed", "moved", "unguarded"} == set(library.kernel_names)
    assert repr(library.kernel("counted")) == "Kernel(counted: counts, step)"
    assert [each.writes for each in library.kernel("scaled").arguments] == [False, True, False]
    with pytest.raises(CompileError, match="absent"):
        library.kernel("absent")


X, Y, ONE = np.zeros(4, np.float32), np.zeros(4, np.float32), np.uint32(1)
ARGS = {"args": {"n": 4, "scale": 1.0}}
READ_ONLY = np.zeros(4, np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "name, values, options, error, message",
    [
        (
            "scaled",
            (X,),
            {"constants": ARGS},
            BuildError,
            r"kernel scaled: takes 2 arguments, x \[\[buffer\(0\)\]\], y",
        ),
        ("scaled", (X, Y, X), {"constants": ARGS}, BuildError, r"3 given$"),
        ("counted", (X, X, X), {}, BuildError, r"kernel counted: takes 2 arguments"),
        (
            "scaled",
            (X.astype(float), Y),
            {"constants": ARGS},
            DTypeError,
            r"x \[\[buffer\(0\)\]\] has elements of 4 byt",
        ),
        ("scaled", (X.astype(np.float16), Y), {"constants": ARGS}, DTypeError, r"the array is float16 \(4,\), of 2"),
        ("moved", (X, Y.astype(np.float16)), {}, DTypeError, r"y \[\[buffer\(1\)\]\] has elements of 4 bytes"),
        (
            "counted",
            (np.zeros(4, np.uint32), 1),
            {},
            DTypeError,
            r"step .* is int; give a NumPy array or value, such as",
        ),
        ("scaled", (X, [1.0]), {"constants": ARGS}, DTypeError, r"y .* is list; give a NumPy array"),
        (
            "scaled",
            (X, Y, ONE),
            {},
            DTypeError,
            r"args \[\[buffer\(2\)\]\] is a struct of n, scale, not uint32; give its",
        ),
        ("scaled", (X[:0], Y), {"constants": ARGS}, ShapeError, r"x .* has shape \(0,\); give one element or more"),
        (
            "scaled",
            (X, READ_ONLY),
            {"constants": ARGS},
            BuildError,
            r"y .* is written; give an array that can be written",
        ),
        ("scaled", (X, Y), {"constants": {"args": {"n": 4}}}, BuildError, "args has the members n, scale, got n"),
        (
            "scaled",
            (X, Y),
            {"constants": {"arg": {}}},
            BuildError,
            "constants names 'arg', which is no buffer argument",
        ),
        ("scaled", (X, Y), {"constants": ARGS, "threadgroups": 2}, BuildError, "give either threadgroups or grid"),
        (
            "reversed",
            (X, ONE),
            {},
            BuildError,
            r"shared \[\[threadgroup\(0\)\]\] has no length; give threadgroup_memory=",
        ),
        (
            "counted",
            (Y, ONE),
            {"threadgroup_memory": {"s": 16}},
            BuildError,
            "names 's', which is no threadgroup argument",
        ),
        ("counted", (Y, ONE), {"threads": (1, 0)}, BuildError, r"threads = \(1, 0\); give one to three whole numbers"),
        ("counted", (Y, ONE), {"threads": (1, 1, 1, 1)}, BuildError, "give one to three whole numbers"),
    ],
)
@once
def test_a_call_that_does_not_fit_gets_one_line(library, name, values, options, error, message):
    with pytest.raises(error, match=message) as caught:
        library.kernel(name).run(*values, **({"grid": 4} | options))
    assert "\n" not in str(caught.value)


@once
def test_a_dispatch_writes_buffers_only(library):
    with pytest.raises(BuildError, match=r"y \[\[buffer\(1\)\]\] is written; give device.buffer\(array\)"):
        p.Dispatch(library.kernel("scaled"), X, Y, grid=4, constants=ARGS)


@once
def test_a_chain_takes_dispatches(own, library):
    with pytest.raises(BuildError, match="a chain takes pipeline.Dispatch, not Kernel"):
        own.chain([library.kernel("scaled")])


@once
def test_buffers_hold_numbers(own):
    with pytest.raises(DTypeError, match="a buffer of .O is not possible"):
        own.buffer(np.array([None]))


# Findings


def test_checked_fails_with_what_was_found():
    with pytest.raises(FindingsError, match="the checker found 1 mistake:\n\n.*out of bounds") as caught:
        with p.checked() as device:
            device.compile(SOURCE).kernel("unguarded").run(X, Y, grid=4)
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value.__cause__, RunError)
    (finding,) = caught.value.findings
    assert isinstance(finding, p.Finding) and finding.kernel == "unguarded" and finding.buffer == "x"


def test_checked_passes_what_is_right_and_other_errors():
    with p.checked(schedules=2) as device:
        device.compile(SOURCE).kernel("scaled").run(X, Y, grid=4, constants=ARGS)
    with pytest.raises(CompileError), p.checked() as device:
        device.compile(SOURCE).kernel("absent")


def test_check_forgets_what_it_told():
    device = p.open_device("checker")
    made = device.empty(4)
    device.compile(SOURCE).kernel("scaled").run(device.empty(4), made, grid=4, constants=ARGS)
    with pytest.raises(FindingsError, match="uninitialised read"):
        device.check()
    device.check()


def test_kernels_of_ones_own_need_no_built_in_shaders(monkeypatch):
    def missing(isa=""):
        raise OnebufError("no compiled shaders there")

    monkeypatch.setattr(resources, "shader_library", missing)
    with p.checked() as device:
        (counts,) = (
            device.compile(SOURCE).kernel("counted").run(np.zeros(4, np.uint32), np.uint32(2), grid=4, threads=4)
        )
        assert counts.tolist() == [2] * 4
        with pytest.raises(OnebufError, match="no compiled shaders there"):
            device.kernel("clear_status")
