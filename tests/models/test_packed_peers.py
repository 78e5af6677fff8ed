"""The values of compressed-tensors, AutoAWQ and GPTQModel themselves, where these packages are there."""

import importlib.util
import json

import numpy as np
import pytest
from support.converting.sources import write_safetensors
from support.kernels import run

import pipeline as p
from pipeline.graph.weights import as_weight
from pipeline.models.loading import Loader

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.one_processor
NAMES = {
    torch.int32: "I32",
    torch.int64: "I64",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
}
ROWS, COLUMNS = 64, 256


def stored(tensor):
    """(dtype of safetensors, bits)."""
    bits = tensor.view(torch.uint8 if tensor.element_size() == 1 and tensor.is_floating_point() else tensor.dtype)
    bits = bits.view(torch.int16) if tensor.dtype is torch.bfloat16 else bits
    return NAMES[tensor.dtype], bits.contiguous().numpy()


def loaded(folder, device, tensors, config, columns=COLUMNS):
    """The rows of a weight "w" that has these tensors, float32."""
    write_safetensors(folder / "model.safetensors", {f"w.{part}": stored(tensor) for part, tensor in tensors.items()})
    (folder / "config.json").write_text(json.dumps({"model_type": "none", "quantization_config": config}))
    with p.open_checkpoint(folder) as checkpoint:
        weight = as_weight(Loader(checkpoint, device).matrix("w", (ROWS, columns)), "w")
        tokens = np.arange(ROWS, dtype=np.uint32)
        return run(device, ROWS, lambda pipe, tokens: pipe.embed(tokens, weight), tokens=tokens)


def same(found, expected):
    """The tool rounds to its dtype what is exact here."""
    np.testing.assert_array_equal(torch.from_numpy(found).to(expected.dtype).float(), expected.float())


