"""Checkpoint folders: the built-in one, quantisation, special tokens, and everything that can be wrong."""

import json
import shutil

import numpy
import pytest
from support.checkpoints import write_tensors

from pipeline.checkpoints import config
from pipeline.checkpoints.config import Quantization
from pipeline.checkpoints.opening import open_checkpoint
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import CheckpointError, ClosedError, UnsupportedError

CONFIG = {"model_type": "qwen3_moe", "bos_token_id": 0, "eos_token_id": 0}


@pytest.fixture
def folder(tmp_path):
    write_tensors(tmp_path / "model.safetensors", {"w": numpy.arange(6, dtype=numpy.float32).reshape(2, 3)})
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def refuse(path, *words, error=CheckpointError):
    with pytest.raises(error) as caught:
        open_checkpoint(path).close()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_builtin_model():
    with open_checkpoint(builtin_model()) as checkpoint:
        assert checkpoint.config["model_type"] == "qwen3_moe"
        assert len(checkpoint.tensors) == 228
        assert checkpoint.tokenizer().vocab_size == 4096
        assert checkpoint.end_tokens == (0,) and checkpoint.bos_token == 0
        assert checkpoint.quantization("model.layers.7.mlp.gate") == Quantization(8, 64)
        assert checkpoint.quantization("model.layers.7.self_attn.q_proj") == Quantization(4, 64)
        assert checkpoint.quantization("model.norm") is None
        info = checkpoint.tensors["model.embed_tokens.weight"]
        assert (info.dtype, info.shape, info.nbytes) == ("U32", (4096, 32), 524288)
        assert checkpoint.nbytes == info.file.stat().st_size


def test_views_of_unaligned_data_equal_the_bytes():
    """The built-in file starts its data at 2 modulo 4."""
    with open_checkpoint(builtin_model()) as checkpoint:
        info = checkpoint.tensor("model.layers.0.mlp.gate.weight")
        view = checkpoint.view(info.name)
        assert info.offset % 4 == 2 and not view.flags.aligned and not view.flags.writeable
        whole = info.file.read_bytes()
        assert view.tobytes() == whole[info.offset : info.offset + info.nbytes]
        norm = checkpoint.view("model.norm.weight")
        assert norm.dtype == numpy.uint16 and norm.shape == (256,)


@pytest.mark.parametrize("pad", range(4))
def test_view_at_every_address(folder, pad):
    expected = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    write_tensors(folder / "model.safetensors", {"w": expected}, pad)
    with open_checkpoint(folder) as checkpoint:
        assert numpy.array_equal(checkpoint.view("w"), expected)


def test_map_is_shared_and_read_only(folder):
    with open_checkpoint(folder) as checkpoint:
        file = checkpoint.tensors["w"].file
        mapping = checkpoint.mapped(file)
        assert checkpoint.mapped(file) is mapping and len(mapping) == file.stat().st_size
        with pytest.raises(TypeError):
            mapping[0] = 1
        with pytest.raises(CheckpointError, match="not a weight file"):
            checkpoint.mapped(folder / "config.json")


def test_close(folder):
    checkpoint = open_checkpoint(folder)
    view = checkpoint.view("w")
    checkpoint.close()
    checkpoint.close()
    assert view[1, 2] == 5  # a view keeps its map
    with pytest.raises(ClosedError, match="closed"):
        checkpoint.view("w")


def test_file_that_changes_size_before_it_is_mapped(folder):
    with open_checkpoint(folder) as checkpoint:
        with open(folder / "model.safetensors", "ab") as stream:
            stream.write(b"more")
        with pytest.raises(CheckpointError, match="size changed"):
            checkpoint.view("w")


def test_file_that_vanishes_before_it_is_mapped(folder):
    with open_checkpoint(folder) as checkpoint:
        (folder / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match="cannot be mapped"):
            checkpoint.view("w")


def test_missing_tensor_is_named(folder):
    with open_checkpoint(folder) as checkpoint, pytest.raises(CheckpointError, match="no tensor 'v'"):
        checkpoint.view("v")


def test_missing_folder_and_files(tmp_path):
    refuse(tmp_path / "absent", "absent", "no such folder or file", "config.json")
    (tmp_path / "file").write_text("x")
    refuse(tmp_path / "file", "neither a folder nor a GGUF file")
    (tmp_path / "file").unlink()
    refuse(tmp_path, "config.json", "not found")
    (tmp_path / "config.json").write_text("{}")
    refuse(tmp_path, "neither model.safetensors nor")


def test_other_weight_formats(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"x")
    refuse(tmp_path, "GGUF", "give the file itself", "model.gguf")
    (tmp_path / "config.json").write_text("{}")
    refuse(tmp_path, "GGUF", "give the file itself", "model.gguf")
    (tmp_path / "model.gguf").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    refuse(tmp_path, "pytorch_model.bin", "PyTorch", "model.safetensors", error=UnsupportedError)


@pytest.mark.parametrize(
    "content, word",
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not JSON"),
        (b"3", "not a JSON"),
        (b"[" * 200_000, "nested"),
        (b'{"eos_token_id": "x"}', "eos_token_id"),
        (b'{"eos_token_id": [1, 1.5]}', "eos_"),
        (b'{"eos_token_id": true}', "eos_"),
        (b'{"quantization": 4}', "quantization"),
    ],
)
def test_bad_config(folder, content, word):
    (folder / "config.json").write_bytes(content)
    refuse(folder, "config.json", word)


def test_config_with_a_byte_order_mark(folder):
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf{}")
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.config == {}


