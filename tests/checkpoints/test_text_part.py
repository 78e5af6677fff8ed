"""Checkpoints of models that see, too: the text part runs as the text model does alone."""

import json

import numpy as np
import pytest
from support.families import files, golden
from support.families.grid import tokens
from support.families.layouts import write_mlx

import pipeline as p
from pipeline.checkpoints.text_part import text_part
from pipeline.convert import main
from pipeline.errors import CheckpointError
from pipeline.models.fields import Fields
from pipeline.models.gemma3_text import Config

VISION = "vision_tower.encoder.layers.0.layer_norm1.weight"


def wrap(folder, prefixes, extra=()):
    """Turns a text model's folder into one with a text_config, and names with prefixes."""

    def outer(name):
        return next(
            (longer + name.removeprefix(short) for short, longer in prefixes.items() if name.startswith(short)), name
        )

    config = json.loads((folder / "config.json").read_text())
    whole = {"model_type": config["model_type"].removesuffix("_text"), "vision_config": {}, "text_config": config}
    if "quantization" in config:
        whole["quantization"] = {outer(name): entry for name, entry in config.pop("quantization").items()}
    (folder / "config.json").write_text(json.dumps(whole))
    raw = (folder / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = {outer(name): entry for name, entry in json.loads(raw[8:end]).items()}
    last = max(entry["data_offsets"][1] for entry in header.values())
    for name in extra:
        header[name] = {"dtype": "F32", "shape": [2], "data_offsets": [last, last + 8]}
        last += 8
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + raw[end:] + bytes(8 * len(extra))
    )


TRANSFORMERS_5 = {"model.": "model.language_model."}
MLX = {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}


@pytest.mark.one_processor
@pytest.mark.parametrize("name", ["gemma3_text", "gemma4_text"])
@pytest.mark.parametrize(
    "write, prefixes", [(files.write_folder, TRANSFORMERS_5), (files.write_folder, MLX), (write_mlx, MLX)]
)
def test_logits(name, write, prefixes, processor, tmp_path):
    made, expected = golden.load(name)
    write(tmp_path, name, made)
    wrap(tmp_path, prefixes, [VISION])
    with p.open_checkpoint(tmp_path) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == (VISION,)
        found = model.logits(tokens(*expected.shape), 7, "f32")
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.one_processor
def test_the_text_part_is_converted(processor, tmp_path):
    """Its own names, and nothing of the images."""
    source, made = tmp_path / "source", golden.load("gemma3_text")[0]
    files.write_folder(source, "gemma3_text", made)
    wrap(source, TRANSFORMERS_5, [VISION, "model.multi_modal_projector.weight"])
    assert main([str(source), str(tmp_path / "out")]) == 0
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        assert checkpoint.config["model_type"] == "gemma3_text"
        logits = p.load_model(checkpoint, device=processor).logits(tokens(8, made["config"]["vocab_size"]))
        assert checkpoint.unused == () and np.isfinite(logits).all() and logits.std() > 0.5


def test_what_the_published_gemma_3_leaves_out():
    """google/gemma-3-4b-it's text_config has five keys."""
    published = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config, _ = text_part(
        {"model_type": "gemma3", "text_config": published, "eos_token_id": [1, 106]}, {}, "config.json"
    )
    assert config["eos_token_id"] == [1, 106]
    read = Config.read(Fields(config, "config.json"))
    assert (read.heads, read.kv_heads, read.head_dim, read.vocab, read.context) == (8, 4, 256, 262_208, 131_072)
    assert read.tied and read.scale == 1 / 16 and read.windows[:6] == (1024,) * 5 + (0,) and len(read.windows) == 34


def test_others_stay_as_they_are():
    config, tensors = {"model_type": "llama", "text_config": {}}, {"language_model.model.x": None}
    assert text_part(config, tensors, "config.json") == (config, tensors)


def test_no_text_config(tmp_path):
    made = golden.load("gemma3_text")[0]
    files.write_folder(tmp_path, "gemma3_text", {"config": made["config"] | {"model_type": "gemma3"}, "tensors": {}})
    with pytest.raises(CheckpointError, match="config.json: model_type 'gemma3' needs a 'text_config'"):
        p.open_checkpoint(tmp_path)


def test_one_name_for_two_tensors(tmp_path):
    files.write_folder(tmp_path, "gemma3_text", golden.load("gemma3_text")[0])
    wrap(tmp_path, MLX, ["model.norm.weight"])
    with pytest.raises(
        CheckpointError, match=r'model.safetensors: tensors "model.norm.weight" and "language_model.model.norm.weight"'
    ):
        p.open_checkpoint(tmp_path)
