"""Without memory the core gives errors: each of its allocations fails, once and for good, and nothing ends the process.

The core's own code asks for some hundred in a story, and its Foundation for some thousand, of which a sample fails.
What the Objective-C runtime asks for is made to fail once only: for good, it cannot even throw the exception that says
so, and ends the process.
"""

import json
import os
import subprocess
import sys

import pytest
from support.locks import alone_in
from support.metal_harness import ROOT, toolchain

from pipeline import ops

if sys.platform == "darwin":
    pytest.skip("macOS has other ways to replace malloc", allow_module_level=True)

SOURCES = ROOT / "tests" / "support" / "memory"
OPERATIONS = [name for name in ops.__all__ if callable(getattr(ops, name)) and name != "Sampled"]


@pytest.fixture(scope="module")
def hook():
    folder = ROOT / "build" / "tests" / "memory"
    with alone_in(folder):
        made, source = folder / "failing.so", SOURCES / "failing.c"
        if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
            command = [*toolchain.find().compiler, "-O1", "-g", "-shared", "-fPIC", source, "-o", made, "-ldl"]
            subprocess.run(command, check=True)
    return made


def inject(hook, name, when, whose="own", first=0, step=1):
    """The number of allocations of a scenario, and the outcomes of those that were made to fail."""
    command = [sys.executable, SOURCES / "scenarios.py", name, when, whose, str(first), str(step)]
    environment = {**os.environ, "LD_PRELOAD": str(hook), "OB_THREADS": "2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{name}, allocation {done.stderr[-2000:]}"
    found = json.loads(done.stdout)
    return found["allocations"], found["outcomes"]


def check(allocations, outcomes, least, errors=0.8):
    """Each error says in its first line what there was no memory for, or what did not work for that reason.

    errors is the least share of the allocations whose failure is an error. The others failed without
    harm: the core asked again or did without, and the result is right, which scenarios.py asserts.
    """
    assert allocations >= least
    lines = [text.splitlines()[0] for text in outcomes if text]
    assert [line for line in lines if len(line) < 20 or "(null)" in line] == []
    assert sum(count for text, count in outcomes.items() if text) >= errors * sum(outcomes.values())
    assert any("memory" in line for line in lines)


# Half of a story's allocations fail once, the other half for good. One that fails takes a whole story.
HALVES = [("once", 0, 2), ("good", 1, 2)]
ALL = [pytest.param(when, 0, 1, marks=pytest.mark.exhaustive) for when in ("once", "good")]


@pytest.mark.parametrize("when, first, step", HALVES + ALL)
def test_a_story(hook, when, first, step):
    check(*inject(hook, "story", when, first=first, step=step), least=150)


@pytest.mark.parametrize("when, first", [("once", 0), ("good", 50)])
def test_a_story_with_what_foundation_asks_for(hook, when, first):
    check(*inject(hook, "story", when, "foundation", first, 151), least=2000)


@pytest.mark.parametrize("when, whose, first, step", [("once", "own", 0, 5), ("good", "foundation", 1, 201)])
def test_a_story_on_a_system_that_keeps_buffers_and_compiled_kernels(
    hook, when, whose, first, step, monkeypatch, tmp_path
):
    monkeypatch.setenv("OB_LIMITS", "macOS=15")
    monkeypatch.setenv("OB_CACHE", str(tmp_path))
    # What an archive has no memory for is compiled as without one.
    check(*inject(hook, "story", when, whose, first, step), least=150, errors=0.5)


@pytest.mark.parametrize("step", [503, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_story_with_what_libraries_ask_for(hook, step):
    check(*inject(hook, "story", "once", "whole", 5, step), least=2000)


@pytest.mark.parametrize("when, first, step", HALVES + ALL)
def test_a_kernel_on_the_checker(hook, when, first, step):
    # One in six takes the findings of a run, which stay with the checker until there is memory for them.
    check(*inject(hook, "checked", when, first=first, step=step), least=15, errors=0.7)


@pytest.mark.parametrize("when", ["once", "good"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_function(hook, name, when):
    check(*inject(hook, name, when), least=15)