GROUPED = {"strategy": "group", "group_size": 64}
ASYMMETRIC = {"symmetric": False}
FORMATS = [
    ("pack-quantized", {"num_bits": 4, **GROUPED}),
    ("pack-quantized", {"num_bits": 4, **GROUPED, **ASYMMETRIC}),
    ("pack-quantized", {"num_bits": 8, "strategy": "channel"}),
    ("pack-quantized", {"num_bits": 3, **GROUPED, **ASYMMETRIC}),
    ("pack-quantized", {"num_bits": 8, "strategy": "channel", **ASYMMETRIC}),
    ("int-quantized", {"num_bits": 8, "strategy": "channel"}),
    ("int-quantized", {"num_bits": 8, "strategy": "tensor"}),
    ("int-quantized", {"num_bits": 8, "strategy": "channel", **ASYMMETRIC}),
    ("naive-quantized", {"num_bits": 4, "strategy": "channel"}),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [48, 128]}),
    ("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}),
    ("mxfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}),
]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize("form, arguments", FORMATS)
def test_compressed_tensors(processor, tmp_path, form, arguments, dtype):
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    if form == "mxfp4-pack-quantized":
        arguments = arguments | {"scale_dtype": "torch.uint8"}
    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    torch.manual_seed(1)
    state = {"weight": torch.randn(ROWS, COLUMNS).to(dtype)}
    if args.strategy == "block":
        shape = -(-ROWS // 48), COLUMNS // 128
    else:
        shape = {"tensor": (1,), "channel": (ROWS, 1)}.get(args.strategy, (ROWS, COLUMNS // (args.group_size or 1)))
    state["weight_scale"] = (torch.rand(shape) / 8 + 0.01).to(dtype)
    if form == "nvfp4-pack-quantized":
        state["weight_scale"] = state["weight_scale"].float() * 300
        state["weight_global_scale"] = torch.tensor([317.3])
    if form == "mxfp4-pack-quantized":
        state["weight_scale"] = torch.exp2(torch.randint(-8, 0, shape)).to(dtype)
    if not args.symmetric:
        half = 1 << (args.num_bits - 1)
        state["weight_zero_point"] = torch.randint(-half, half, shape).to(torch.int8)
    compressor = BaseCompressor.get_value_from_registry(form)
    made = compressor.compress(state, scheme)
    expected = compressor.decompress(made, scheme)["weight"]
    group = {"targets": ["Linear"], "weights": json.loads(args.model_dump_json())}
    config = {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}}
    same(loaded(tmp_path, processor, made, config), expected)


def file_of(package, *path):
    """A file of a package, which need not be able to run."""
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not there")
    spec = importlib.util.spec_from_file_location("_peer", "/".join((found.submodule_search_locations[0], *path)))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("group", [32, 64, 128, -1])
def test_awq(processor, tmp_path, group):
    peer, size = file_of("awq", "utils", "packing_utils.py"), COLUMNS if group == -1 else group
    torch.manual_seed(2)
    limits = torch.iinfo(torch.int32)
    tensors = {
        "qweight": torch.randint(limits.min, limits.max, (COLUMNS, ROWS // 8), dtype=torch.int32),
        "qzeros": torch.randint(limits.min, limits.max, (COLUMNS // size, ROWS // 8), dtype=torch.int32),
        "scales": torch.randn(COLUMNS // size, ROWS).half(),
    }
    expected = peer.dequantize_gemm(tensors["qweight"], tensors["qzeros"], tensors["scales"], 4, size).T
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    same(loaded(tmp_path, processor, tensors, config), expected)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq(processor, tmp_path, bits, form, act_order):
    """Any words, so zero points of the first version carry, as they do where the package loads a model
    (convert_gptq_v1_to_v2_format_module adds to whole words). Where it makes a plain file of one, they do not."""
    pytest.importorskip("gptqmodel", exc_type=ImportError)
    from gptqmodel.utils import model_dequant as peer

    torch.manual_seed(3)
    limits, groups = torch.iinfo(torch.int32), 4
    g_idx = torch.arange(COLUMNS, dtype=torch.int32) // (COLUMNS // groups)
    tensors = {
        "qweight": torch.randint(limits.min, limits.max, (COLUMNS * bits // 32, ROWS), dtype=torch.int32),
        "qzeros": torch.randint(limits.min, limits.max, (groups, ROWS * bits // 32), dtype=torch.int32),
        "scales": torch.randn(groups, ROWS).half(),
        "g_idx": g_idx[torch.randperm(COLUMNS)] if act_order else g_idx,
    }
    zeros = tensors["qzeros"].clone()
    if form == "gptq":
        ones = sum(1 << i for i in range(0, 32, bits))
        zeros = peer._correct_gptq_v1_qzeros(zeros, bits) if bits == 3 else zeros + ones
    codes, zeros = peer.unpack_rows(tensors["qweight"], bits), peer.unpack_cols(zeros, bits)
    order = tensors["g_idx"].long()
    expected = ((codes.float() - zeros.float()[order]) * tensors["scales"].float()[order]).half().T
    config = {"quant_method": "gptq", "bits": bits, "group_size": COLUMNS // groups, "sym": False}
    same(loaded(tmp_path, processor, tensors, config | {"checkpoint_format": form}), expected)


TINY = {
    "vocab_size": 96,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "dtype": "float32",
}
WHOLE = [
    ("pack-quantized", {"num_bits": 4, "group_size": 32}, None),
    ("pack-quantized", {"num_bits": 4, "group_size": 64, "symmetric": False}, None),
    ("int-quantized", {"num_bits": 8, "strategy": "channel"}, None),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}, None),
    ("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}, None),
    ("mixed-precision", {"num_bits": 4, "group_size": 32}, {"num_bits": 8, "type": "float", "strategy": "channel"}),
]


@pytest.mark.parametrize("form, first, second", WHOLE)
def test_a_model_that_transformers_saved(processor, tmp_path, form, first, second):
    """Saved in the format, loaded by transformers again, and by this package: the logits agree."""
    pytest.importorskip("compressed_tensors")
    transformers = pytest.importorskip("transformers")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    torch.manual_seed(4)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**TINY))
    groups = {"group_0": {"targets": ["Linear"], "weights": first}}
    if second is not None:
        groups["group_1"] = {"targets": ["re:.*self_attn.*"], "weights": second}
    config = QuantizationConfig(config_groups=groups, ignore=["lm_head", "re:.*layers.1.mlp.up_proj"])
    apply_quantization_config(model, config)
    for module in model.modules():
        args = getattr(getattr(module, "quantization_scheme", None), "weights", None)
        if args is not None:
            _calibrate(module, args, calculate_qparams, generate_gparam)
    compressor = ModelCompressor.from_pretrained_model(model, None if second else form)
    compressor.compress_model(model)
    model.save_pretrained(tmp_path)
    compressor.update_config(str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["format"] == form
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32")
    tokens = np.random.default_rng(5).integers(0, 96, 24)
    again.hf_quantizer.compressor.decompress_model(again)
    torch.nn.Module.float(again)  # transformers forbids it for models that are quantised
    with torch.no_grad():
        expected = again(torch.from_numpy(tokens)[None]).logits[0].float().numpy()
    with p.open_checkpoint(tmp_path) as checkpoint:
        loaded = p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == () and loaded.notes
        found = loaded.logits(tokens.tolist(), 8, "f32")
    bound = 1e-2 if form.startswith("nvfp4") else 1e-3  # it decodes to bfloat16
    assert np.abs(found - expected).max() < bound * np.abs(expected).max()


def _calibrate(module, args, calculate_qparams, generate_gparam):
    """Scales from the smallest and the largest weight of each group, as the package computes them."""
    weight = module.weight.data
    size = args.group_size or weight.shape[1]
    parts = weight.unflatten(-1, (weight.shape[1] // size, size))
    more = {}
    if args.strategy == "tensor_group":
        more["global_scale"] = generate_gparam(weight.min(), weight.max())
        module.weight_global_scale.data.copy_(more["global_scale"])
    scale, zero = calculate_qparams(parts.amin(-1), parts.amax(-1), args, **more)
    module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
    if hasattr(module, "weight_zero_point"):
        module.weight_zero_point.data.copy_(zero.reshape(module.weight_zero_point.shape))
