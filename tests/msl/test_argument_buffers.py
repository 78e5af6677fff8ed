"""Argument buffers, structs whose members point to memory: in Python and on the command line, and checked."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import _core, check
from pipeline.device.buffers import empty_buffer, new_buffer
from pipeline.device.findings import finding
from pipeline.device.kernels import Dispatch, DispatchChain, Library
from pipeline.errors import BuildError, DTypeError, RunError

SHADER = """\
#include <metal_stdlib>
using namespace metal;
enum Ids { First, Second };
struct Inner { uint n; float scale; };
struct Args {
    device const float *x [[id(First)]];
    device float *y [[id(Second)]];
    constant Inner *inner [[id(4)]];
    uint n [[id(5)]];
};
kernel void scaled(constant Args &args [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    if (i < args.n) args.y[i] = args.x[i] * args.inner->scale;
}
struct Layers { array<device const float *, 3> w; device float *out[2]; };
kernel void summed(device const Layers *layers [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    float sum = 0;
    for (int k = 0; k < 3; k++) sum += layers->w[k][i];
    layers->out[0][i] = sum;
    layers->out[1][i] = -sum;
}
struct Row { device float *values; uint count; };
kernel void rows(device const Row *rows [[buffer(0)]], uint2 at [[thread_position_in_grid]]) {
    if (at.x < rows[at.y].count) rows[at.y].values[at.x] = at.y;
}
struct Node { float value; device const Node *next; };
struct List { device const Node *head; };
kernel void follow(constant List &list [[buffer(0)]], device float *sum [[buffer(1)]]) {
    for (device const Node *node = list.head; node != nullptr; node = node->next) sum[0] += node->value;
}
kernel void overwritten(constant Args &args [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    ((device float *)args.x)[i] = i;
}
kernel void together(constant Args &args [[buffer(0)]], uint i [[thread_position_in_grid]]) { args.y[0] = i; }
"""
WORK = next(n for n, line in enumerate(SHADER.splitlines(), 1) if "args.inner->scale" in line)
X = np.arange(8, dtype=np.float32)
INNER = np.array([(8, 2.5)], [("n", "u4"), ("scale", "f4")])


@pytest.fixture(scope="module", params=["cpu", "checker"])
def device(request):
    return _core.open_device(request.param)


@pytest.fixture(scope="module")
def library(device):
    return Library(device, device.compile(SHADER))


@pytest.fixture(scope="module")
def checker():
    device = _core.open_device("checker", schedules=3)
    return Library(device, device.compile(SHADER))


def args(**other):
    return {"args": {"x": X, "y": np.zeros(8, np.float32), "inner": INNER, "n": 8, **other}}


def found(library, name, *values, grid=8, **options):
    """What the checker finds in a run, whether or not it stops it."""
    device = library._device
    device.findings.clear()
    try:
        library.kernel(name).run(*values, grid=grid, threads=grid, **options)
    except RunError:
        assert device.findings
    return [finding(each) for each in device.findings]


def test_members_take_arrays(library, device):
    (y,) = library.kernel("scaled").run(grid=8, threads=1, constants=args())
    np.testing.assert_array_equal(y, X * 2.5)
    assert device.findings == []


def test_members_take_buffers_and_arrays_take_lists(library, device):
    weights = [new_buffer(device, np.full(8, k, np.float32)) for k in (1, 2, 4)]
    out = [np.zeros(8, np.float32), empty_buffer(device, 8, np.float32)]
    first, second = library.kernel("summed").run(grid=8, threads=1, constants={"layers": {"w": weights, "out": out}})
    assert first is out[0]
    np.testing.assert_array_equal(first, np.full(8, 7))
    np.testing.assert_array_equal(second, np.full(8, -7))


def test_an_array_of_structs(library):
    values = [np.full(n, -1, np.float32) for n in (3, 5)]
    structs = [{"values": each, "count": len(each)} for each in values]
    library.kernel("rows").run(grid=(5, 2), threads=1, constants={"rows": structs})
    assert [each.tolist() for each in values] == [[0] * 3, [1] * 5]


def test_a_program_may_lay_structs_out_itself(library, device):
    node = np.dtype([("value", "f4"), ("pad", "u4"), ("next", "u8")])
    last = new_buffer(device, np.array([(2, 0, 0)], node))
    first = new_buffer(device, np.array([(1, 0, last.gpu_address)], node))
    total = np.zeros(1, np.float32)
    lists = {"list": {"head": first}}
    library.kernel("follow").run(total, grid=1, threads=1, constants=lists, resources=[last])
    assert total[0] == 3


def test_dispatches_wait_for_what_addresses_lead_to(library, device):
    middle, end = empty_buffer(device, 8, np.float32), empty_buffer(device, 8, np.float32)
    steps = [args(y=middle), args(x=middle, y=end)]
    steps = [Dispatch(library.kernel("scaled"), grid=8, threads=1, constants=each) for each in steps]
    chain = DispatchChain(device, steps, "two")
    assert chain.core.conflicts == [-1, 0]
    chain.run()
    np.testing.assert_array_equal(end.array, X * 6.25)
    assert device.findings == []


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"y": 3}, BuildError, "args.y points to memory; give an array, a Buffer, or None"),
        ({"x": np.zeros(8)}, DTypeError, "args.x has elements of 4 bytes"),
        ({"n": X}, BuildError, "args.n"),
        ({"z": 1}, BuildError, "x, y, inner, n"),
        ({"y": np.broadcast_to(X, (2, 8))}, BuildError, "args.y is written; give an array that can be written"),
    ],
)
def test_what_does_not_fit_is_one_line(library, change, error, words):
    with pytest.raises(error, match=words) as raised:
        library.kernel("scaled").run(grid=8, threads=1, constants=args(**change))
    assert "\n" not in str(raised.value)


def test_a_list_has_as_many_as_the_member(library):
    with pytest.raises(BuildError, match="layers.w takes a list of 3"):
        library.kernel("summed").run(grid=8, constants={"layers": {"w": [X, X], "out": [X.copy(), X.copy()]}})


def test_a_chain_needs_buffers_for_what_is_written(library):
    with pytest.raises(BuildError, match=r"args\.y is written; give device\.buffer"):
        Dispatch(library.kernel("scaled"), grid=8, constants=args())


# --- what the checker sees


def test_bounds_are_those_of_the_memory(checker):
    (one,) = found(checker, "scaled", constants=args(x=X[:6].copy()))
    assert (one.kind, one.line, one.buffer, one.index) == ("out of bounds", WORK, "args.x", 0)
    assert one.offset in (24, 28) and (one.length, one.space) == (24, "device")


def test_a_null_pointer_is_named(checker):
    (one,) = found(checker, "scaled", constants=args(inner=None))
    assert one.kind == "out of bounds"
    assert "null pointer" in one.text and "set the pointer" in one.fix


def test_memory_that_is_not_made_resident(checker):
    device = checker._device
    x, y, inner = (new_buffer(device, each) for each in (X, X, INNER))
    struct = np.array([(x.gpu_address, y.gpu_address, inner.gpu_address, 8)], "u8,u8,u8,u8")
    (one,) = found(checker, "scaled", struct, resources=[y, inner])
    assert "'args.x' points to memory that useResource does not name" in one.text and "useResource" in one.fix
    assert found(checker, "scaled", struct, resources=[x, y, inner]) == []


def test_uninitialised_memory(checker):
    (one,) = found(checker, "scaled", constants=args(x=empty_buffer(checker._device, 8, np.float32)))
    assert (one.kind, one.buffer) == ("uninitialised read", "args.x")


def test_memory_that_is_only_read(checker):
    (one,) = found(checker, "overwritten", constants=args())
    assert (one.kind, one.buffer) == ("write to read-only memory", "args.x")


def test_races_and_other_results(checker):
    kinds = {(one.kind, one.buffer) for one in found(checker, "together", constants=args())}
    assert ("race", "args.y") in kinds


def test_a_name_of_an_element(checker):
    structs = [{"values": np.zeros(2, np.float32), "count": n} for n in (2, 4)]
    (one,) = found(checker, "rows", grid=(4, 2), constants={"rows": structs})
    assert (one.kind, one.buffer) == ("out of bounds", "rows[1].values")


def test_a_name_in_an_array(checker):
    members = {"w": [X, X, X[:4].copy()], "out": [X.copy(), X.copy()]}
    (one,) = found(checker, "summed", constants={"layers": members})
    assert one.buffer == "layers.w[2]"


def test_memory_is_as_before_for_each_order_of_threads(checker):
    assert found(checker, "follow", np.zeros(1, np.float32), grid=1, constants={"list": {"head": None}}) == []
    y = np.full(8, 3, np.float32)
    assert found(checker, "scaled", constants=args(y=y)) == []
    np.testing.assert_array_equal(y, X * 2.5)


def test_nan_in_memory_that_a_member_points_to(checker):
    endless = INNER.copy()
    endless["scale"] = np.inf
    assert [one.kind for one in found(checker, "scaled", constants=args(inner=endless))] == ["NaN from finite inputs"]


# --- the command line

SCALED = ["--run", "scaled", "--grid", "8", "--threads", "4", "--buffer", "0=struct:x=x,y=y,inner=i,n=8"]
MEMORY = ["--buffer", "x=1,2,3,4,5,6,7,8:float", "--buffer", "y=empty:8:float", "--buffer", "i=0,0x3f000000:uint"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("args.metal").write_text(SHADER)
    return lambda *words: (check.main(["args.metal", "--no-lint", *words]), *capsys.readouterr())


def test_members_take_names_of_buffers(run):
    code, out, _ = run(*SCALED, *MEMORY, "--expect", "y=0.5,1,1.5,2,2.5,3,3.5,4:float")
    assert code == 0, out
    assert "args points to memory with x (read), y (read-write), inner (read)" in out
    assert "buffer y, 'args.y', 8 float32" in out


def test_several_kernels_share_what_members_point_to(run):
    code, out, _ = run(
        *MEMORY,
        *("--buffer", "z=empty:8:float", "--buffer", "a=struct:x=x,y=y,inner=i,n=8"),
        *("--buffer", "b=struct:x=y,y=z,inner=i,n=8"),
        *("--dispatch", "scaled grid=8 threads=8 0=a", "--dispatch", "scaled grid=8 threads=8 0=b"),
        *("--expect", "z=0.25,0.5,0.75,1,1.25,1.5,1.75,2:float"),
    )
    assert code == 0, out


def test_findings_name_members(run):
    code, out, _ = run(*SCALED, "--buffer", "x=1,2:float", *MEMORY[2:])
    assert code == 1
    assert f"args.metal:{WORK}: out of bounds: kernel 'scaled', 'args.x' at buffer index 0" in out


def test_an_array_member_takes_several(run):
    buffers = ["--buffer", "0=struct:w=a:a:b,out=y:z", "--buffer", "a=1,2:float", "--buffer", "b=3,4:float"]
    buffers += ["--buffer", "y=empty:2:float", "--buffer", "z=empty:2:float"]
    code, out, _ = run("--run", "summed", "--grid", "2", "--threads", "2", *buffers, "--expect", "z=-5,-8:float")
    assert code == 0, out


@pytest.mark.parametrize(
    "words, message",
    [
        (["0=struct:x=x,y=y,inner=i,n=8"], "args.x: no --buffer has the name x"),
        (["0=struct:n=8,x=x,n=4"], "n is given twice; give it once"),
        (["0=struct:x=7,y=0,inner=0,n=8"], "args.x points to memory; give the name of a --buffer, as in x=weights"),
        (["0=struct:x=0,y=0,inner=0,n=x", "x=1:float"], "args.n takes a number, not the name 'x'"),
        (["0=struct:x=0,y=0,inner=x,n=1", "x=1:float"], "--buffer x has 4 bytes, and one element has 8"),
        (["0=struct:x=x,y=0,inner=0,n=1", "x=struct:n=1"], "only an argument of a kernel says how a struct lies"),
        (["0=struct:x=0,y=0,inner=0,n=1", "x=1:float"], "--buffer x: with --run, a buffer is named by its index"),
        (["0=struct:x=?,y=0,inner=0,n=1"], "write struct:MEMBER=VALUE"),
    ],
)
def test_mistakes_on_the_command_line(run, words, message):
    code, _, err = run(
        "--run", "scaled", "--grid", "8", "--threads", "8", *(w for each in words for w in ("--buffer", each))
    )
    assert code == 2
    assert message in err and len(err.splitlines()) == 1


def test_ids_of_argument_encoders_are_compiled(device):
    argument = device.compile(SHADER).kernel("scaled").arguments[0]
    assert list(argument.members) == ["x", "y", "inner", "n"]
    assert argument.pointers == {"x": (False, 4), "y": (True, 4), "inner": (False, 8)}


def test_an_address_is_not_that_of_another(device):
    buffers = [empty_buffer(device, 4, np.float32) for _ in range(3)]
    assert len({each.gpu_address for each in buffers}) == 3
    assert buffers[0].gpu_address == buffers[0].gpu_address


def test_a_name_is_no_memory_in_python(library):
    with pytest.raises(BuildError, match="args.x points to memory"):
        library.kernel("scaled").run(grid=8, threads=1, constants=args(x="x"))
