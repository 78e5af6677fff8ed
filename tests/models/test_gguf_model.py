"""The built-in model written as GGUF runs from that file alone and tells the same stories."""

import json

import numpy as np
import pytest
from support import gguf_files as files
from support.gguf_files import builtin
from support.paths import golden
from support.programs import certain, rows_of, run

import pipeline as p
from pipeline.benching.gguf_tensors import targets, values
from pipeline.checkpoints.storyteller import builtin_model

GOLDEN = golden("golden")["4bit"]
F32, F16 = 0, 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Matrices in F16, norms in F32, which hold the 4-bit values to 2^-11."""
    file = tmp_path_factory.mktemp("model") / "storyteller.gguf"
    with p.open_checkpoint(builtin_model()) as checkpoint:
        c = checkpoint.config
        keys = {
            "block_count": c["num_hidden_layers"],
            "context_length": c["max_position_embeddings"],
            "embedding_length": c["hidden_size"],
            "attention.head_count": c["num_attention_heads"],
            "attention.head_count_kv": c["num_key_value_heads"],
            "attention.key_length": c["head_dim"],
            "attention.layer_norm_rms_epsilon": c["rms_norm_eps"],
            "expert_count": c["num_experts"],
            "expert_used_count": c["num_experts_per_tok"],
            "expert_feed_forward_length": c["moe_intermediate_size"],
            "rope.freq_base": float(c.get("rope_theta") or c["rope_parameters"]["rope_theta"]),
        }
        metadata = builtin(bos_token_id=0, eos_token_id=0, add_bos_token=True) | {"general.architecture": "qwen3moe"}
        metadata |= {f"qwen3moe.{key}": value for key, value in keys.items()}
        metadata["tokenizer.chat_template"] = "{% for m in messages %}{{ bos_token }}{{ m.content }}{% endfor %}"
        tensors, data = [], b""
        for target in targets(checkpoint):
            array = np.concatenate([values(checkpoint, part.module, part.index).reshape(-1) for part in target.parts])
            kind = F16 if len(target.shape) > 1 else F32
            tensors.append((target.name, target.shape[::-1], kind))
            data += array.astype(np.float16 if kind == F16 else np.float32).tobytes()
            data += bytes(-len(data) % 32)
    file.write_bytes(files.gguf(metadata, tensors, data))
    return file


def test_same_logits(model):
    tokens = GOLDEN[0]["prompt_ids"] + GOLDEN[0]["tokens"][:24]
    with p.open_checkpoint(model) as checkpoint, p.open_checkpoint(builtin_model()) as reference:
        assert checkpoint.config["model_type"] == "qwen3_moe" and len(checkpoint.tensors) == 98
        found = p.load_model(checkpoint).logits(tokens)
        expected = p.load_model(reference).logits(tokens)
        assert checkpoint.unused == ()
    assert np.abs(found - expected).max() < 0.02  # logits up to 20; weights and the reference's activations are rounded


def test_same_stories(model, tmp_path):
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("".join(case["prompt"] + "\n" for case in GOLDEN))
    code, _, err = run("--model", model, "--prompts", prompts, "--out", out, "--max-tokens", 24, "--batch-size", 3)
    assert code == 0, err
    same = 0
    for row, case in zip(rows_of(out), GOLDEN, strict=True):
        expected = certain(case)[:24]
        same += row["tokens"][: len(expected)] == expected
        assert row["text"] == case["text"][: len(row["text"])] or row["tokens"] != case["tokens"][:24]
    assert same >= len(GOLDEN) - 1  # f16 may turn a near tie that 4 bits did not have


def test_chat_from_the_file_alone(model):
    code, out, err = run("--model", model, "--chat", "--prompt", "Once upon a time", "--max-tokens", 16)
    plain = run("--model", model, "--prompt", "Once upon a time", "--max-tokens", 16)[1]
    assert code == 0 and plain == f"Once upon a time{out}", err


def test_weights_are_mapped(model):
    code, out, _ = run("--model", model, "--prompt", "The fox", "--max-tokens", 2, "--json")
    summary = json.loads(out)
    assert code == 0 and summary["model"] == "storyteller.gguf"
    assert summary["repacked_bytes"] == 0 and summary["mapped_bytes"] > 0.9 * model.stat().st_size - 2e6
