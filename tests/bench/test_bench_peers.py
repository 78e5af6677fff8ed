"""Peers in processes of their own: what they are given, what becomes of their mistakes, and torch on a tiny shape."""

import importlib.util
import json
import os
import types

import numpy as np
import pytest
from support.bench import PEER_MODULES, Unread, calls, refuse, run
from support.families.stored import stored

import pipeline as p
from pipeline import bench
from pipeline.benching import bandwidth, llama_cpp, peer, running, shapes, torch_peer, weights, workloads
from pipeline.benching.gguf_tensors import Part, targets
from pipeline.benching.peer_process import PeerProcess, gpu_variables
from pipeline.benching.workloads import Workload
from pipeline.errors import RunError, UsageError

SHORT = ("--pp", 4, "--tg", 2, "--context", 3, "--repeats", 2, "--warmup", 1, "--no-steps", "--json")


@pytest.fixture(autouse=True)
def unread(monkeypatch):
    monkeypatch.setattr(bandwidth, "Reader", Unread)


@pytest.fixture
def log(monkeypatch, tmp_path):
    """A stand-in for llama-cpp-python; what it notes."""
    monkeypatch.syspath_prepend(PEER_MODULES)
    monkeypatch.setenv("FAKE_LLAMA_LOG", str(tmp_path / "log"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "log"


def cuda(number=0):
    """What a peer asks of a device, as a GPU would answer."""
    return types.SimpleNamespace(name=f"cuda:{number}", threads=0)


# What the peer is given


def test_the_work_of_both_sides(capsys, tmp_path, log):
    """All of the prompt at once; then the context, and each token by itself; twice after a warm-up, in a process of its
    own that has ended afterwards. The ratio is that of the medians."""
    file = stored("llama", "Q8_0", tmp_path)
    code, out, err = run(
        capsys, file, *SHORT, "--batch", 2, "--device", "cpu", "--threads", 2, "--kv-cache", "q8", "--peer", "llama.cpp"
    )
    assert (code, err) == (bench.OK, "")
    found, noted = json.loads(out), calls(log)
    assert found["peer"] == {"name": "llama.cpp", "version": "0.0", "system": "CPU : AVX2 = 1"}
    assert noted[0]["shown"] is None and noted[0]["pid"] != os.getpid() and noted[-1] == {"freed": True}
    assert noted[1] == {"file": str(file), "layers": 0}
    prompt, text = Workload("pp", 4, 2), Workload("tg", 2, 2, 3)
    contexts = [each for each in noted if "context" in each]
    assert contexts == [{"context": 2 * w.positions, "cache": [8, 8], "threads": 2} for w in (prompt, text)]
    vocab, steps = found["model"]["vocab"], [each for each in noted if "tokens" in each]
    first, second = (w.prompts(0, vocab) for w in (prompt, text))
    rows = [[[0]] * 4 + [[1]] * 4, [[0]] * 3 + [[1]] * 3, [[0], [1]], [[0], [1]]]
    once = [
        {"tokens": [*first[0], *first[1]], "positions": [0, 1, 2, 3] * 2, "sequences": rows[0]},
        {"tokens": [*second[0][:3], *second[1][:3]], "positions": [0, 1, 2] * 2, "sequences": rows[1]},
        {"tokens": [row[3] for row in second], "positions": [3, 3], "sequences": rows[2]},
        {"tokens": [row[4] for row in second], "positions": [4, 4], "sequences": rows[3]},
    ]
    assert steps == once[:1] * 3 + once[1:] * 3
    own, other = found["results"][:2]
    assert (own["side"], other["side"]) == ("onebuf", "llama.cpp") and len(other["seconds"]) == 2
    assert own["ratio_to_peer"] == own["median_tokens_per_second"] / other["median_tokens_per_second"]
    assert other["median_tokens_per_second"] == np.median([8 / seconds for seconds in other["seconds"]])
    with pytest.raises(ProcessLookupError):
        os.kill(noted[0]["pid"], 0)


def test_ratios_in_the_tables(capsys, tmp_path, log, monkeypatch):
    """2 tokens in 1 second against 2 in 4."""
    monkeypatch.setattr(workloads.Onebuf, "measure", lambda self, work, prompts: 1.0)
    monkeypatch.setattr(PeerProcess, "measure", lambda self, work, prompts: 4.0)
    file = stored("llama", "Q8_0", tmp_path)
    arguments = [each for each in SHORT if each != "--json"]
    code, out, err = run(capsys, file, *arguments, "--device", "cpu", "--peer", "llama.cpp")
    assert code == bench.OK, err
    lines = out.splitlines()
    assert "llama.cpp 0.0" in lines and lines[3].endswith("× peer")
    assert [line.split()[-1] for line in lines if line.startswith("onebuf")] == ["4.00", "4.00"]


def test_a_gpu_of_several(log, monkeypatch):
    """The peer sees only the GPU that Onebuf uses, and has all layers on it; switches of its own are told of."""
    monkeypatch.setenv("FAKE_LLAMA_GPU", "1")
    monkeypatch.setenv("GGML_CUDA_GRAPH_OPT", "1")
    side = PeerProcess("llama.cpp", cuda(2))
    try:
        side.load(log.parent / "model.gguf", "f16")
        side.prepare(Workload("tg", 1, 1))
        assert side.engine["how"] == "all layers on the GPU, GGML_CUDA_GRAPH_OPT=1"
    finally:
        side.close()
    noted = calls(log)
    assert noted[0]["shown"] == "2" and noted[1]["layers"] == llama_cpp.ALL_LAYERS


def test_gpus_that_are_hidden(monkeypatch):
    """CUDA counts what CUDA_VISIBLE_DEVICES names."""
    for shown, device, expected in (("", "cuda", "0"), ("", "cuda:3", "3"), ("5,GPU-ab", "cuda:1", "GPU-ab")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        assert gpu_variables(device) == {"CUDA_VISIBLE_DEVICES": expected}


# Refusals


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--peer", "torch", "--bits", 16, "--kv-cache", "q8"], ["--kv-cache q8", "16 bits", "leave"]),
        (["--peer", "torch"], ["MLX's quantised weights", "--bits 16"]),
        (["--bits", 8], ["--bits 8", "give 4 or 16"]),
        (["--peer", "pytorch"], ["--peer pytorch", "llama.cpp, torch"]),
    ],
)
def test_refusals(capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(peer.importlib.util, "find_spec", lambda name: object())
    refuse(capsys, "qwen3-30b-a3b", *arguments, words=words)


def test_bits_of_a_file(capsys, tmp_path):
    refuse(capsys, stored("llama", "Q8_0", tmp_path), "--bits", 4, words=["--bits 4", "for shapes only"])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--device", "cuda", "--peer", "llama.cpp"], ['CMAKE_ARGS="-DGGML_CUDA=on" pip install llama-cpp-python']),
        (["--device", "cpu", "--peer", "llama.cpp"], ["here; pip install llama-cpp-python"]),
        (["--device", "cuda:1", "--peer", "torch"], ["pip install torch transformers"]),
    ],
)
def test_peers_that_are_not_installed(capsys, monkeypatch, tmp_path, arguments, words):
    """Before a device is opened: here may be none."""
    monkeypatch.setattr(peer.importlib.util, "find_spec", lambda name: None)
    refuse(capsys, stored("llama", "Q8_0", tmp_path), *arguments, words=["not installed here", *words])


