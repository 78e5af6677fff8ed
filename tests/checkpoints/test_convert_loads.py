"""What convert writes can be loaded and runs, for every family; what could not be is refused before anything is
written."""

import json

import numpy as np
import pytest
from fuzz import tiny
from support import reference as ref
from support.families.cases import ALL, CASES
from support.families.files import write_folder, write_safetensors

import pipeline as p
from pipeline import convert
from pipeline.converting.families import FAMILIES
from pipeline.generation.requests import Finished

pytestmark = pytest.mark.one_processor
CONVERTIBLE = [
    name
    for name in (*CASES, "llama_biases", "qwen3_moe_dense", "granitemoehybrid_dense")
    if ALL[name].model_type in FAMILIES
]


@pytest.mark.parametrize("name", CONVERTIBLE)
def test_every_family(name, processor, tmp_path):
    made, folder = tiny.described(name), tmp_path / "hf"
    write_folder(folder, name, made, "BF16")
    (folder / "tokenizer.json").write_text(json.dumps(tiny.BYTE_LEVEL))
    assert convert.main([str(folder), str(tmp_path / "out"), "--group-size", "32"]) == 0
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        generator = p.Generator(p.load_model(checkpoint, device=processor), context=16)
        assert checkpoint.unused == ()
        assert isinstance(list(generator.run([p.Request(0, (3, 4, 5), 2)]))[-1], Finished)
    assert any(name.endswith(".scales") for name in checkpoint.tensors)


def test_what_mlx_has_otherwise_in_recurrent_layers(tmp_path):
    """The taps of a convolution are turned, and norms have the 1 that they add."""
    made = tiny.described("qwen3_5_text")
    write_folder(tmp_path / "hf", "qwen3_5_text", made, "BF16")
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(tiny.BYTE_LEVEL))
    assert convert.main([str(tmp_path / "hf"), str(tmp_path / "out"), "--group-size", "32"]) == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "qwen3_5"
    layer, names = "model.layers.0.", ("input_layernorm.weight", "linear_attn.norm.weight", "linear_attn.A_log")
    with p.open_checkpoint(tmp_path / "hf") as source, p.open_checkpoint(tmp_path / "out") as made:
        for name, added in zip(names, (1, 0, 0)):
            before, after = (ref.from_bf16(each.view(layer + name)) for each in (source, made))
            assert (after == ref.from_bf16(ref.bf16_bits(before + np.float32(added)))).all()
        taps = layer + "linear_attn.conv1d.weight"
        assert (made.view(taps) == source.view(taps).swapaxes(1, 2)).all()


def test_all_of_them():
    assert {ALL[name].model_type for name in CONVERTIBLE} == set(FAMILIES)


def refused(folder, out, capfd, *words):
    assert convert.main([str(folder), str(out), "--group-size", "32"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("onebuf: error: ") and err.count("\n") == 1 and all(word in err for word in words), err
    assert not out.exists()


@pytest.mark.parametrize(
    "dtype, bits", [("F64", "<f8"), ("F8_E4M3", "|u1"), ("I32", "<i4"), ("U8", "|u1"), ("BOOL", "|b1")]
)
@pytest.mark.parametrize("tensor", ["model.norm.weight", "model.layers.1.input_layernorm.weight"])
def test_weights_that_nobody_reads(dtype, bits, tensor, tmp_path, capfd):
    """Where they would not be quantised, they would be copied as they are."""
    made = tiny.described("llama")
    write_folder(tmp_path / "hf", "llama", made)
    header, data = tiny.read_safetensors((tmp_path / "hf" / "model.safetensors").read_bytes())
    tensors = {
        name: (entry["dtype"], np.frombuffer(data[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"]))
        for name, entry in header.items()
    }
    tensors[tensor] = dtype, np.zeros(made["tensors"][tensor], np.dtype(bits))
    write_safetensors(tmp_path / "hf" / "model.safetensors", tensors)
    refused(tmp_path / "hf", tmp_path / "out", capfd, tensor, dtype)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"num_hidden_layers": 3}, "has no tensor"),
        ({"head_dim": 2**31 - 2}, "head_dim"),
        ({"rope_parameters": {"rope_type": "axial"}}, "axial"),
        ({"hidden_act": "relu"}, "hidden_act"),
    ],
)
def test_configurations_that_could_not_run(change, word, tmp_path, capfd):
    made = tiny.described("llama")
    write_folder(tmp_path / "hf", "llama", made | {"config": made["config"] | change})
    refused(tmp_path / "hf", tmp_path / "out", capfd, word)
