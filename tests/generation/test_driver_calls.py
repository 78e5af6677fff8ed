"""What a decoded token asks of a GPU's driver, counted there: tests/metal/count_cuda.c stands before the real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processors import has_gpu

TOKENS = 24
BESIDES = 8  # command buffers of a story that are not of a decoded token


@pytest.fixture(scope="module")
def counter():
    """The counting driver: the one that COUNT_CUDA_LIBRARY names, where nothing can be compiled, else built here."""
    if sys.platform == "darwin" or not has_gpu():
        pytest.skip("needs a GPU")
    named = os.environ.get("COUNT_CUDA_LIBRARY")
    if named:
        return Path(named).resolve()
    from support import metal_harness as harness  # needs a compiler

    harness.build(harness.VARIANTS["plain"])
    return harness.counting_driver()


STORIES = """
import ctypes, json, os, sys
import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model

counter, file = ctypes.CDLL(os.environ["OB_CUDA_DRIVER"]), os.environ["COUNT_CUDA_FILE"]
with p.open_checkpoint(builtin_model()) as checkpoint:
    model = p.load_model(checkpoint, device="cuda")
model.end_tokens = ()
generator = p.Generator(model, batch_size=1)


def calls(tokens):
    counter.write_counts()
    before = dict(map(str.split, open(file)))
    list(generator.run([p.Request(0, (1, 2, 3), tokens, 0.0, 0)]))
    counter.write_counts()
    return {name: int(count) - int(before[name]) for name, count in map(str.split, open(file))}


calls(8)  # weights go up, chains are made
print(json.dumps([calls(int(tokens)) for tokens in sys.argv[1:]]))
"""


def calls_of(counter, tmp_path, *tokens):
    """For stories of so many tokens, told one after the other, the calls of each function."""
    environment = os.environ | {"OB_CUDA_DRIVER": str(counter), "COUNT_CUDA_FILE": str(tmp_path / "counts")}
    command = [sys.executable, "-c", STORIES, *map(str, tokens)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_token_is_one_launch_of_a_graph_on_cuda(counter, tmp_path):
    few, many = calls_of(counter, tmp_path, TOKENS, 2 * TOKENS)
    more = {name: many[name] - few[name] for name in few}
    assert more["cuGraphLaunch"] == TOKENS
    per_call = ("cuEventQuery", "cuEventRecord", "cuEventElapsed", "cuCtx", "cuGraphLaunch", "cuMemGetInfo")
    few_of = ("cuMemHost", "cuMemFreeHost", "cuStream", "cuEventCreate")  # for blocks of the cache, one in 64 tokens
    assert {name: count for name, count in more.items() if count > 5 and name.startswith(few_of)} == {}
    assert {name: count for name, count in more.items() if count > 0 and not name.startswith(per_call + few_of)} == {}
    assert more["cuCtxCreate"] == 0
    # One marks the end of a command buffer, and where the GPU had run out of work, one more marks where the next
    # begins. A story has a few command buffers besides, such as that of its prompt.
    for each in few, many:
        assert each["cuGraphLaunch"] <= each["cuEventRecord"] <= 2 * (each["cuGraphLaunch"] + BESIDES), each
