"""The handles of pipeline._core: life time, memory without copies, threads, misuse."""

import mmap
import threading
import time

import numpy as np
import pytest
from support.axes import axis, each
from support.processors import CHECKERS, PROCESSORS

import pipeline
from pipeline import _core
from pipeline.errors import BuildError, ClosedError, CompileError, DeviceError, UsageError
from pipeline.metalc.toolchain import runnable_isas

# Handles are not about kernels, and refusals are the same on every device.
pytestmark = pytest.mark.one_processor
once = each("opened", axis(PROCESSORS + CHECKERS, daily=PROCESSORS[-1:]), indirect=["opened"])

DOUBLE = """
#include <metal_stdlib>
using namespace metal;
struct Args { uint n; float factor; };
kernel void scale(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                  constant Args &args [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    if (i < args.n) y[i] = x[i] * args.factor;
}
kernel void step(device float *x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] += 1.0f; }
"""


@pytest.fixture(scope="module")
def single(opened):
    """The device, with threadgroups of one thread: these kernels go by threadgroups."""
    return pipeline.open_device("checker", threads=1) if opened.name == "checker" else opened


@pytest.fixture
def device(single):
    yield single
    found = [str(each) for each in single.findings if each.kind != "uninitialised read"]  # new buffers are zeroed
    single.clear_findings()
    assert found == []


