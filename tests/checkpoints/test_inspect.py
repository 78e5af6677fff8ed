"""python -m pipeline.inspect: right figures for what runs, and everything that stands against what does not."""

import json
import shutil
from pathlib import Path

import pytest
from support import gguf_files as files
from support.checkpoints import write_tensors
from support.gguf_files import EMBEDDING, metadata
from support.programs import fresh, run

import pipeline as p
from pipeline.benching.traffic import traffic
from pipeline.checkpoints.safetensors import read_header
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import CheckpointError, UnsupportedError
from pipeline.graph.formats import NATIVE
from pipeline.inspecting import report
from pipeline.inspecting.facts import ENDS, active, gather, token_bytes, types
from pipeline.models import load_model, surveyed


def inspect(*arguments, program=run):
    return program(*arguments, module="pipeline.inspect")


def facts(path):
    with p.open_checkpoint(path) as checkpoint:
        return gather(checkpoint)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(builtin_model(), tmp_path / "model"))


def rewrite(folder, change):
    """The weights again, after `change` of their dictionary of arrays."""
    with p.open_checkpoint(folder) as checkpoint:
        arrays = {name: checkpoint.view(name).copy() for name in checkpoint.tensors}
    change(arrays)
    (folder / "model.safetensors").unlink()
    write_tensors(folder / "model.safetensors", arrays)


def test_builtin_model():
    found = facts(builtin_model())
    assert found["family"] == "qwen3_moe" and found["format"] == "safetensors" and found["files"] == 1
    assert found["config"] == {
        "layers": 8,
        "hidden": 256,
        "heads": 8,
        "kv_heads": 4,
        "head_dim": 32,
        "experts": 16,
        "top_k": 4,
        "vocabulary": 4096,
        "context": 1024,
    }
    assert found["unsupported"] == [] and found["unused"] == []
    assert found["tokenizer"] == {"tokens": 4096, "bos_token": 0, "end_tokens": [0], "chat_templates": []}
    header = read_header(builtin_model() / "model.safetensors")
    assert sum(kind["bytes"] for kind in found["tensors"]) == header.size - header.data_offset
    assert {kind["type"]: kind["tensors"] for kind in found["tensors"]} == {
        "MLX 4 bits, groups of 64": 171,
        "MLX 8 bits, groups of 64": 24,
        "BF16": 33,
    }


def test_figures_are_those_of_the_loaded_model():
    with p.open_checkpoint(builtin_model()) as checkpoint:
        found = gather(checkpoint)
    with p.open_checkpoint(builtin_model()) as checkpoint:
        model = load_model(checkpoint)
        memory = {"mapped_bytes": model.mapped_bytes, "repacked_bytes": model.repacked_bytes}
        read = traffic(model)
    assert memory.items() <= found["memory"].items() and memory["mapped_bytes"] > 0
    assert found["active"]["weight_bytes"] == pytest.approx(read.per_token(1, 0), rel=1e-3)
    assert found["memory"]["kv_cache_bytes_per_position"] == read.position
    assert found["memory"]["kv_cache_bytes"] == read.position * 1024 and found["memory"]["context"] == 1024


def test_what_each_format_costs():
    """Of all formats together, it is what a token reads; experts count by the share that is chosen."""
    found = facts(builtin_model())
    assert sum(kind["bytes_per_token"] for kind in found["tensors"]) == pytest.approx(
        found["active"]["weight_bytes"], abs=3
    )
    assert sum(kind["share"] for kind in found["tensors"]) == pytest.approx(1, abs=1e-3)
    four = found["tensors"][0]
    assert four["type"].startswith("MLX 4 bits") and four["bytes_per_token"] < four["bytes"] / 2
    with p.open_checkpoint(builtin_model()) as checkpoint:
        read = token_bytes(checkpoint)
        name = "model.layers.0.mlp.switch_mlp.up_proj.weight"
        assert read[name] == checkpoint.tensors[name].nbytes / 4


def test_what_runs(tmp_path):
    """Those kernels that a step of one row dispatches, by the formats of their weights."""
    from support.families import golden
    from support.families.gguf_layout import write_gguf

    made, _ = golden.load("mixtral")
    write_gguf(tmp_path / "m.gguf", "mixtral", made, "Q4_K", files.builtin() | {"general.architecture": "llama"})
    found = {entry["format"]: entry for entry in facts(tmp_path / "m.gguf")["runs"]}
    assert set(found) == {"gguf_q4_k", "gguf_q8_0", "f32"}
    assert found["gguf_q4_k"]["kernels"]["experts_gate_up"] == 5 and found["gguf_q4_k"]["native"]
    assert found["f32"] == {"format": "f32", "kernels": {"linear": 5}, "native": False}  # routers
    with p.open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        text = "\n".join([*report.lines(gather(checkpoint)), *report.tensor_lines(checkpoint)])
    assert "experts_gate_up × 5" in text and text.count(" per token") > 50