def test_llama_cpp_without_cuda(log):
    with pytest.raises(UsageError, match="--peer llama.cpp: .*without CUDA.*GGML_CUDA=on.* pip install"):
        PeerProcess("llama.cpp", cuda())


def test_a_quantised_folder_beside_torch(tiny_folder):
    with p.open_checkpoint(tiny_folder) as checkpoint, pytest.raises(UsageError, match="MLX's quantised"):
        running._peer_model(types.SimpleNamespace(peer="torch"), checkpoint)


def test_devices_without_a_peer():
    with pytest.raises(UsageError, match="cpu and cuda"):
        running._start_peer(types.SimpleNamespace(peer="torch"), types.SimpleNamespace(name="metal"))


def test_a_peer_that_breaks(capsys, tmp_path, log, monkeypatch):
    """One line with what it said last; nothing is left of it."""
    monkeypatch.setenv("FAKE_LLAMA_EXIT", "1")
    refuse(
        capsys,
        stored("llama", "Q8_0", tmp_path),
        *SHORT,
        "--device",
        "cpu",
        "--peer",
        "llama.cpp",
        words=["--peer llama.cpp: its process ended with 3 (the peer breaks)"],
    )


def test_an_error_of_the_peers_own(log, tmp_path):
    """Such as a name that an older version has not."""
    device = types.SimpleNamespace(name="cpu", threads=1)
    side = PeerProcess("llama.cpp", device)
    try:
        with pytest.raises(RunError, match="--peer llama.cpp: KeyError: 'q2'"):
            side.load(tmp_path, "q2")
        side.load(tmp_path, "f16")  # it goes on
    finally:
        side.close()


# Shapes in bf16


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory):
    """The tiny shape in bf16."""
    shape = shapes.Shape("tiny", {**shapes.SHAPES["tiny"], "num_hidden_layers": 2, "vocab_size": 256}, 16)
    return weights.ensure_checkpoint(shape, lambda line: None, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", autouse=True)
def tiny_shape():
    from support.bench import TINY

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes.SHAPES, "tiny", TINY)
        yield


