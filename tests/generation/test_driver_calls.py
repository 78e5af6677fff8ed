"""What a decoded token asks of a GPU's driver, counted there: tests/metal/count_cuda.c stands before the real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processors import has_gpu

TOKENS = 24


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


def calls_of(counter, tmp_path, tokens):
    """The calls of each function in a process that tells a story of so many tokens."""
    file = tmp_path / f"{tokens}"
    command = [sys.executable, "-m", "pipeline.run", "--device", "cuda", "--prompt", "Once upon a time,", "--json"]
    done = subprocess.run(
        [*command, "--temperature", "0", "--max-tokens", str(tokens)],
        capture_output=True,
        text=True,
        env=os.environ | {"OB_CUDA_DRIVER": str(counter), "COUNT_CUDA_FILE": str(file)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["generated_tokens"] == tokens
    return {name: int(count) for name, count in map(str.split, file.read_text().splitlines())}


def test_a_token_is_one_launch_of_a_graph_on_cuda(counter, tmp_path):
    few, many = calls_of(counter, tmp_path, TOKENS), calls_of(counter, tmp_path, 2 * TOKENS)
    more = {name: many[name] - few[name] for name in few}
    assert more["cuGraphLaunch"] == TOKENS
    per_call = ("cuEvent", "cuCtx", "cuGraphLaunch", "cuMemGetInfo")  # the rest is for what is made or moved
    few_of = ("cuMemHost", "cuMemFreeHost", "cuStream")  # for blocks of the cache, one in 64 tokens; they are kept
    assert {name: count for name, count in more.items() if count > 5 and name.startswith(few_of)} == {}
    assert {name: count for name, count in more.items() if count > 0 and not name.startswith(per_call + few_of)} == {}
    # Events are kept. How many there are depends on how many uploads of weights are under way at once.
    assert more["cuCtxCreate"] == 0 and more["cuEventCreate"] < TOKENS
    # One marks the end of a token's work, and where the GPU had run out of work, one more marks where the next begins.
    assert TOKENS <= more["cuEventRecord"] <= 2 * TOKENS
