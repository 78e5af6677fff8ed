"""Models that mlx-lm quantised in each of its modes and by its mixed recipes: its logits are these."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.families import files, golden
from support.families.grid import tokens
from support.kernels import run

import pipeline as p
from pipeline.converting.configuration import converted_config
from pipeline.graph.weights import as_weight
from pipeline.models.loading import Loader

mlx_lm = pytest.importorskip("mlx_lm")
pytestmark = pytest.mark.one_processor
PARTS = ("weight", "scales", "global_scale")
MODES = [{"mode": mode, "group_size": None, "bits": None} for mode in ("mxfp4", "mxfp8", "nvfp4")]
MODES += [{"mode": "affine", "group_size": 32, "bits": bits} for bits in (2, 3, 4, 5, 6, 8)]
BOUND = 5e-4  # of the largest logit: native kernels make integers of 16 bits of activations


def compare(folder, name, processor, predicate=None, **settings):
    import mlx.core as mx
    from mlx_lm import utils
    from mlx_lm.convert import mixed_quant_predicate_builder

    mx.set_default_device(mx.cpu)
    files.write_folder(folder / "plain", name, golden.load(name)[0])
    source = folder / "plain" / "config.json"
    config = converted_config(json.loads(source.read_text()), {})  # with the keys that mlx-lm reads
    source.write_text(json.dumps({key: value for key, value in config.items() if not key.startswith("quantization")}))
    model, config = utils.load_model(folder / "plain")
    if predicate is not None:
        predicate = mixed_quant_predicate_builder(predicate, model, settings["group_size"])
    model, config = utils.quantize_model(model, config, quant_predicate=predicate, **settings)
    utils.save_model(folder / "made", model)
    utils.save_config(config, folder / "made" / "config.json")
    again, config = utils.load_model(folder / "made")
    ids = tokens(24, config["vocab_size"])
    expected = np.array(again(mx.array([ids]))[0].astype(mx.float32))
    with p.open_checkpoint(folder / "made") as checkpoint:
        loaded = p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == ()
        found = loaded.logits(ids, 8, "f32")
    return np.abs(found - expected).max() / np.abs(expected).max(), checkpoint


@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
@pytest.mark.parametrize("settings", MODES, ids=lambda settings: "-".join(map(str, settings.values())))
def test_modes(processor, tmp_path, name, settings):
    error, _ = compare(tmp_path, name, processor, **settings)
    assert error < BOUND


@pytest.mark.parametrize("experts", [0, 3])
def test_global_scale(processor, tmp_path, experts):
    """Of nvfp4, one for a matrix or one per expert; mlx runs such stacks on its GPU alone, and decodes them here."""
    import mlx.core as mx
    from mlx_lm.models.switch_layers import _quantize_experts

    w = mx.array(np.random.default_rng(3).normal(size=(max(experts, 1), 40, 96)).astype(np.float32) * 5)
    words, scales, whole = _quantize_experts(w, group_size=16, bits=4, mode="nvfp4")
    expected = [
        mx.dequantize(words[e], scales[e], mode="nvfp4", global_scale=whole[e], dtype=mx.float32) for e in range(len(w))
    ]
    made = [np.array(part) for part in (words, scales, whole)]
    made = made if experts else [part[0] for part in made]
    tensors = {f"w.{part}": (dtype, array) for part, dtype, array in zip(PARTS, ("U32", "U8", "F32"), made)}
    files.write_safetensors(tmp_path / "model.safetensors", tensors)
    table = {"bits": 4, "group_size": 16, "mode": "nvfp4", "global_scale": bool(experts)}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "none", "quantization": table}))
    with p.open_checkpoint(tmp_path) as checkpoint:
        weight = as_weight(Loader(checkpoint, processor).matrix("w", (experts, 40, 96) if experts else (40, 96)), "w")
        assert weight.format == "fp4" and checkpoint.unused == ()
        weight = replace(weight, shape=(max(experts, 1) * 40, 96))
        ids = np.arange(weight.shape[0], dtype=np.uint32)
        found = run(processor, len(ids), lambda pipe, ids: pipe.embed(ids, weight), ids=ids)
    np.testing.assert_array_equal(found, np.concatenate(expected))


@pytest.mark.parametrize("recipe", ["mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"])
def test_mixed_recipes(processor, tmp_path, recipe):
    error, checkpoint = compare(tmp_path, "qwen3_moe", processor, recipe, mode="affine", group_size=32, bits=4)
    assert error < BOUND
    table = checkpoint.config["quantization"]
    bits = {entry["bits"] for entry in table.values() if isinstance(entry, dict)}
    assert bits >= {int(number) for number in recipe.split("_")[1:]}
