"""quantization_config of other libraries: which modules are stored how, and what is refused."""

import json
import re

import numpy as np
import pytest
from support.converting.sources import write_safetensors
from support.packed_formats import compressed

from pipeline.checkpoints.opening import open_checkpoint
from pipeline.checkpoints.packed.patterns import matches
from pipeline.errors import CheckpointError, UnsupportedError

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
PACKED = compressed("pack-quantized", INT4)
MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4"}

STORED = {
    "qweight": ("I32", np.zeros((1, 1), np.int32)),
    "weight_packed": ("I32", np.zeros((1, 1), np.int32)),
    "weight": ("BF16", np.zeros((1, 1), np.uint16)),
    "fp8": ("F8_E4M3", np.zeros((1, 1), np.uint8)),
    "bytes": ("I8", np.zeros((1, 1), np.int8)),
}


def opened(folder, config, modules, **more):
    """A checkpoint whose modules are stored as STORED says."""
    tensors = {
        f"{name}.{'weight' if kind in ('fp8', 'bytes') else kind}": STORED[kind] for name, kind in modules.items()
    }
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"model_type": "none", "quantization_config": config} | more))
    return open_checkpoint(folder)


def test_gptq_by_module(tmp_path):
    dynamic = {r"+:.*\.0\..*": {"bits": 8, "group_size": 32}, r"-:.*gate$": {}, r".*\.1\..*up": {"sym": False}}
    modules = dict.fromkeys(("l.0.q", "l.1.up", "l.2.q"), "qweight") | {"l.2.gate": "weight"}
    with opened(tmp_path, GPTQ | {"dynamic": dynamic}, modules) as checkpoint:
        found = {name: checkpoint.packing(name) for name in modules}
    assert [(p.bits, p.group_size, p.symmetric) for p in found.values() if p] == [
        (8, 32, True),
        (4, 128, False),
        (4, 128, True),
    ]
    assert found["l.2.gate"] is None


@pytest.mark.parametrize("key", ["checkpoint_format", "format"])
def test_versions_of_gptq(tmp_path, key):
    for name, offset in (("gptq", 1), ("gptq_v2", 0)):
        with opened(tmp_path, GPTQ | {key: name}, {"w": "qweight"}) as checkpoint:
            assert checkpoint.packing("w").offset == offset
    with pytest.raises(UnsupportedError, match=f"quantization_config.{key} = .marlin. is not supported"):
        opened(tmp_path, GPTQ | {key: "marlin"}, {})


def test_what_is_not_quantised_has_a_plain_weight(tmp_path):
    config = AWQ | {"modules_to_not_convert": ["visual"]}
    with opened(tmp_path, config, {"a": "qweight", "b": "weight"}) as checkpoint:
        assert checkpoint.packing("a").layout == "awq" and checkpoint.packing("b") is None


def groups(*each, ignore=()):
    config = compressed("mixed-precision", INT4, ignore=ignore)
    weights = {"bits": INT4, "int8": INT4 | {"num_bits": 8}, "fp8": {"num_bits": 8, "type": "float"}}
    config["config_groups"] = {
        f"group_{i}": {"targets": list(targets), "weights": weights[name]} for i, (name, targets) in enumerate(each)
    }
    return config


@pytest.mark.parametrize(
    "each, bits",
    [
        ([("bits", ["Linear"])], 4),
        ([("bits", ["Linear"]), ("int8", ["re:.*q_proj"])], 8),  # patterns come before classes
        ([("int8", [r"re:.*\.layers\.1\..*"]), ("bits", ["model.layers.1.q_proj"])], 4),  # and names before patterns
        ([("int8", [r"re:b.*"]), ("bits", [r"re:.*q_proj", "Linear"])], 4),  # which must begin where the name does
        ([("int8", [r"re:.*q_proj"]), ("bits", [r"re:.*\.1\.q_proj"])], 4),  # of two patterns the first of the alphabet
    ],
)
def test_targets(tmp_path, each, bits):
    with opened(tmp_path, groups(*each), {"model.layers.1.q_proj": "weight_packed"}) as checkpoint:
        assert checkpoint.packing("model.layers.1.q_proj").bits == bits