def test_weights_in_bf16(plain_folder):
    """Stacks as transformers keeps them; the stated spread; no two rows alike."""
    assert plain_folder.name == "tiny-2-layers-vocab-256-bf16"
    with p.open_checkpoint(plain_folder) as checkpoint:
        mlp = "model.layers.1.mlp."
        names = {name.removeprefix(mlp) for name in checkpoint.tensors if name.startswith(mlp)}
        assert names == {"gate.weight", "experts.gate_up_proj", "experts.down_proj"}
        for name, inputs in (("lm_head.weight", 128), ("model.layers.1.mlp.experts.down_proj", 64)):
            bits = checkpoint.view(name).astype(np.uint32) << 16
            numbers = bits.view(np.float32).reshape(-1, inputs)
            assert numbers.std() == pytest.approx(inputs**-0.5, rel=0.05)
            assert len(np.unique(numbers, axis=0)) == len(numbers)
        assert np.isfinite(p.load_model(checkpoint).logits([1, 2, 3])).all()


def test_bf16_stays_bf16_as_gguf(plain_folder, tmp_path):
    """Bit for bit, gate and up apart, and the model says the same."""
    gguf = pytest.importorskip("gguf")
    from pipeline.benching.gguf_file import gguf_bytes, write_gguf

    with p.open_checkpoint(plain_folder) as checkpoint:
        found = {target.name: target for target in targets(checkpoint)}
        assert found["blk.0.ffn_up_exps.weight"].parts[1] == Part("model.layers.0.mlp.experts.gate_up_proj", 1, 64, 64)
        assert found["blk.0.ffn_gate_inp.weight"].kind == "F32" and found["output.weight"].kind == "BF16"
        write_gguf(checkpoint, tmp_path / "model.gguf")
        assert gguf_bytes(checkpoint) >= (tmp_path / "model.gguf").stat().st_size
        stack = checkpoint.view("model.layers.1.mlp.experts.gate_up_proj")
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
        for name, rows in (("gate", slice(0, 64)), ("up", slice(64, 128))):
            stored_bits = tensors[f"blk.1.ffn_{name}_exps.weight"].data.view(np.uint16)
            assert (stored_bits.reshape(8, 64, 128) == stack[:, rows]).all()
        tokens = [5, 9, 2, 77]
        logits = p.load_model(checkpoint).logits(tokens)
    with p.open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        assert np.allclose(p.load_model(checkpoint).logits(tokens), logits, atol=1e-3)


def test_recurrent_layers_as_gguf(tmp_path):
    """Value heads take turns there, norms contain the 1 that they add, and the model says the same."""
    pytest.importorskip("gguf")
    from pipeline.benching.gguf_file import write_gguf

    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "vocab_size": 256, "head_dim": 32, "num_experts": 8}
    sizes |= {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64, "num_experts_per_tok": 8}
    sizes |= {"linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 32}
    shape = shapes.Shape("tiny", shapes.SHAPES["qwen3.5-35b-a3b"] | sizes | {"linear_value_head_dim": 32}, 16)
    folder, tokens = weights.ensure_checkpoint(shape, lambda line: None, tmp_path), [5, 9, 2, 77, 30]
    with p.open_checkpoint(folder) as checkpoint:
        write_gguf(checkpoint, tmp_path / "model.gguf")
        logits = p.load_model(checkpoint).logits(tokens)
    with p.open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        found = p.load_model(checkpoint).logits(tokens)
        assert checkpoint.unused == ()
    assert np.allclose(found, logits, atol=1e-3)


# torch

needs_torch = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "transformers"))), reason="torch or transformers is not installed"
)


@needs_torch
def test_beside_torch(capsys):
    shape = ("tiny", "--layers", 1, "--vocab", 64, "--bits", 16)
    code, out, err = run(capsys, *shape, *SHORT, "--batch", "1,2", "--device", "cpu", "--peer", "torch")
    assert code == bench.OK, err
    found = json.loads(out)
    assert [each["side"] for each in found["results"]] == ["onebuf", "torch"] * 4
    assert all(each["ratio_to_peer"] for each in found["results"][::2])
    assert "transformers" in found["peer"]["version"]
    for words in ("bf16, static cache", "pp4 batch 2: one call", "tg2 @ d3 batch 1: plain calls"):
        assert words in found["peer"]["how"]


@needs_torch
def test_what_torch_computes(plain_folder):
    """After a context it takes the tokens that Onebuf would: the cache was emptied, and no step was left out."""
    side, work = torch_peer.TorchPeer(1), Workload("tg", 4, 1, 5)
    side.load(plain_folder, "f16")
    side.prepare(work)
    prompts = work.prompts(0, 256)
    for _ in range(2):
        assert side.measure(work, prompts) > 0
        assert int(side._cache.get_seq_length()) == 9
    with p.open_checkpoint(plain_folder) as checkpoint:
        model = p.load_model(checkpoint)
        tokens = [*prompts[0][:6]]
        for _ in range(4):
            logits = model.logits(tokens)
            tokens.append(int(np.argmax(logits.reshape(-1, 256)[-1])))
        assert logits.reshape(-1, 256)[-1].max() - logits.reshape(-1, 256)[-1][int(side._token)] < 0.05
    side.close()
