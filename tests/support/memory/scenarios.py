"""Runs under failing.c: makes each allocation of a scenario fail, one run for each, and prints what came of it as JSON.

    python scenarios.py NAME once|good own|foundation|whole FIRST STEP

FIRST and STEP choose the allocations: FIRST, FIRST + STEP and so on, to the last one.
"""

import atexit
import collections
import ctypes
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support.checkpoints import short_storyteller  # noqa: E402

import pipeline as p  # noqa: E402
from pipeline import _core, ops  # noqa: E402
from pipeline.errors import OnebufError  # noqa: E402

WHOSE = ("own", "foundation", "whole")
PROMPT = (0, 819, 779, 259)


def places(name: str) -> tuple[int, int]:
    """Where in memory the object file of that name lies."""
    with open("/proc/self/maps") as maps:
        lines = [line.split()[0] for line in maps if os.path.basename(line.rstrip()) == name]
    ends = [int(end, 16) for line in lines for end in line.split("-")]
    return (min(ends), max(ends)) if ends else (0, 0)


def interpreter() -> tuple[int, int]:
    names = (f"libpython3.{sys.version_info.minor}.so.1.0", os.path.basename(os.path.realpath(sys.executable)))
    return next(filter(any, map(places, names)))


def foundation(core: int) -> tuple[int, int]:
    """Where the functions lie by which the core's Foundation asks for memory."""
    lines = subprocess.run(["nm", "-S", _core.__file__], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line.split() for line in lines if line.endswith((" obf_zeroed", " obf_resized"))]
    assert len(found) == 2, "the core's functions are not named"
    starts = [core + int(words[0], 16) for words in found]
    return min(starts), max(start + int(words[1], 16) for start, words in zip(starts, found))


@functools.cache
def short_model():
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return short_storyteller(Path(folder) / "model")


def story(arm):
    """A device, a model and a text. Layers repeat each other's allocations: two stand for all."""
    folder = short_model()
    arm()
    generator = p.Generator(p.load_model(p.open_checkpoint(folder), device=p.open_device("cpu")))
    events = list(generator.run([p.Request(0, PROMPT, max_tokens=3)]))
    failed = [event.error for event in events if hasattr(event, "error")]
    if failed:
        raise OnebufError(failed[0])
    return [event.token for event in events if hasattr(event, "token")]


def checked(arm):
    """A kernel on the checker, which finds a mistake in it."""
    device = p.open_device("checker", threads=32, schedules=2)
    arm()
    pipe = p.Pipeline(device, rows=1)
    chain = pipe.build(pipe.rms_norm(pipe.input("x", (1, 8)), np.ones(8, np.float32)))
    y = chain.run(x=np.ones((1, 8), np.float32)).tolist()
    pipe = p.Pipeline(device, rows=1)
    unwritten = pipe.build(pipe.rms_norm(pipe.state("unwritten", p.Storage.empty((1, 8))), np.ones(8, np.float32)))
    unwritten.run()
    return y, [finding.kind for finding in device.findings]


def f32(*shape):
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape) / 10


ARGUMENTS = {
    "fused_norm_add": lambda: (f32(2, 8), f32(2, 8)),
    "fused_norm_add_scalar": lambda: (f32(2, 8), f32(2, 8), f32(8), 2.0),
    "fused_residual_norm": lambda: (f32(2, 8), f32(2, 8)),
    "fused_residual_norm_scalar": lambda: (f32(2, 8), f32(2, 8), f32(8), 2.0),
    "moe_softmax_topk": lambda: (f32(2, 4), 2),
    "fused_moe_routing": lambda: (f32(2, 4), 2),
    "gumbel_sample": lambda: (f32(2, 20), 1.0, np.array([1, 2], np.uint64)),
    "softmax_sample": lambda: (f32(2, 20), 1.0, 0.5),
}


def operation(name, arm):
    """A call of pipeline.ops, which builds its chain."""
    device, arguments = p.open_device("cpu", threads=1), ARGUMENTS[name]()
    arm()
    given = getattr(ops, name)(*arguments, device=device)
    return [np.asarray(each).tolist() for each in (given if isinstance(given, tuple) else (given,))]


SCENARIOS = {"story": story, "checked": checked} | {name: functools.partial(operation, name) for name in ARGUMENTS}


def outcome(scenario, arm) -> str:
    """The error's class and text, or "" where none was needed and the result is right."""
    try:
        result = scenario(arm)
    except (OnebufError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    assert result == expected, "a result is wrong, and nothing said so"
    return ""


if __name__ == "__main__":
    chosen, when, whose, first, step = sys.argv[1:]
    hook = ctypes.CDLL(None)
    core = places(os.path.basename(_core.__file__))
    hook.failing_places(*map(ctypes.c_void_p, (*core, *interpreter(), *foundation(core[0]))))
    run = SCENARIOS[chosen]
    expected = run(lambda: None)

    def arming(at):
        return lambda: hook.failing_arm(ctypes.c_long(at), when == "good", WHOSE.index(whose))

    assert outcome(run, arming(2**31)) == ""
    count = hook.failing_disarm()
    found = collections.Counter()
    for at in range(int(first), count, int(step)):
        print(at, file=sys.stderr)
        found[outcome(run, arming(at))] += 1
        hook.failing_disarm()
    assert run(lambda: None) == expected, "something stayed broken"
    print(json.dumps({"allocations": count, "outcomes": found}))