def test_formats_with_kernels_by_hand():
    """Where this processor has such kernels: those that the core says are native."""
    device = p.open_device("cpu")
    if device.isa in ("baseline", "generic"):
        pytest.skip("no native kernels for this instruction set")
    found = {end for end in ENDS if end not in ("f32", "f16", "bf16") and device.kernel(f"linear_{end}").native}
    assert found == set(NATIVE)


def test_what_is_repacked_and_why(tmp_path):
    from support.families import golden
    from support.families.files import write_folder

    made, _ = golden.load("mixtral")
    write_folder(tmp_path, "mixtral", made)
    memory = facts(tmp_path)["memory"]
    assert memory["repacked"] == {"experts stored one by one": memory["repacked_bytes"]}
    assert any("repacked: 22.5 MiB experts stored one by one" in line for line in report.lines(facts(tmp_path)))


def test_cache_of_a_context():
    with p.open_checkpoint(builtin_model()) as checkpoint:
        memory = gather(checkpoint, 100, "f32")["memory"]
    assert memory["kv_cache_dtype"] == "f32" and memory["kv_cache_bytes"] == 2 * 64 * 8 * 2 * 4 * 32 * 4
    code, out, _ = inspect("storyteller", "--context", 100, "--kv-cache", "f32")
    assert code == 0 and "KV cache in f32: 1.0 MiB for a context of 100" in out
    for arguments in (("--context", 1025), ("--context", 0), ("--kv-cache", "f64")):
        code, out, err = inspect("storyteller", *arguments)
        assert code == 2 and out == "" and arguments[0] in err and err.count("\n") == 1


def test_survey_reads_no_weights(monkeypatch):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        monkeypatch.setattr(checkpoint, "mapped", lambda file: pytest.fail("a weight was mapped"))
        model, survey = surveyed(checkpoint)
        assert model is not None and survey.problems == [] and checkpoint.unused == ()


def test_program(folder):
    code, out, err = inspect("storyteller", program=fresh)
    assert code == 0 and err == ""
    for word in (
        "qwen3_moe",
        "experts 16, top k 4",
        "MLX 4 bits, groups of 64: 171 tensors",
        "mapped",
        "for a context of 1,024",
        "of weights per token",
        "4,096 tokens",
        "unsupported  nothing",
    ):
        assert word in out
    code, out, _ = inspect(folder, "--json")
    assert code == 0 and json.loads(out) == facts(folder)
    code, out, _ = inspect(folder, "--tensors")
    assert "model.embed_tokens.weight" in out and "4096 × 32" in out and out.count("\n") > 228


def test_what_cannot_be_opened(tmp_path):
    for path, word in [(tmp_path, "config.json"), (tmp_path / "absent", "no such folder or file")]:
        code, out, err = inspect(path)
        assert code == 2 and out == "" and word in err and err.count("\n") == 1
    assert inspect("--nonsense")[0] == 2


def test_missing_extra_and_misshapen_tensors_are_all_named(folder):
    def change(arrays):
        del arrays["model.layers.3.mlp.gate.weight"], arrays["model.layers.3.mlp.gate.scales"]
        arrays["model.layers.7.input_layernorm.weight"] = arrays["model.layers.7.input_layernorm.weight"][:-1]
        arrays["model.extra.weight"] = arrays["model.norm.weight"]

    rewrite(folder, change)
    found = facts(folder)
    text = "\n".join(found["unsupported"])
    assert "model.layers.3.mlp.gate.weight" in text and "[255], the config says [256]" in text
    assert found["unused"] == ["model.extra.weight"]
    with p.open_checkpoint(folder) as checkpoint, pytest.raises(CheckpointError) as caught:
        load_model(checkpoint)
    assert "model.layers.3.mlp.gate.weight" in str(caught.value) and "model.layers.7.input_layernorm" in str(
        caught.value
    )
    code, out, _ = inspect(folder)
    assert code == 1 and "unused" in out and "model.extra.weight" in out