@pytest.fixture(scope="module")
def library(single, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield single.core.compile(DOUBLE)


def floats(buffer):
    return np.frombuffer(buffer, np.float32)


def scale_chain(device, library, x, y, n, factor):
    kernel = library.kernel("scale")
    dispatch = _core.Dispatch(
        kernel,
        [(0, x, 0, 4 * n), (1, y, 0, 4 * n)],
        (2, kernel.pack("args", {"n": n, "factor": factor})),
        (n, 1, 1),
        label="scale",
    )
    return device.core.chain([dispatch], "scaling")


@pytest.mark.parametrize("handle", ["Device", "Library", "Kernel", "Buffer", "Chain", "Run"])
def test_handles_are_not_made_directly(handle):
    with pytest.raises(TypeError, match="open_device"):
        getattr(_core, handle)()


def test_an_unmade_handle_is_closed():
    with pytest.raises(ClosedError):
        _ = _core.Device.__new__(_core.Device).name


@once
def test_use_after_close(device, library):
    other = _core.open_device("auto", threads=1)
    buffer = other.buffer(16)
    other.close()
    other.close()  # again is fine
    assert other.closed
    for use in (lambda: other.name, lambda: other.buffer(4), lambda: other.compile(DOUBLE)):
        with pytest.raises(ClosedError, match="Device is closed"):
            use()
    assert floats(buffer).sum() == 0  # what was made from it lives on
    with device.core.buffer(16) as short:
        pass
    with pytest.raises(ClosedError, match="Buffer is closed"):
        _ = short.nbytes


def test_unknown_device_lists_the_devices():
    with pytest.raises(DeviceError, match="no device named 'tpu'.*auto"):
        _core.open_device("tpu")
    with pytest.raises(UsageError, match="threads"):
        _core.open_device("auto", threads=-1)


@once
def test_impossible_buffers(device):
    for nbytes in (0, -1):
        with pytest.raises(BuildError, match="at least one byte"):
            device.core.buffer(nbytes)
    with pytest.raises(DeviceError, match=r"a buffer of \d+ bytes"):
        device.core.buffer(2**62)


def test_memory_is_shared_with_numpy(device, library):
    x, y = device.core.buffer(40), device.core.buffer(40)
    floats(x)[:] = np.arange(10)
    view = floats(y)
    scale_chain(device, library, x, y, 10, 3.0).run()
    np.testing.assert_array_equal(view, 3 * np.arange(10))  # the view from before the run


@once
def test_a_buffer_that_is_seen_stays(device):
    buffer = device.core.buffer(64)
    views = [memoryview(buffer), memoryview(buffer)]
    for view in views:
        with pytest.raises(BufferError, match="still seen"):
            buffer.close()
        view.release()
    buffer.close()


def test_wrapping_a_map_without_a_copy(device, library, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(np.arange(5000, dtype=np.float32).tobytes())  # not whole pages
    with open(path, "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    x, y = device.core.wrap(memory), device.core.buffer(20000)
    assert x.readonly and memoryview(x).readonly and not memoryview(y).readonly
    scale_chain(device, library, x, y, 5000, 2.0).run()
    np.testing.assert_array_equal(floats(y), 2 * np.arange(5000))
    with pytest.raises(BuildError, match="wraps read-only memory"):
        scale_chain(device, library, y, x, 5000, 2.0)


def test_wrapping_pages_of_numpy(device, library):
    memory = mmap.mmap(-1, _core.PAGE_SIZE)  # anonymous, page-aligned, writable
    array = np.frombuffer(memory, np.float32)
    buffer = device.core.wrap(array)
    array[:8] = 5
    scale_chain(device, library, buffer, buffer, 8, 2.0).run()
    assert (array[:8] == 10).all()
    with pytest.raises(DeviceError, match="page size"):
        device.core.wrap(np.zeros(_core.PAGE_SIZE + 8, np.uint8)[8:])


@pytest.mark.parametrize(
    "bindings, message",
    [
        ([(0, 0, 40)], r"scale \(scale\): argument 'y' \(buffer 1\) is not bound"),
        ([(0, 0, 40), (1, 0, 44)], r"argument 'y': bytes 0 \+ 44 are not within a buffer of 40"),
        ([(0, 2, 38), (1, 0, 40)], r"argument 'x': offset 2 is not a multiple of 4"),
        ([(0, 0, 40), (1, 0, 40), (7, 0, 40)], "has no buffer argument 7"),
        ([(0, 0, 40), (1, 40, 4)], "not within a buffer"),
    ],
)
@once
def test_bindings_that_do_not_fit(device, library, bindings, message):
    kernel, buffers = library.kernel("scale"), [device.core.buffer(40) for _ in range(8)]
    given = [(slot, buffers[slot], offset, nbytes) for slot, offset, nbytes in bindings]
    constants = (2, kernel.pack("args", {"n": 10, "factor": 1.0}))
    with pytest.raises(BuildError, match=message):
        device.core.chain([_core.Dispatch(kernel, given, constants, (10, 1, 1), label="scale")])


@once
def test_empty_chains_and_grids(device, library):
    with pytest.raises(BuildError, match="no dispatches"):
        device.core.chain([], "nothing")
    with pytest.raises(BuildError, match="empty grid"):
        device.core.chain([_core.Dispatch(library.kernel("step"), [(0, device.core.buffer(4), 0, 4)], None, (0, 1, 1))])


@once
def test_reflection_and_packing(library):
    kernel = library.kernel("scale")
    assert [(a.name, a.index, a.writes) for a in kernel.arguments] == [
        ("x", 0, False),
        ("y", 1, True),
        ("args", 2, False),
    ]
    assert kernel.pack("args", {"n": 3, "factor": 0.5}) == np.uint32(3).tobytes() + np.float32(0.5).tobytes()
    with pytest.raises(BuildError, match="members n, factor"):
        kernel.pack("args", {"n": 3})
    for n, factor, words in [
        (-1, 1, "args.n = -1 does not fit uint, which holds 0 to 4294967295"),
        (2**32, 1, "args.n = 4294967296 does not fit uint, which holds 0 to 4294967295"),
        (1.5, 1, "args.n takes a whole number, not 1.5"),
        ("x", 1, "args.n takes a number, not 'x'"),
        ([1, 2], 1, "args.n takes one number, not [1, 2]"),
        (1, 1e60, "args.factor = 1e+60 does not fit float, whose largest number is 3.40282e+38"),
        (1, 10**400, "does not fit float, whose largest number is 3.40282e+38"),
    ]:
        with pytest.raises(BuildError) as caught:
            kernel.pack("args", {"n": n, "factor": factor})
        assert words in str(caught.value)
    with pytest.raises(BuildError, match="no struct argument called other"):
        kernel.pack("other", {})


@once
def test_compile_errors_name_the_line(device):
    with pytest.raises(CompileError, match=r":3: .*nonsense"):
        device.core.compile(
            "#include <metal_stdlib>\nusing namespace metal;\n"
            "kernel void f(device float *x [[buffer(0)]]) { nonsense; }\n"
        )
    with pytest.raises(CompileError, match="no kernel named 'absent'"):
        device.kernel("absent")
    with pytest.raises(CompileError, match="no/such"):
        device.core.open_library("no/such.metallib")


def test_many_runs_in_flight_keep_their_order(device, library):
    x = device.core.buffer(4)
    chain = device.core.chain([_core.Dispatch(library.kernel("step"), [(0, x, 0, 4)])] * 3, "steps")
    assert chain.conflicts == [-1, 0, 1]
    before = device.command_buffers
    runs = [chain.commit() for _ in range(100)]
    runs[-1].wait()
    assert all(run.done for run in runs) and floats(x)[0] == 300
    assert device.command_buffers - before == 100
    start, end = runs[0].device_seconds
    assert end >= start > 0 and runs[0].encode_seconds > 0


def test_a_run_dropped_early_still_happens(device, library):
    x = device.core.buffer(4)
    device.core.chain(
        [_core.Dispatch(library.kernel("step"), [(0, x, 0, 4)])], "steps"
    ).commit()  # chain and run go at once
    assert floats(x)[0] == 1


def test_threads_run_chains_of_their_own(device, library):
    results = {}

    def work(n):
        x, y = device.core.buffer(4 * 1000), device.core.buffer(4 * 1000)
        floats(x)[:] = n
        chain = scale_chain(device, library, x, y, 1000, 2.0)
        ok = True
        for _ in range(200):
            floats(y)[:] = 0
            chain.run()
            ok = ok and (floats(y) == 2 * n).all()
        results[n] = ok

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(6), True)


SLOW = """
#include <metal_stdlib>
using namespace metal;
kernel void slow(device uint *x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    uint a = x[i];
    for (uint k = 0; k < 300000000u; k++) a = a * 1664525u + 1013904223u;
    x[i] = a;
}
"""


@once
def test_the_gil_is_released_while_waiting(device):
    x = device.core.buffer(4)
    chain = device.core.chain([_core.Dispatch(device.core.compile(SLOW).kernel("slow"), [(0, x, 0, 4)])], "slow")
    seen = []
    worker = threading.Thread(target=lambda: (chain.run(), seen.append("done")))
    worker.start()
    ticks = 0
    while worker.is_alive():
        time.sleep(0.001)
        ticks += 1
    assert seen == ["done"] and ticks > 5  # this thread went on meanwhile


def test_closing_while_another_thread_waits(device):
    x = device.core.buffer(4)
    chain = device.core.chain([_core.Dispatch(device.core.compile(SLOW).kernel("slow"), [(0, x, 0, 4)])], "slow")
    run = chain.commit()
    worker = threading.Thread(target=run.wait)
    worker.start()
    chain.close()
    x.close()
    worker.join()
    assert run.done


def test_barriers_from_byte_ranges():
    def barriers(*dispatches):
        return _core.plan_barriers(dispatches)

    read, write = (1, 0, 64, False), (1, 0, 64, True)
    assert barriers([read], [read]) == [-1, -1]
    assert barriers([write], [read]) == [-1, 0]  # read after write
    assert barriers([read], [write]) == [-1, 0]  # write after read
    assert barriers([write], [write]) == [-1, 0]
    assert barriers([write], [(2, 0, 64, True)]) == [-1, -1]  # another resource
    assert barriers([(1, 0, 32, True)], [(1, 32, 64, True)]) == [-1, -1]  # ranges that only touch
    assert barriers([(1, 0, 33, True)], [(1, 32, 64, False)]) == [-1, 0]
    assert barriers([write], [(2, 0, 4, True)], [read], [read]) == [-1, -1, 0, -1]  # one barrier serves both
    assert barriers([write], [read], [(1, 0, 4, True)]) == [-1, 0, 1]


def test_a_run_of_fewer_rows_and_never_more(device):
    source = (
        "kernel void mark(device float *x [[buffer(0)]], uint3 at [[threadgroup_position_in_grid]]) "
        "{ x[at.y] += 1.0f; }"
    )
    kernel, x = (
        device.core.compile("#include <metal_stdlib>\nusing namespace metal;\n" + source).kernel("mark"),
        device.core.buffer(24),
    )
    made = {
        tile: device.core.chain([_core.Dispatch(kernel, [(0, x, 0, 24)], None, (1, 3, 1), tile)]) for tile in (0, 1, 2)
    }
    for tile, rows, marked in (
        (1, 0, 3),
        (1, 1, 1),
        (1, 2, 2),
        (1, 3, 3),
        (1, 99, 3),
        (2, 1, 1),
        (2, 4, 2),
        (2, 5, 3),
        (2, 99, 3),
        (0, 1, 3),
    ):
        floats(x)[:] = 0
        made[tile].run(rows)
        assert floats(x).tolist() == [1.0] * marked + [0.0] * (6 - marked)


def test_a_trace_of_one_kernel_twice(device):
    source = "kernel void twice(device float *x [[buffer(0)]]) { x[0] *= 2.0f; }"
    kernel = device.core.compile("#include <metal_stdlib>\nusing namespace metal;\n" + source).kernel("twice")
    x = device.core.buffer(16)
    floats(x)[0] = 3
    times = device.core.chain([_core.Dispatch(kernel, [(0, x, 0, 16)])] * 2).trace()
    assert floats(x)[0] == 12
    assert len(times) == 2 and times[0][0] <= times[0][1] <= times[1][0] <= times[1][1]


def test_a_run_finds_its_rows_in_its_struct(device):
    source = (
        "struct Args { uint rows; };\n"
        "kernel void told(device float *x [[buffer(0)]], constant Args &args [[buffer(1)]]) { x[0] = args.rows; }"
    )
    kernel = device.core.compile("#include <metal_stdlib>\nusing namespace metal;\n" + source).kernel("told")
    x, constants = device.core.buffer(16), (1, kernel.pack("args", {"rows": 5}))
    made = device.core.chain([_core.Dispatch(kernel, [(0, x, 0, 16)], constants, rows_member="rows")])
    for rows, told in ((0, 5), (1, 1), (2, 2), (4, 4), (5, 5), (9, 5)):
        made.run(rows)
        assert floats(x)[0] == told


@pytest.mark.parametrize(
    "slot, given, message",
    [
        (99, b"12345678", r"scale \(scale\) has no buffer argument 99"),
        (3, b"12345678", "has no buffer argument 3"),
        (1, b"12345678", "argument 'y' is written; give it a buffer, not bytes"),
        (2, b"123", "argument 'args': 3 bytes are given, it takes 8"),
        (2, b"", "argument 'args': 0 bytes are given, it takes 8"),
    ],
)
@once
def test_bytes_that_do_not_fit(device, library, slot, given, message):
    x = device.core.buffer(40)
    with pytest.raises(BuildError, match=message):
        device.core.chain(
            [_core.Dispatch(library.kernel("scale"), [(0, x, 0, 40), (1, x, 0, 40)], (slot, given), label="scale")]
        )


@pytest.mark.parametrize(
    "dispatch, error",
    [
        (lambda kernel, x: _core.Dispatch(None, [], label="none"), TypeError),
        (lambda kernel, x: _core.Dispatch(3, [], label="three"), TypeError),
        (lambda kernel, x: _core.Dispatch(kernel, [(0, None, 0, 4)]), (TypeError, AttributeError)),
        (lambda kernel, x: _core.Dispatch(kernel, [(0, np.zeros(1), 0, 4)]), TypeError),
        (lambda kernel, x: _core.Dispatch(kernel, [(0, x, -4, 4)]), OverflowError),
        (lambda kernel, x: _core.Dispatch(kernel, [(0, x, 0, 4)], None, (1, -1, 1)), OverflowError),
        (lambda kernel, x: _core.Dispatch(_core.Kernel.__new__(_core.Kernel), [], label="unmade"), ClosedError),
        (lambda kernel, x: "no dispatch", AttributeError),
    ],
)
@once
def test_nonsense_is_an_exception(device, library, dispatch, error):
    with pytest.raises(error):
        device.core.chain([dispatch(library.kernel("step"), device.core.buffer(4))])


# Grids and threadgroups as the caller states them

PLACES = """
#include <metal_stdlib>
using namespace metal;
kernel void places(device uint *out [[buffer(0)]], threadgroup uint *scratch [[threadgroup(1)]],
                   uint3 at [[thread_position_in_grid]], uint3 grid [[threads_per_grid]]) {
    scratch[0] = 0;
    out[(at.z * grid.y + at.y) * grid.x + at.x] = 100 * at.z + 10 * at.y + at.x;
}
"""


@pytest.fixture(scope="module")
def places():
    """On one-thread threadgroups, which every device has."""
    device = _core.open_device("auto")
    return device, device.compile(PLACES).kernel("places")


@pytest.mark.parametrize("size", [{"grid": (3, 4, 5)}, {"threadgroups": (3, 4, 5)}], ids=lambda each: next(iter(each)))
def test_grids_of_three_dimensions(places, size):
    device, kernel = places
    buffer = device.buffer(4 * 60)
    chain = device.chain(
        [_core.Dispatch(kernel, [(0, buffer, 0, 240)], threads=(1, 1, 1), threadgroup_memory={1: 16}, **size)]
    )
    chain.run()
    z, y, x = np.indices((5, 4, 3))
    assert np.array_equal(np.frombuffer(buffer, np.uint32).reshape(5, 4, 3), 100 * z + 10 * y + x)


@pytest.mark.parametrize(
    "size, words",
    [
        ({"grid": (0, 1, 1)}, "at least 1"),
        ({"grid": (1, 1)}, "three sizes"),
        ({"threads": (1, 0, 1)}, "at least 1"),
        ({"threads": (1025, 1, 1)}, "threadgroup of 1025 x 1 x 1 threads"),
        ({"threadgroups": (0, 1, 1)}, "empty grid"),
        ({"threadgroup_memory": {}}, r"'scratch' \(threadgroup 1\) is given 0 bytes"),
        ({"threadgroup_memory": {1: 20}}, "multiple of 16"),
        ({"threadgroup_memory": {0: 16}}, "no threadgroup argument 0"),
    ],
)
def test_impossible_sizes(places, size, words):
    device, kernel = places
    buffer = device.buffer(4)
    with pytest.raises(BuildError, match=words):
        device.chain([_core.Dispatch(kernel, [(0, buffer, 0, 4)], **({"threadgroup_memory": {1: 16}} | size))])


LIMITED = """
#include <metal_stdlib>
using namespace metal;
enum { MOST = 12 };
#define WRITE(name) void name(device uint *y [[buffer(0)]], uint threads [[threads_per_threadgroup]], \\
                              uint i [[thread_index_in_threadgroup]]) { if (i == 0) y[0] = threads; }
kernel WRITE(free)
[[max_total_threads_per_threadgroup(48)]] kernel WRITE(before)
[[kernel, max_total_threads_per_threadgroup(MOST)]] WRITE(within)
[[kernel]] [[max_total_threads_per_threadgroup(64)]] WRITE(behind)
"""


def test_a_shader_says_how_large_its_threadgroups_are(opened, tmp_path, monkeypatch):
    """The core reads the size back from the pipeline state; on the cpu device a threadgroup stays one thread."""
    monkeypatch.setenv("OB_CACHE", str(tmp_path))
    library = opened.core.compile(LIMITED)
    kind = opened.name.partition(":")[0]
    many = kind != "cpu"
    most = {"checker": opened.threads, "cuda": 256}.get(kind, library.kernel("free").threads)  # where none is stated
    # Whole simdgroups where one fits; those of devices that have many threads have 32.
    sizes = {"free": most, "before": 32, "within": 12, "behind": 64}
    for name, size in sizes.items():
        kernel, y = library.kernel(name), opened.core.buffer(4)
        size = size if many else 1
        assert kernel.threads == size, name
        opened.core.chain([_core.Dispatch(kernel, [(0, y, 0, 4)])]).run()
        assert np.frombuffer(y, np.uint32)[0] == size, name
    if many:
        most = _core.Dispatch(library.kernel("before"), [(0, opened.core.buffer(4), 0, 4)], threads=(48, 1, 1))
        opened.core.chain([most]).run()
        with pytest.raises(BuildError, match="49 x 1 x 1 threads; it has 1 to 48"):
            most.threads = (49, 1, 1)
            opened.core.chain([most])
    opened.clear_findings()


def test_options_that_a_device_lacks(opened):
    with pytest.raises(UsageError, match="schedules"):
        _core.open_device("cpu", schedules=-1)
    if opened.name != "checker":
        return
    with pytest.raises(UsageError, match="no instruction sets.*cpu"):
        _core.open_device("checker", isa="avx2")


def test_an_instruction_set_of_choice(opened, monkeypatch):
    """It goes before OB_ISA, for what is opened and for what is compiled."""
    if opened.name != "cpu":
        pytest.skip("only processors have instruction sets")
    monkeypatch.setenv("OB_ISA", "avx1024")
    least = runnable_isas()[0]
    assert _core.open_device("cpu", isa=least).isa == least
    with pytest.raises(DeviceError, match=f"'avx1024'.*is no instruction set; choose one of: .*{least}"):
        _core.open_device("cpu", isa="avx1024")
    with pytest.raises(CompileError, match="OB_ISA is 'avx1024'"):
        _core.open_device("cpu").compile(DOUBLE)


def test_kernels_say_whether_they_are_native(opened, monkeypatch):
    """Native kernels are for x86-64 with AVX2, for quantised weights, unless OB_NATIVE is 0."""
    there = opened.name == "cpu" and opened.threads > 1 and "avx2" in runnable_isas()
    for name, native in {"linear_q4_f32": there, "linear_f32": False, "rms_norm_f32_f32": False}.items():
        assert opened.kernel(name).native == native, name
    monkeypatch.setenv("OB_NATIVE", "0")
    assert not pipeline.open_device("cpu", threads=2).kernel("linear_q4_f32").native


@once
def test_source_has_no_native_kernels(library):
    assert not library.kernel("scale").native