def test_a_group_per_format(tmp_path):
    config = groups(("fp8", ["re:.*q"]), ("int8", ["re:.*k"]), ("bits", ["Linear"]), ignore=["lm_head"])
    modules = {"q": "fp8", "k": "bytes", "v": "weight_packed", "lm_head": "weight"}
    with opened(tmp_path, config, modules) as checkpoint:
        layouts = {name: checkpoint.packing(name) and checkpoint.packing(name).layout for name in modules}
    assert layouts == {"q": "fp8", "k": "integers", "v": "packed", "lm_head": None}


@pytest.mark.parametrize("pattern", ["lm_head", r"re:lm_.*", "re:.*head$"])
def test_what_is_ignored_but_quantised(tmp_path, pattern):
    config = compressed("pack-quantized", INT4, ignore=[pattern])
    with opened(tmp_path, config, {"lm_head": "weight_packed", "model.lm_heads.w": "weight"}) as checkpoint:
        assert checkpoint.packing("model.lm_heads.w") is None
        with pytest.raises(CheckpointError, match="quantization_config.ignore has lm_head, which is stored quantised"):
            checkpoint.packing("lm_head")


def test_no_group_has_the_module(tmp_path):
    config = compressed("pack-quantized", INT4, targets=["re:model.*"])
    with opened(tmp_path, config, {"w": "weight_packed"}) as checkpoint:
        with pytest.raises(CheckpointError, match="no group of quantization_config.config_groups says how .* of w"):
            checkpoint.packing("w")


def test_names_of_a_larger_model(tmp_path):
    """A pattern may match the name that the file has, though the text part has another."""
    config = compressed("pack-quantized", INT4, targets=["re:language_model.*proj"])
    text = {"model_type": "llama"}
    with opened(
        tmp_path,
        config,
        {"language_model.model.layers.0.q_proj": "weight_packed"},
        model_type="mistral3",
        text_config=text,
    ) as checkpoint:
        assert checkpoint.packing("model.layers.0.q_proj").bits == 4


@pytest.mark.parametrize(
    "config, asks",
    [
        (GPTQ, ""),
        (PACKED, ""),
        (FP8, "activations in fp8 (dynamic)"),
        ({"quant_method": "fbgemm_fp8"}, "activations in fp8 (dynamic)"),
        (MODELOPT | {"kv_cache_scheme": {"num_bits": 8}}, "activations as NVFP4 and a KV cache of 8 bits"),
        (
            compressed("int-quantized", INT4, {"num_bits": 8, "type": "int", "dynamic": True}),
            "activations of 8 bits (int, dynamic)",
        ),
    ],
)
def test_what_is_asked_of_activations(tmp_path, config, asks):
    with opened(tmp_path, config, {}) as checkpoint:
        assert checkpoint.unapplied == asks