def test_nothing_is_copied_before_the_last_tensor_is_known_to_fit(folder, monkeypatch):
    rewrite(folder, lambda arrays: arrays.pop("model.norm.weight"))
    with p.open_checkpoint(folder) as checkpoint:
        monkeypatch.setattr(checkpoint, "mapped", lambda file: pytest.fail("a weight was mapped"))
        with pytest.raises(CheckpointError, match="model.norm.weight"):
            load_model(checkpoint)


def test_extra_tensors_are_named_when_a_model_runs(folder):
    rewrite(folder, lambda arrays: arrays.update({"model.extra.weight": arrays["model.norm.weight"]}))
    code, _, err = run("--model", folder, "--prompt", "The fox", "--max-tokens", 2)
    assert code == 0 and "1 tensor has no place" in err and "model.extra.weight" in err


def test_many_problems_are_counted(folder):
    rewrite(folder, lambda arrays: [arrays.pop(f"model.layers.{i}.input_layernorm.weight") for i in range(8)])
    with p.open_checkpoint(folder) as checkpoint, pytest.raises(CheckpointError, match="and 3 more"):
        load_model(checkpoint)
    rewrite_config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 40}
    (folder / "config.json").write_text(json.dumps(rewrite_config))
    code, out, _ = inspect(folder)
    assert code == 1 and " more\n" in out and out.count("\n") < 40


def test_unsupported_family(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(files.gguf(metadata("falcon"), [EMBEDDING, ("blk.0.attn_q.weight", (64, 2), 2)]))
    found = facts(file)
    assert found["format"] == "gguf" and found["family"] == "falcon" and found["memory"] is None
    assert any("falcon" in text for text in found["unsupported"]) and any(
        "no tokenizer" in text for text in found["unsupported"]
    )
    assert found["tensors"] == [
        {"type": "F32", "tensors": 1, "bytes": 2560},
        {"type": "Q4_0", "tensors": 1, "bytes": 72},
    ]
    code, out, _ = inspect(file)
    assert code == 1 and "model_type 'falcon' is not supported" in out


def test_stored_types_that_no_kernel_reads(tmp_path):
    """Q8_K is a type that GGUF defines and nobody here reads."""
    from pipeline.checkpoints.gguf.types import TYPES

    file = tmp_path / "model.gguf"
    keys = metadata(
        "qwen3moe",
        expert_count=2,
        expert_used_count=1,
        expert_feed_forward_length=32,
        attention__key_length=16,
        embedding_length=256,
    )
    row = next(kind for kind, block in TYPES.items() if block.name == "Q8_K")
    head = files.gguf(keys, [("token_embd.weight", (256, 2), 0)])
    changed = head.replace(
        files.tensor("token_embd.weight", (256, 2), 0, 0), files.tensor("token_embd.weight", (256, 2), row, 0)
    )
    file.write_bytes(changed)
    found = facts(file)
    assert [kind["type"] for kind in found["tensors"]] == ["Q8_K"]
    assert any("'model.embed_tokens.weight' is Q8_K, which is not supported" in text for text in found["unsupported"])
    assert any("has no tensor 'model.layers.1.mlp.gate.weight'" in text for text in found["unsupported"])
    with p.open_checkpoint(file) as checkpoint, pytest.raises(CheckpointError, match="Q8_K") as caught:
        load_model(checkpoint)
    assert not isinstance(caught.value, UnsupportedError)  # tensors are missing, too


def test_active_bytes_of_experts_and_of_a_tied_head(tmp_path):
    def checkpoint(tensors, **keys):
        file = tmp_path / "model.gguf"
        file.write_bytes(files.gguf(metadata("qwen3moe", expert_feed_forward_length=32, **keys), tensors))
        return p.open_checkpoint(file)

    experts = ("blk.0.ffn_up_exps.weight", (64, 32, 8), 0)
    keys = {"expert_count": 8, "expert_used_count": 2}
    tied = [("token_embd.weight", (64, 10), 0), experts]
    with checkpoint(tied, **keys) as opened:
        assert active(opened)["weight_bytes"] == 64 * 10 * 4 + 64 * 32 * 2 * 4
        assert types(opened) == [{"type": "F32", "tensors": 2, "bytes": 64 * 10 * 4 + 64 * 32 * 8 * 4}]
    with checkpoint([*tied, ("output.weight", (64, 10), 0)], **keys) as opened:
        assert active(opened)["weight_bytes"] == 64 * 4 + 64 * 10 * 4 + 64 * 32 * 2 * 4
    with checkpoint(tied, expert_count="many", expert_used_count=2) as opened:
        assert active(opened) is None
