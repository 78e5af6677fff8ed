"""Mistakes made on purpose: the checker reports each, of the right kind and at the right line, and is
silent about the corrected twin. The shaders are in tests/msl/mistakes."""

from pathlib import Path

import numpy as np
import pytest
from support.checking import FOLDER, Empty, Shaders, marks
from support.mistakes import CASES, F, line

from pipeline import strict
from pipeline.device.core import _core
from pipeline.device.findings import KINDS


@pytest.fixture(scope="module")
def shaders(tmp_path_factory):
    return Shaders(tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_mistake_is_found_where_it_is(shaders, case):
    """And nothing is found in the corrected twin."""
    found, _ = shaders.run(case.file, case.mistake, case.kernel, case.buffers, bound=case.bound, **case.sizes)
    assert_found(found, case.file, case.kernel)
    found, _ = shaders.run(case.file, 0, case.kernel, case.buffers, bound=case.bound, **case.sizes)
    assert not found, "\n\n".join(map(str, found))


def test_a_wrong_value_without_a_race(shaders):
    """Lanes that a reduction drops are no mistake that watching accesses could show: the value does."""
    logits = np.array([0, 0, 100, 0, 0, 0], F)
    for mistake, most in ((0, 100), (1, 0)):
        found, (_, largest) = shaders.run("halving_stride", mistake, "largest", [logits, Empty(1)], **line(6))
        assert not found and largest[0] == most


def run_steps(shaders, mistake):
    """Both steps of chain.metal in one chain; the findings, the barriers placed, and the result."""
    library, device = shaders.library("chain", mistake), shaders.device
    x, y, z = (device.buffer(4 * 64) for _ in range(3))
    np.frombuffer(x, F)[:] = np.arange(64)
    dispatches = [
        _core.Dispatch(library.kernel(f"{name}_step"), [(0, source, 0, 256), (1, target, 0, 256)], **line(64))
        for name, source, target in (("first", x, y), ("second", y, z))
    ]
    barriers = device.chain(dispatches, "steps").conflicts
    return shaders.run_chain(dispatches), barriers, np.frombuffer(z, F)


def test_a_chain_with_a_barrier_removed(shaders):
    found, barriers, _ = run_steps(shaders, 1)
    assert barriers == [-1, -1]
    assert {each.kind for each in found} >= {"race between dispatches", "write to read-only memory"}
    races = [each for each in found if each.kind == "race between dispatches"]
    here, there = marks("chain", "second_step"), marks("chain", "first_step", "there")
    for race in races:
        assert (race.kernel, race.there.kernel, race.buffer) == ("second_step", "first_step", "y")
        assert {race.line} == here[race.kind] and {race.there.line} == there[""]
    assert races


def test_a_chain_with_its_barrier(shaders):
    found, barriers, z = run_steps(shaders, 0)
    assert not found and barriers == [-1, 0] and np.array_equal(z, 2 * np.arange(64)[::-1])


@pytest.mark.skipif(not strict.available(), reason=strict.INSTALL)
def test_a_wrong_address_space():
    file = str(FOLDER / "address_space.metal")
    lines = {number for number, text in enumerate(Path(file).read_text().splitlines(), 1) if text.endswith("// here")}
    found = strict.check([file], defines=["MISTAKE=1"])
    assert {each.line for each in found} >= lines and all(
        "address space" in str(each) for each in found if each.line in lines
    )
    assert strict.check([file], defines=["MISTAKE=0"]) == []


def assert_found(found, file, kernel):
    """Each kind that is marked is found at its line, and nothing of that kind elsewhere."""
    expected, others = marks(file, kernel), marks(file, kernel, "there").get("", set())
    assert expected and set(expected) <= set(KINDS)
    for kind, lines in expected.items():
        sides = [
            {side.line for side in (each.here, each.there) if side is not None} for each in found if each.kind == kind
        ]
        assert sides, f"no {kind!r} among:\n" + "\n\n".join(map(str, found))
        for side in sides:
            assert side & lines and side <= lines | others | {0}, "\n\n".join(map(str, found))
    for each in found:
        assert each.fix and each.count >= 1 and each.kernel == kernel and each.file.endswith(f"{file}.metal")
        assert (
            f"{each.kind}: kernel '{kernel}'" in str(each) and len(each.here.thread) == len(each.here.threadgroup) == 3
        )