def test_a_file_of_modelopts_own(tmp_path):
    said = {"quant_algo": "NVFP4", "group_size": 16, "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"producer": {}, "quantization": said}))
    stored = {"w.weight": ("U8", np.zeros((1, 8), np.uint8)), "lm_head.weight": STORED["weight"]}
    write_safetensors(tmp_path / "model.safetensors", stored)
    (tmp_path / "config.json").write_text('{"model_type": "none"}')
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.packing("w").layout == "fp4" and checkpoint.packing("lm_head") is None
        assert checkpoint.unapplied == "activations as NVFP4 and a KV cache of 8 bits"
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": 3}')
    with pytest.raises(CheckpointError, match="hf_quant_config.json: 'quantization' must be an object"):
        open_checkpoint(tmp_path)


WRONG = [
    (3, "'quantization_config' must be an object, found 3"),
    (
        AWQ | {"modules_to_not_convert": 3},
        "quantization_config.modules_to_not_convert must be a list of names, found 3",
    ),
    (FP8 | {"modules_to_not_convert": [3]}, "quantization_config.modules_to_not_convert must be a list of names"),
    (FP8 | {"weight_block_size": 128}, "quantization_config.weight_block_size must be two whole numbers"),
    (FP8 | {"weight_block_size": [128, 0]}, "quantization_config.weight_block_size must be two whole numbers"),
    (GPTQ | {"bits": "4"}, 'quantization_config.bits must be a whole number of at least 1, found "4"'),
    (GPTQ | {"bits": None}, "quantization_config.bits must be a whole number of at least 1, found nothing"),
    (GPTQ | {"sym": 1}, "quantization_config.sym must be true or false, found 1"),
    (GPTQ | {"dynamic": {"a": 4}}, "quantization_config.dynamic.a must be an object, found 4"),
    (PACKED | {"ignore": "lm_head"}, 'quantization_config.ignore must be a list of names, found "lm_head"'),
    (PACKED | {"config_groups": []}, "quantization_config.config_groups must be an object"),
    (PACKED | {"config_groups": {"g": {"targets": 1}}}, "quantization_config.config_groups.g.targets must be a list"),
    (
        compressed("pack-quantized", INT4 | {"group_size": None}),
        "quantization_config.config_groups.group_0.weights.group_size must be a whole number of at least 1",
    ),
    (
        compressed("float-quantized", {"num_bits": 8, "type": "float", "strategy": "block"}),
        "weights.block_structure must be two whole numbers of at least 1, found nothing",
    ),
    (MODELOPT | {"ignore": {}}, "quantization_config.ignore must be a list of names, found {}"),
]
UNKNOWN = [
    (GPTQ | {"bits": 5}, "quantization_config.bits = 5 is not supported; supported: 2, 3, 4, 8"),
    (AWQ | {"version": "gemv"}, 'quantization_config.version = "gemv" is not supported; supported: gemm'),
    (AWQ | {"bits": 8}, "quantization_config.bits = 8 is not supported; supported: 4"),
    (FP8 | {"fmt": "e5m2"}, 'quantization_config.fmt = "e5m2" is not supported; supported: e4m3'),
    (MODELOPT | {"quant_algo": "NVFP4_AWQ"}, 'quantization_config.quant_algo = "NVFP4_AWQ" is not supported'),
    (PACKED | {"format": "marlin-24"}, 'quantization_config.format = "marlin-24" is not supported'),
    (PACKED | {"transform_config": {"config_groups": {"g": {}}}}, "quantization_config.transform_config = "),
    (PACKED | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "quantization_config.sparsity_config.format"),
    (compressed("pack-quantized", INT4 | {"num_bits": 7}), "weights.num_bits = 7 is not supported"),
    (compressed("x", INT4), 'quantization_config.format = "x" is not supported'),
    (
        compressed("float-quantized", {"num_bits": 6, "type": "float", "group_size": 32}),
        "floats of 6 bits in groups of 32",
    ),
    ({"quant_method": ["gptq"]}, 'quantization_config.quant_method = ["gptq"] is not supported; use one of awq'),
]


@pytest.mark.parametrize("config, message", WRONG)
def test_values_that_cannot_be(tmp_path, config, message):
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        opened(tmp_path, config, {})
    assert not isinstance(caught.value, UnsupportedError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("config, message", UNKNOWN)
def test_values_that_are_not_known(tmp_path, config, message):
    with pytest.raises(UnsupportedError, match=re.escape(message)):
        opened(tmp_path, config, {})


@pytest.mark.parametrize("pattern", ["re:(", "re:(a)\\1", "re:" + "a" * 1001, "re:((a*)*b)*", "re:(?i)a"])
def test_patterns_that_cannot_be_used(tmp_path, pattern):
    config = compressed("pack-quantized", INT4, ignore=[pattern])
    with opened(tmp_path, config, {"w": "weight_packed"}) as checkpoint:
        with pytest.raises(CheckpointError, match="quantization_config.ignore has a pattern that cannot be used"):
            checkpoint.packing("w")


NAMES = (
    "lm_head",
    "model.layers.10.mlp.experts.3.gate_proj",
    "a",
    "",
    "aaab",
    "model.layers.0.self_attn.q_proj",
    "é_1",
)
PATTERNS = (
    ".*lm_head",
    r"model\.layers\.\d+\.mlp\.experts\.[0-9]+\.(gate|up|down)_proj$",
    "^(?!.*experts).*proj",
    r".*(?=q_proj)",
    "a{2,3}b",
    "a*?b",
    r"\w+$",
    r"[^a-m]+",
    r"(?:layers|model)\b",
    ".*self_attn.*",
    "",
    "x|",
    r"\Aa\Z",
    "(a|b)*$",
    r"\D*\.0\.",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_mean_what_they_mean_to_python(pattern):
    assert [matches(pattern, name) for name in NAMES] == [bool(re.match(pattern, name)) for name in NAMES]


def test_no_pattern_takes_long():
    """Backtracking would take longer than the world has been there."""
    assert not matches("(a+)+$", "a" * 200 + "!")
    assert not matches("(a|ab|aba)" * 80 + "x", "ab" * 100)
    assert not matches("(.*a){20}b" + ".*" * 20 + "x", "a" * 200)
