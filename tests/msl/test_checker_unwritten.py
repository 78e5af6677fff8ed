"""Reads of memory that nothing wrote are graded: an error where something depends on the value, else a warning."""

import numpy as np
import pytest

from pipeline import _core
from pipeline.device.buffers import empty_buffer, new_buffer
from pipeline.device.findings import finding
from pipeline.device.kernels import Library
from pipeline.errors import RunError

HEAD = """\
#include <metal_stdlib>
using namespace metal;
#define ARGUMENTS device const float *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]
#define GROUP threadgroup float s[64];
#define BARRIER threadgroup_barrier(mem_flags::mem_threadgroup);
"""
# x is not written.
IDLE = {
    "not_used": "volatile float v = x[i]; y[i] = 1;",
    "chosen_away": "float v = x[i]; y[i] = i < 100 ? 1.0f : v;",
    "masked": "y[i] = as_type<uint>(x[i]) & as_type<uint>(y[i]);",
    "copied_to_nowhere": "GROUP s[i] = x[i]; BARRIER y[i] = 1;",
    "clamped_to_one_place": "float v = x[i]; y[i + uint(clamp(v, 0.0f, 0.0f))] = 2;",
    "own_memory": "GROUP float v = s[i]; y[i] = i < 100 ? 1.0f : v;",
}
USED = {
    "copied": "y[i] = x[i];",
    "times_zero": "y[i] = x[i] * 0;",
    "branch": "if (x[i] > 0.5f) y[i] = 1;",
    "address": "y[as_type<uint>(x[i]) & 63] = 1;",
    "through_memory": "GROUP s[i] = x[i]; BARRIER y[i] = s[i];",
    "through_lanes": "y[i] = simd_max(x[i]);",
    "trip_count": "float s = 0; for (uint k = 0; k < (as_type<uint>(x[i]) & 7); k++) s += 1; y[i] = s;",
    "own_memory_used": "GROUP y[i] = s[i];",
    "too_far": "y[min(as_type<uint>(x[i]), 70u)] = 1;",
    "if_it_is_large": "y[i] = max(y[i] + 1, x[i]);",
    "if_it_is_small": "y[i] = min(y[i] - 1, x[i]);",
    "its_own_output": "y[i] = y[i] + 1;",
}
BOTH = "y[i] = x[i];\n volatile float v = x[i + 1];"


@pytest.fixture(scope="module")
def library():
    device = _core.open_device("checker", schedules=3)
    bodies = IDLE | USED | {"both": BOTH}
    text = "".join(f"kernel void {name}(ARGUMENTS) {{ {body} }}\n" for name, body in bodies.items())
    return Library(device, device.compile(HEAD + text))


def reads(library, name, y=None):
    """The uninitialised reads of a run, and what it wrote."""
    device = library._device
    device.findings.clear()
    x = empty_buffer(device, 65, np.float32)
    y = new_buffer(device, np.zeros(64, np.float32)) if y is None else y
    try:
        library.kernel(name).run(x, y, grid=64, threads=64)
    except RunError:
        assert device.findings
    found = [finding(each) for each in device.findings]
    assert not x.array.any(), "the checker leaves the memory as it was"
    return found, y.array


@pytest.mark.parametrize("name", IDLE)
def test_nothing_depends_on_it(library, name):
    found, y = reads(library, name)
    assert [(each.kind, each.severity) for each in found] == [("uninitialised read", "warning")]
    assert "nothing depends on it" in found[0].fix
    assert y[0] == {"masked": 0, "clamped_to_one_place": 2}.get(name, 1)


@pytest.mark.parametrize("name", USED)
def test_something_depends_on_it(library, name):
    y = empty_buffer(library._device, 64, np.float32) if name == "its_own_output" else None
    found, _ = reads(library, name, y)
    assert ("uninitialised read", "error") in {(each.kind, each.severity) for each in found}
    assert not any(each.severity == "warning" and each.kind == "uninitialised read" for each in found)


def test_each_read_is_graded_for_itself(library):
    found, _ = reads(library, "both")
    assert sorted(each.severity for each in found if each.kind == "uninitialised read") == ["error", "warning"]


def test_one_order_of_threads_grades_nothing():
    device = _core.open_device("checker")
    one = Library(device, device.compile(f"{HEAD}kernel void not_used(ARGUMENTS) {{ {IDLE['not_used']} }}"))
    found, _ = reads(one, "not_used")
    assert [each.severity for each in found] == ["error"]