@pytest.mark.parametrize(
    "generation, own, expected",
    [
        (None, 3, (3,)),
        ([5, 3], 3, (5, 3)),
        (7, 3, (7, 3)),
        (None, None, ()),
        (None, [4, 4], (4,)),
        (-1, [4, -1, None], (4,)),
    ],
)
def test_end_tokens(folder, generation, own, expected):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"eos_token_id": own}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.end_tokens == expected


def test_truncated_builtin_model(tmp_path):
    """Any cut of a real checkpoint is refused before it is mapped."""
    shutil.copytree(builtin_model(), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "model.safetensors"
    size = file.stat().st_size
    for cut in (size - 1, size // 2, 30_000, 20_000, 8, 0):
        with open(file, "r+b") as stream:
            stream.truncate(cut)
        refuse(tmp_path, "model.safetensors")


# Quantisation


def quantized(folder, table, key="quantization"):
    write_tensors(
        folder / "model.safetensors", {f"{m}.{p}": numpy.zeros(1, numpy.uint32) for m in "xyz" for p in ("scales",)}
    )
    (folder / "config.json").write_text(json.dumps({key: table}))
    return open_checkpoint(folder)


def test_overrides(folder):
    table = {"bits": 4, "group_size": 64, "x": {"bits": 8, "group_size": 32}, "y": False, "z": True, "w": {"bits": 8}}
    with quantized(folder, table) as checkpoint:
        found = {module: checkpoint.quantization(module) for module in "xyzwv"}
    assert found == {"x": Quantization(8, 32), "y": None, "z": Quantization(4, 64), "w": Quantization(8, 64), "v": None}


def test_what_an_entry_lacks_is_mlxs_default(folder):
    """Also where null stands, as mixed recipes write it: the table's own numbers are those of another mode."""
    table = {"bits": 8, "group_size": 32, "x": {"mode": "nvfp4", "bits": None}, "y": {"group_size": None, "bits": 5}}
    with quantized(folder, table | {"z": {"mode": "mxfp8", "group_size": 32}}) as checkpoint:
        found = {module: checkpoint.quantization(module) for module in "xyz"}
    assert found == {"x": Quantization(4, 16, "nvfp4"), "y": Quantization(5, 64), "z": Quantization(8, 32, "mxfp8")}


def test_mxfp4(folder):
    table = {"bits": 4, "group_size": 32, "mode": "mxfp4", "x": {"bits": 6, "group_size": 64}, "y": {"mode": "mxfp4"}}
    with quantized(folder, table) as checkpoint:
        found = {module: checkpoint.quantization(module) for module in "xyz"}
    assert found == {"x": Quantization(6, 64), "y": Quantization(4, 32, "mxfp4"), "z": Quantization(4, 32, "mxfp4")}


def test_mxfp4_of_other_bits(folder):
    with quantized(folder, {"bits": 8, "group_size": 32, "mode": "mxfp4"}) as checkpoint:
        with pytest.raises(CheckpointError, match="x has mode mxfp4 with 8 bits"):
            checkpoint.quantization("x")


def test_other_key(folder):
    with quantized(folder, {"bits": 4, "group_size": 128}, "quantization_config") as checkpoint:
        assert checkpoint.quantization("x") == Quantization(4, 128)


def test_scales_without_a_table(folder):
    with quantized(folder, None) as checkpoint, pytest.raises(CheckpointError, match="x has scales"):
        checkpoint.quantization("x")


def test_another_method(folder):
    with pytest.raises(UnsupportedError, match='quantization_config.quant_method = "bitsandbytes" is not supported'):
        quantized(folder, {"quant_method": "bitsandbytes", "bits": 4}, "quantization_config")


def test_blocks_with_names_of_their_own(folder):
    """gpt-oss as Hugging Face stores it: the method that config.json names asks nothing of modules with scales."""
    (folder / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": "mxfp4"}}))
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.quantization("w") is None


@pytest.mark.parametrize(
    "table, word",
    [
        ({"bits": 7, "group_size": 64}, "7 bits"),
        ({"bits": 4, "group_size": 48}, "group size 48"),
        ({"bits": 8, "group_size": 32, "mode": "mxfp9"}, 'mode "mxfp9"; supported: affine, mxfp4, mxfp8, nvfp4'),
        ({"bits": 4.0, "group_size": 64}, "4.0 bits"),
        ({"bits": 4, "group_size": 64, "x": {"bits": 1}}, "1 bits"),
    ],
)
def test_unsupported_quantization(folder, table, word):
    with quantized(folder, table) as checkpoint, pytest.raises(UnsupportedError) as caught:
        checkpoint.quantization("x")
    assert word in str(caught.value) and "config.json" in str(caught.value)


def test_override_of_the_wrong_kind(folder):
    with quantized(folder, {"bits": 4, "group_size": 64, "x": 8}) as checkpoint:
        with pytest.raises(CheckpointError, match="object or false"):
            checkpoint.quantization("x")


def test_config_fields():
    fields = {"n": 3, "zero": 0, "x": 1.5, "flag": True, "null": None, "text": "3", "huge": 2**40}
    assert config.integer(fields, "n") == 3 and config.integer(fields, "null", 7) == 7
    assert config.number(fields, "n") == 3.0 and config.number(fields, "x") == 1.5
    assert config.boolean(fields, "flag") is True and config.boolean(fields, "absent", False) is False
    for read, key in [
        (config.integer, "zero"),
        (config.integer, "x"),
        (config.integer, "flag"),
        (config.integer, "huge"),
        (config.integer, "text"),
        (config.number, "zero"),
        (config.number, "flag"),
        (config.boolean, "n"),
        (config.integer, "absent"),
        (config.number, "null"),
    ]:
        with pytest.raises(CheckpointError, match=key):
            read(fields, key)
