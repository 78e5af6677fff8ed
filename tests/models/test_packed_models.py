"""Models of several families as other libraries' tools store them: the logits are transformers' of the same weights,
which every format here holds exactly."""

import json

import numpy as np
import pytest
from fuzz import tiny
from support import packed_formats as formats
from support.families import files, golden
from support.families.cases import ALL
from support.families.grid import BLOCK, tokens

import pipeline as p
from pipeline import convert

pytestmark = pytest.mark.one_processor
BOUND = 1e-3  # as in test_families.py
WHOLE = ("embed_tokens", "lm_head", "mlp.gate.weight", "block_sparse_moe.gate", "shared_expert_gate", "kv_b_proj")


def gptq(module, grid):
    groups = np.arange(grid.q.shape[-1]) // BLOCK
    scales = "F16", np.ascontiguousarray(grid.scale.T).astype(np.float16)
    zeros = np.full(grid.scale.shape, 7)  # the first version stores them less one
    return formats.gptq_tensors(module, grid.q + 8, zeros, scales, groups)


def act_order(module, grid):
    """The groups numbered from the last one on."""
    count = grid.scale.shape[-1]
    groups = count - 1 - np.arange(grid.q.shape[-1]) // BLOCK
    scales = "F16", np.ascontiguousarray(grid.scale.T[::-1]).astype(np.float16)
    return formats.gptq_tensors(module, grid.q + 8, np.full(grid.scale.shape, 7), scales, groups)


def awq(module, grid):
    scales = "F16", np.ascontiguousarray(grid.scale.T).astype(np.float16)
    return formats.awq_tensors(module, grid.q + 8, np.full(grid.scale.shape, 8), scales)


def packed(module, grid):
    return {
        f"{module}.weight_packed": ("I32", formats.words_of(grid.q + 8, 4)),
        f"{module}.weight_scale": files.stored(grid.scale, "BF16"),
        f"{module}.weight_shape": ("I64", np.array(grid.q.shape)),
    }


def fp8(module, grid):
    codes = np.zeros(8, np.uint8)  # of whole numbers: E4M3 has a bias of 7
    codes[1:] = [56, 64, 68, 72, 74, 76, 78]
    numbers = codes[np.abs(grid.q)] | np.where(grid.q < 0, 128, 0).astype(np.uint8)
    return {f"{module}.weight": ("F8_E4M3", numbers), f"{module}.weight_scale_inv": ("F32", grid.scale)}


INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": BLOCK}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": BLOCK, "sym": True}
METHODS = {
    "gptq": (gptq, GPTQ),
    "act-order": (act_order, GPTQ | {"desc_act": True}),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": BLOCK, "version": "gemm"}),
    "packed": (packed, formats.compressed("pack-quantized", INT4, ignore=["lm_head", "re:.*gate$", "re:.*kv_b_proj"])),
    "fp8": (fp8, {"quant_method": "fp8", "weight_block_size": [1, BLOCK]}),
}


def write(folder, name, method):
    made, (store, config), tensors = golden.load(name)[0], METHODS[method], {}
    for tensor, shape in made["tensors"].items():
        plain = len(shape) != 2 or not files.is_matrix(tensor, shape) or any(part in tensor for part in WHOLE)
        if plain or shape[0] % 8 or shape[1] % BLOCK:
            tensors[tensor] = files.stored(files.values(ALL[name], tensor, shape), "BF16")
        else:
            tensors |= store(tensor.removesuffix(".weight"), files.matrix(ALL[name], tensor, shape))
    (folder / "config.json").write_text(json.dumps(made["config"] | {"quantization_config": config}))
    files.write_safetensors(folder / "model.safetensors", tensors)


CASES = [("llama", method) for method in METHODS] + [("qwen3_moe", "packed"), ("qwen3_moe", "gptq")]
CASES += [("mixtral", "act-order"), ("mixtral", "awq"), ("deepseek_v3", "fp8"), ("phi3", "act-order")]


@pytest.mark.parametrize("name, method", CASES)
def test_logits(processor, tmp_path, name, method):
    write(tmp_path, name, method)
    expected = golden.load(name)[1]
    with p.open_checkpoint(tmp_path) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == () and any(line.startswith("weights repacked") for line in model.notes)
        found = model.logits(tokens(golden.POSITIONS, expected.shape[1]), 7, "f32")
    assert np.abs(found - expected).max() < BOUND


@pytest.mark.parametrize("name, method", [("llama", method) for method in METHODS] + [("mixtral", "awq")])
def test_converted(tmp_path, name, method):
    """The weights are decoded as a model reads them, also where columns have another order."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", name, method)
    (tmp_path / "in" / "tokenizer.json").write_text(json.dumps(tiny.BYTE_LEVEL))
    out, options = ("out", ("--rule", ".=none")) if method == "awq" else ("out.gguf", ("--format", "F32"))
    assert convert.main([str(tmp_path / "in"), str(tmp_path / out), *options]) == 0
    with p.open_checkpoint(tmp_path / out) as checkpoint:
        found = p.load_model(checkpoint, device="cpu", threads=1).logits(tokens(64, 61), 64, "f32")
        assert checkpoint.unused == ()
    assert np.abs(found - golden.load(name)[1]).max() < BOUND
