"""Files that engines of others read as Onebuf does, where these are installed; `families/peers.py` shows more."""

import pytest
from support.axes import each
from support.families import golden, peers
from support.families.cases import CASES

BOUND = 1e-4
# mlx-lm rounds the factor of Gemma 3's embedding to bfloat16; llama.cpp takes GELU from a table in float16.
ROUNDED = {"gemma3_text": 5e-3}


def check(name, column, monkeypatch):
    package = peers.PEERS[column][0]
    pytest.importorskip(package)
    if name in peers.NOT_THERE[package]:
        pytest.skip(f"{package} has no {name}")
    monkeypatch.setenv("OB_NATIVE", "0")
    error, same = peers.compare(name, *peers.PEERS[column])
    assert error < ROUNDED.get(name, BOUND) and same == golden.GREEDY


@each("name, column", CASES, ["mlx-lm, MLX 4", "converted"])
def test_mlx_lm(name, column, monkeypatch):
    check(name, column, monkeypatch)


@pytest.mark.parametrize("name", ["qwen3", "qwen2_moe", "granitemoeshared", "gpt_oss", "gemma3_text", "deepseek_v3"])
def test_llama_cpp(name, monkeypatch):
    pytest.importorskip("gguf")
    check(name, "Q4_K dequantised", monkeypatch)
