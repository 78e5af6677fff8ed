"""Qwen3.5 as it is published, with a part that sees, and as mlx-lm has it, with the configuration of the text alone."""

import json

import numpy as np
import pytest
from support.families import files, golden
from support.families.cases import ALL
from support.families.grid import tokens
from support.families.layouts import write_mlx

import pipeline as p

pytestmark = pytest.mark.one_processor  # devices know nothing of names
NAME = "qwen3_5_moe_text"
BOUND = 1e-3  # as in test_families.py


def logits(folder, processor):
    """Those of 20 tokens, and the tensors that are not used."""
    with p.open_checkpoint(folder) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        return model.logits(tokens(20, 61), 20, "f32"), checkpoint.unused


def test_with_a_part_that_sees(processor, tmp_path):
    made = golden.load(NAME)[0]
    tensors = {
        name.replace("model.", "model.language_model."): files.stored(files.values(ALL[NAME], name, shape), "F32")
        for name, shape in made["tensors"].items()
    }
    tensors["model.visual.pos_embed.weight"] = "F32", np.zeros((3, 4), np.float32)
    tensors["mtp.fc.weight"] = "F32", np.zeros((3, 4), np.float32)
    files.write_safetensors(tmp_path / "model.safetensors", tensors)
    config = {"model_type": "qwen3_5_moe", "text_config": made["config"], "vision_config": {"depth": 1}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found, unused = logits(tmp_path, processor)
    assert np.abs(found - golden.load(NAME)[1][:20]).max() < BOUND
    assert set(unused) == {"model.visual.pos_embed.weight", "mtp.fc.weight"}


def test_with_the_configuration_of_the_text_alone(processor, tmp_path):
    """And with MLX's names: the prefix of the whole model changes nothing."""
    write_mlx(tmp_path, NAME, golden.load(NAME)[0])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "qwen3_5_moe" and "text_config" not in config
    expected, tensors = logits(tmp_path, processor)[0], {}
    with p.open_checkpoint(tmp_path) as checkpoint:
        for name, info in checkpoint.tensors.items():
            tensors[f"language_model.{name}"] = info.dtype, np.array(checkpoint.view(name))
    files.write_safetensors(tmp_path / "model.safetensors", tensors)
    found, unused = logits(tmp_path, processor)
    assert np.array_equal(found, expected) and unused == ()
