"""Settings that few checkpoints have, against transformers: biases, windows, layers without experts; and formats that
differ within a layer."""

import itertools
import json

import numpy as np
import pytest
from support.families import files, gguf_layout, golden
from support.families.cases import VARIANTS
from support.families.gguf_layout import ARCHITECTURES, write_gguf
from support.families.grid import Grid, tokens
from support.families.layouts import ROUTERS, write_mlx
from support.gguf_files import TYPES
from support.stored_formats import random_blocks

import pipeline as p
from pipeline.checkpoints.text_part import is_other_part
from pipeline.errors import CheckpointError, UsageError
from pipeline.generation.requests import Failed
from pipeline.models.families import surveyed

# Devices know nothing of these settings.
pytestmark = pytest.mark.one_processor
BOUND = 1e-3  # as in test_families.py
ROWS = 7


def difference(path, name, processor, rows=ROWS):
    """How far the logits are from those of transformers, at most."""
    with p.open_checkpoint(path) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        assert all(is_other_part(tensor) for tensor in checkpoint.unused)
        expected = golden.load(name)[1]
        return np.abs(model.logits(tokens(golden.POSITIONS, expected.shape[1]), rows, "f32") - expected).max()


@pytest.mark.parametrize("name", VARIANTS)
def test_logits(processor, name, tmp_path):
    files.write_folder(tmp_path, name, golden.load(name)[0])
    assert difference(tmp_path, name, processor) < BOUND


@pytest.mark.parametrize("name", ["qwen2_window", "qwen3_window", "qwen3_moe_dense", "qwen2_moe_dense"])
@pytest.mark.parametrize(
    "key, value", [("use_sliding_window", False), ("sliding_window", None), ("sliding_window", 64)]
)
def test_a_window_that_changes_nothing(processor, name, key, value, tmp_path):
    """It is off, there is none, or it is as long as the text: the same numbers, but not those with a window of 8."""
    made = golden.load(name)[0]
    layers = {"layer_types": None}  # transformers writes what it concluded
    results = []
    for changed in ({}, {key: value}, {"use_sliding_window": False, "sliding_window": None}):
        config = made["config"] | layers | {"max_window_layers": 0 if "moe" not in name else 5} | changed
        files.write_folder(tmp_path, name, made | {"config": config})
        with p.open_checkpoint(tmp_path) as checkpoint:
            results.append(p.load_model(checkpoint, device=processor).logits(tokens(40, 61), 40, "f32"))
    assert (results[1] == results[2]).all() and (results[0] != results[1]).any()


def test_a_bias_of_a_gguf_file(processor, tmp_path):
    """The file says by its tensors which projections have one; here the output's is left out, as llama.cpp may."""
    made = golden.load("llama_biases")[0]
    tensors = {name: shape for name, shape in made["tensors"].items() if not name.endswith("o_proj.bias")}
    config = made["config"] | {"mlp_bias": False}
    tensors = {name: shape for name, shape in tensors.items() if not (".mlp." in name and name.endswith(".bias"))}
    write_gguf(tmp_path / "model.gguf", "llama", {"config": config, "tensors": tensors}, "Q8_0")
    with p.open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == () and model.config.biased and not model.config.output_biased
        assert np.isfinite(model.logits(tokens(5, 61), 5)).all()


@pytest.mark.parametrize("name", ["mistral", "phi3", "mixtral_window", "qwen2_window", "qwen3_moe_dense", "gpt_oss"])
def test_a_window_of_no_position(name, tmp_path):
    made = golden.load(name)[0]
    files.write_folder(tmp_path, name, {"config": made["config"] | {"sliding_window": 0}, "tensors": {}})
    with (
        p.open_checkpoint(tmp_path) as checkpoint,
        pytest.raises(CheckpointError, match="sliding_window = 0 leaves no"),
    ):
        p.load_model(checkpoint)


@pytest.mark.parametrize("factors", [None, [], [0.0] * 12, [1.0] * 11])
@pytest.mark.parametrize("key", ["short_factor", "long_factor"])
def test_factors_of_longrope(key, factors, tmp_path):
    """Both lists must be whole, though the longer texts are refused that need the second one."""
    made = golden.load("phi3")[0]
    rope = made["config"]["rope_parameters"] | {key: factors}
    config = made["config"] | {"rope_parameters": rope}
    files.write_folder(tmp_path, "phi3", {"config": config, "tensors": {}})
    with p.open_checkpoint(tmp_path) as checkpoint, pytest.raises(CheckpointError, match=f"rope {key} must be 12 numb"):
        p.load_model(checkpoint)


@pytest.mark.parametrize("name", ["deepseek_v32", "glm_moe_dsa", "phi3"])
def test_texts_that_would_be_computed_in_another_way(processor, name, tmp_path):
    """An indexer that leaves positions out, and longrope's other factors, begin behind a length: it is the context."""
    files.write_folder(tmp_path, name, golden.load(name)[0])
    with p.open_checkpoint(tmp_path) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
    assert (model.config.context, model.context) == (128, 96)
    with pytest.raises(UsageError, match="97"):
        p.Generator(model, context=97)
    events = list(p.Generator(model, context=96).run([p.Request(0, tuple([3] * 97), 1)]))
    assert isinstance(events[-1], Failed)


# Formats that differ within a layer

MIXED = {
    "gate_proj": {"bits": 8, "group_size": 32},
    "k_proj": {"bits": 6, "group_size": 32},
    "v_proj": {"bits": 8, "group_size": 32, "mode": "affine"},
    "lm_head": {"bits": 6, "group_size": 32},
}


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "qwen2_moe", "deepseek_v3", "gemma4_text", "mixtral"])
def test_mlx_with_other_bits_per_module(processor, name, tmp_path):
    """As mixed recipes choose them; every format holds these weights exactly."""
    write_mlx(tmp_path, name, golden.load(name)[0], MIXED)
    table = json.loads((tmp_path / "config.json").read_text())["quantization"]
    assert any(module.endswith("gate_proj") and entry["bits"] == 8 for module, entry in table.items() if "." in module)
    assert difference(tmp_path, name, processor) < BOUND


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "mixtral", "deepseek_v3"])
def test_gguf_with_other_blocks_per_tensor(processor, name, tmp_path):
    """Gate in Q4_K and up in Q8_0, as files that were quantised tensor by tensor have them."""
    kinds = {"ffn_gate": "Q4_K", "ffn_gate_exps": "Q4_K", "ffn_gate_shexp": "Q4_K", "attn_k": "Q4_K"}
    write_gguf(tmp_path / "model.gguf", name, golden.load(name)[0], "Q8_0", kinds=kinds)
    assert difference(tmp_path / "model.gguf", name, processor) < BOUND


def test_every_matrix_of_a_gguf_file_may_have_a_type_of_its_own(tmp_path, monkeypatch):
    """Dynamic recipes choose types tensor by tensor. Families are loaded on paper, and two with many kinds of layers
    run."""
    taken = itertools.cycle(("Q4_0", "IQ4_NL", "Q8_0", "MXFP4", "Q5_1"))
    own, rng = gguf_layout._stored, np.random.default_rng(1)

    def stored(tensor, values, *rest):
        if not isinstance(values, Grid) or tensor.endswith(ROUTERS):
            return own(tensor, values, *rest)
        kind = next(taken)
        return TYPES[kind], random_blocks(rng, values.q.shape, kind, -4).tobytes()

    monkeypatch.setattr(gguf_layout, "_stored", stored)
    for name in [name for name in ARCHITECTURES if name not in VARIANTS]:
        file = tmp_path / f"{name}.gguf"
        write_gguf(file, name, golden.load(name)[0], "Q8_0")
        with p.open_checkpoint(file) as checkpoint:
            assert surveyed(checkpoint)[1].problems == [], name
        if name in ("deepseek_v3", "qwen3_next"):
            with p.open_checkpoint(file) as checkpoint:
                loaded = p.load_model(checkpoint, device="cpu")
                assert np.isfinite(loaded.logits([1, 2, 3], 2, "f32")).all() and loaded.repacked_bytes < 1 << 16


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name in VARIANTS])
def test_gguf(processor, name, tmp_path):
    """As llama.cpp's converter lays the family out."""
    write_gguf(tmp_path / "model.gguf", name, golden.load(name)[0], "Q8_0")
    assert difference(tmp_path / "model.gguf", name, processor) < GGUF_BOUNDS.get(name, BOUND)


# Native kernels multiply quantised weights by activations of 16 bits, which is most beside large residuals.
GGUF_BOUNDS = {"gemma4_dense": 2e-3, "gemma4_small": 2e-3}


@pytest.mark.parametrize("null", ["group_size", "bits", "both"])
def test_null_stands_for_what_mlx_takes(processor, null, tmp_path):
    """mlx-lm's mixed recipes write "group_size": null for each module; MLX then takes 64, whatever else is said."""
    made = golden.load("llama")[0]
    write_mlx(tmp_path, "llama", made, {"down_proj": {"bits": 4, "group_size": 32}})
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["quantization"]["bits"] == 4
    for key in ("quantization", "quantization_config"):
        for entry in [value for value in config[key].values() if isinstance(value, dict)]:
            if entry["bits"] == 4:
                entry |= {"bits": None} if null == "bits" else {}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with p.open_checkpoint(tmp_path) as checkpoint:
        found = checkpoint.quantization("model.layers.0.mlp.down_proj")
        assert (found.bits, found.group_size) == (4, 32)
    entry = {"group_size": None, "bits": None if null == "both" else 4}
    config["quantization"]["model.layers.0.mlp.down_proj"] = entry
    (tmp_path / "config.json").write_text(json.dumps(config))
    with p.open_checkpoint(tmp_path) as checkpoint:
        found = checkpoint.quantization("model.layers.0.mlp.down_proj")
        assert (found.bits, found.group_size, found.mode) == (4, 64, "affine")
