"""pipeline.convert's tensors: the arithmetic is MLX's and the layout mlx-lm's, bit for bit, by what both of them
gave."""

import hashlib
import json

import numpy as np
import pytest
from support import reference as ref
from support.axes import each, pairs
from support.converting.quiet import Quiet
from support.converting.sources import SMALL, small_shapes, values, write_safetensors, write_source
from support.paths import golden
from support.stored_formats import decode_floats, float_matrix

import pipeline as p
from pipeline.checkpoints.config import Quantization
from pipeline.checkpoints.safetensors import read_header
from pipeline.converting import conversion
from pipeline.converting.affine import quantize
from pipeline.converting.configuration import earlier_keys
from pipeline.converting.floats import quantize_floats
from pipeline.converting.settings import Settings
from pipeline.errors import CheckpointError, UnsupportedError
from pipeline.graph.formats import AFFINE_BITS, FLOAT_MODES
from pipeline.models.numbers import as_f32, pack, rounded

GOLDEN = golden("converted")
NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def convert(source, out, bits=4, group=64, most=5_000_000_000):
    with p.open_checkpoint(source) as checkpoint:
        work, progress = (
            conversion.plan(checkpoint, out, Settings.of(str(out), bits=bits, group_size=group), most),
            Quiet(),
        )
        conversion.run(work, 2, progress)
        assert progress.left == 0
        return work


def digest(data) -> str:
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()[:16]


@pairs("dtype, bits, group", NUMPY, AFFINE_BITS, (32, 64, 128))
def test_arithmetic_is_that_of_mlx(dtype, bits, group):
    found = quantize(values("affine", (64, 512), dtype), dtype, bits, group)
    assert [digest(part) for part in found] == GOLDEN["affine"][f"{dtype}/{bits}/{group}"]


@each("bits, dtype", AFFINE_BITS, NUMPY)
def test_arithmetic_against_mlx_itself(bits, dtype):
    mx = pytest.importorskip("mlx.core")
    rng = np.random.default_rng(bits)
    numbers = (rng.standard_normal((96, 256)) * 10.0 ** rng.integers(-9, 5, (96, 1))).astype(np.float32)
    numbers[0], numbers[1], numbers[2], numbers[3] = 0, 0.7, -0.3, np.abs(numbers[3])
    stored = rounded(numbers, dtype.lower())
    array = mx.array(stored).view(mx.bfloat16) if dtype == "BF16" else mx.array(stored)
    for group in (32, 64, 128):
        for mine, theirs in zip(quantize(stored, dtype, bits, group), mx.quantize(array, group_size=group, bits=bits)):
            assert mine.tobytes() == np.array(theirs.view(mx.uint8)).tobytes()


@pytest.mark.parametrize("bits", AFFINE_BITS)
def test_codes_are_one_stream_of_bits(bits):
    codes = np.random.default_rng(bits).integers(0, 2**bits, 96, np.uint8)
    number = sum(int(code) << (bits * i) for i, code in enumerate(codes))
    assert pack(codes, bits).tobytes() == number.to_bytes(96 * bits // 8, "little")


@pytest.mark.parametrize("bits", AFFINE_BITS)
def test_error_is_at_most_half_a_step(bits):
    """And what MLX promises beside that: the end further from zero, and zero itself, come back exactly."""
    weights = np.random.default_rng(bits).normal(size=(16, 128)).astype(np.float32)
    weights[:, 5] = 0
    words, scales, biases = quantize(weights, "F32", bits, 64)
    codes = np.unpackbits(words.view(np.uint8).reshape(-1, 1), axis=1, bitorder="little").reshape(16, 128, bits)
    codes = (codes * (1 << np.arange(bits))).sum(-1)
    scale, bias = np.repeat(scales, 64, 1).astype(np.float64), np.repeat(biases, 64, 1).astype(np.float64)
    error = np.abs(codes * scale + bias - weights)
    # The scale is changed by at most half a step of half the codes, so the other end may lie outside by as much.
    assert error.max() <= np.abs(scale).max() * (0.5 + 0.5 + 1e-4)
    assert error[:, 5].max() <= 1e-6 and np.abs(np.abs(biases) - np.abs(weights.reshape(16, 2, 64)).max(-1)).max() == 0


@pairs("dtype, mode", NUMPY, FLOAT_MODES)
def test_small_floats_are_those_of_mlx(dtype, mode):
    found = quantize_floats(values("affine", (64, 512), dtype), dtype, mode)
    assert [digest(part) for part in found] == GOLDEN["floats"][f"{dtype}/{mode}"]


@each("mode, dtype", FLOAT_MODES, NUMPY)
def test_small_floats_against_mlx_itself(mode, dtype):
    mx = pytest.importorskip("mlx.core")
    rng = np.random.default_rng(3)
    numbers = (rng.standard_normal((96, 256)) * 10.0 ** rng.integers(-9, 5, (96, 1))).astype(np.float32)
    numbers[0], numbers[1], numbers[2], numbers[3] = 0, 0.7, -0.3, -0.0
    numbers[4], numbers[5], numbers[6] = np.round(numbers[4]), np.arange(256) / 8, np.arange(256) * 2.0**-12
    stored = rounded(numbers.clip(-6e4, 6e4), dtype.lower())
    array = mx.array(stored).view(mx.bfloat16) if dtype == "BF16" else mx.array(stored)
    for mine, theirs in zip(quantize_floats(stored, dtype, mode), mx.quantize(array, mode=mode)):
        assert mine.tobytes() == np.array(theirs.view(mx.uint8)).tobytes()


@pytest.mark.parametrize("mode", ("mxfp4", "mxfp8"))
def test_small_floats_come_back(mode):
    """Numbers that the mode has are kept, because the largest one of a group is never cut."""
    _, decoded = float_matrix(np.random.default_rng(5), (16, 128), mode)
    decoded = decoded.astype(np.float32)
    assert (decode_floats(*quantize_floats(decoded, "F32", mode), mode) == decoded).all()


def test_bf16_rounds_ties_to_even():
    numbers = np.random.default_rng(0).integers(0, 2**32, 4096, np.uint32).view(np.float32)
    numbers = numbers[np.abs(numbers) < 3e38]
    assert (rounded(numbers, "bf16") == ref.bf16_bits(numbers)).all()
    assert (as_f32(rounded(numbers, "bf16"), "BF16") == ref.from_bf16(ref.bf16_bits(numbers))).all()


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
def test_weights_that_are_no_numbers_are_refused(value, tmp_path):
    source = write_source(tmp_path / "hf", SMALL, small_shapes(), "F32")
    info = read_header(source / "model.safetensors").tensors["model.layers.1.mlp.experts.2.up_proj.weight"]
    with open(info.file, "r+b") as stream:
        stream.seek(info.offset + 4 * 77)
        stream.write(np.float32(value).tobytes())
    with pytest.raises(CheckpointError, match=r"experts\.2\.up_proj\.weight' holds infinities or NaN"):
        convert(source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors")) and not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize("name", GOLDEN["families"])
def test_layout_is_that_of_mlx_lm(name, tmp_path):
    case = GOLDEN["families"][name]
    convert(write_source(tmp_path / "hf", case["config"], case["sources"]), tmp_path / "out", 4, 32)
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        found = {
            tensor: [list(info.shape), digest(checkpoint.view(tensor))] for tensor, info in checkpoint.tensors.items()
        }
        assert found == case["outputs"]

        def full(table):
            return {
                key: {"mode": "affine"} | entry if isinstance(entry, dict) else entry for key, entry in table.items()
            }

        assert full(checkpoint.config["quantization"]) == full(case["table"])
        assert checkpoint.config["quantization_config"] == checkpoint.config["quantization"]
        kept = {key: value for key, value in checkpoint.config.items() if key in case["config"]}
        assert kept == case["config"]


def gpt_oss(folder, blocks: bool):
    """One layer of gpt-oss, with experts in bf16 or in mxfp4, as Hugging Face stores them."""
    config = {
        "model_type": "gpt_oss",
        "num_hidden_layers": 1,
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_local_experts": 3,
    }
    at, tensors = "model.layers.0.mlp", {}
    for name, shape in {
        "model.embed_tokens.weight": (96, 64),
        f"{at}.router.weight": (3, 64),
        f"{at}.router.bias": (3,),
        f"{at}.experts.gate_up_proj_bias": (3, 64),
        f"{at}.experts.down_proj_bias": (3, 64),
    }.items():
        tensors[name] = ("BF16", values(name, shape))
    for name, (outputs, inputs) in {"gate_up_proj": (64, 64), "down_proj": (64, 32)}.items():
        if blocks:
            rng = np.random.default_rng(inputs)
            tensors[f"{at}.experts.{name}_blocks"] = (
                "U8",
                rng.integers(0, 256, (3, outputs, inputs // 32, 16), np.uint8),
            )
            tensors[f"{at}.experts.{name}_scales"] = (
                "U8",
                rng.integers(100, 130, (3, outputs, inputs // 32), np.uint8),
            )
        else:
            tensors[f"{at}.experts.{name}"] = ("BF16", values(name, (3, inputs, outputs)))
    if blocks:
        config["quantization_config"] = {
            "quant_method": "mxfp4",
            "modules_to_not_convert": ["model.layers.*.self_attn"],
        }
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    return {name: array for name, (_, array) in tensors.items()}


def test_gpt_oss_in_bf16(tmp_path):
    """Inputs come first, and gate and up alternate, in Hugging Face's tensors; not in MLX's."""
    source = gpt_oss(tmp_path / "hf", blocks=False)
    convert(tmp_path / "hf", tmp_path / "out", 4, 32)
    at = "model.layers.0.mlp"
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        both = source[f"{at}.experts.gate_up_proj"]
        for projection, matrices in (
            ("gate_proj", both[:, :, 0::2]),
            ("up_proj", both[:, :, 1::2]),
            ("down_proj", source[f"{at}.experts.down_proj"]),
        ):
            matrices = np.ascontiguousarray(matrices.swapaxes(1, 2))
            for part, wanted in zip(
                ("weight", "scales", "biases"), quantize(matrices.reshape(-1, matrices.shape[2]), "BF16", 4, 32)
            ):
                found = checkpoint.view(f"{at}.experts.{projection}.{part}")
                assert found.shape[:2] == matrices.shape[:2] and (found.reshape(wanted.shape) == wanted).all()
        bias = source[f"{at}.experts.gate_up_proj_bias"]
        assert (checkpoint.view(f"{at}.experts.up_proj.bias") == bias[:, 1::2]).all()
        assert checkpoint.config["quantization"][f"{at}.router"] == {"group_size": 64, "bits": 8, "mode": "affine"}


def test_gpt_oss_keeps_its_mxfp4(tmp_path):
    source = gpt_oss(tmp_path / "hf", blocks=True)
    convert(tmp_path / "hf", tmp_path / "out", 6, 32)
    at = "model.layers.0.mlp"
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        for part, kind in (("blocks", "weight"), ("scales", "scales")):
            both = source[f"{at}.experts.gate_up_proj_{part}"]
            for projection, rows in (("gate_proj", both[:, 0::2]), ("up_proj", both[:, 1::2])):
                found = checkpoint.view(f"{at}.experts.{projection}.{kind}")
                assert found.tobytes() == np.ascontiguousarray(rows).tobytes()
        assert checkpoint.tensors[f"{at}.experts.gate_proj.weight"].dtype == "U32"
        assert checkpoint.tensors[f"{at}.experts.gate_proj.weight"].shape == (3, 32, 8)
        table = checkpoint.config["quantization"]
        assert (table["mode"], table["bits"], table["group_size"]) == ("mxfp4", 4, 32)
        assert table["model.embed_tokens"] == {"group_size": 32, "bits": 6, "mode": "affine"}
        assert f"{at}.experts.gate_proj" not in table


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({"rope_parameters": {"rope_theta": 5.0, "rope_type": "default"}}, {"rope_theta": 5.0, "rope_scaling": None}),
        (
            {"rope_parameters": {"rope_theta": 5.0, "rope_type": "linear", "factor": 2.0}},
            {"rope_theta": 5.0, "rope_scaling": {"rope_theta": 5.0, "rope_type": "linear", "factor": 2.0}},
        ),
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 5.0, "rope_type": "default"},
                    "sliding_attention": {"rope_theta": 3.0},
                }
            },
            {"rope_theta": 5.0, "rope_scaling": None, "rope_local_base_freq": 3.0},
        ),
        (
            {"rope_parameters": {"rope_theta": 5.0, "rope_type": "default", "partial_rotary_factor": 0.5}},
            {"rope_theta": 5.0, "rope_scaling": None, "partial_rotary_factor": 0.5},
        ),
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 5.0, "rope_type": "default", "partial_rotary_factor": 0.5}
                }
            },
            {"rope_theta": 5.0, "rope_scaling": None},
        ),
        ({"rope_parameters": {"rope_theta": 5.0}, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}, {}),
        ({"num_local_experts": 4}, {"num_experts": 4}),
        (
            {
                "layer_types": ["sliding_attention", "full_attention"],
                "head_dim": 32,
                "per_layer_config": {"1": {"head_dim": 64}},
            },
            {"global_head_dim": 64},
        ),
    ],
)
def test_keys_that_mlx_lm_reads(config, keys):
    assert earlier_keys(config) == keys


def change(shapes, **changes):
    shapes = dict(shapes)
    for name, shape in changes.items():
        shapes.pop(name) if shape is None else shapes.__setitem__(name, shape)
    return shapes


@pytest.mark.parametrize(
    ("config", "shapes", "words", "error"),
    [
        ({"model_type": ["llama"]}, {}, r"model_type \['llama'\] cannot be converted", UnsupportedError),
        ({"model_type": "mamba"}, {}, "model_type 'mamba' cannot be converted; these can: llama", UnsupportedError),
        ({"num_hidden_layers": None}, {}, "has no 'num_hidden_layers'", CheckpointError),
        ({}, {"model.layers.0.mlp.experts.1.up_proj.weight": None}, "up_proj of experts 1 is missing", CheckpointError),
        ({}, {"model.layers.0.mlp.experts.1.up_proj.weight": (64, 64)}, "one shape and dtype", CheckpointError),
        ({}, {"model.layers.0.self_attn.q_proj.scales": (128, 2)}, "says nothing of quantisation", CheckpointError),
        (
            {},
            {"model.layers.0.mlp.switch_mlp.up_proj.weight": (3, 64, 128)},
            "two of its tensors become",
            CheckpointError,
        ),
    ],
)
def test_sources_that_cannot_be_converted(config, shapes, words, error, tmp_path):
    source = write_source(tmp_path / "hf", SMALL | config, change(small_shapes(), **shapes))
    with pytest.raises(error, match=words) as caught:
        convert(source, tmp_path / "out")
    assert type(caught.value) is error and "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_dtype_that_cannot_be_quantised(tmp_path):
    source = write_source(tmp_path / "hf", SMALL, {})
    write_safetensors(source / "model.safetensors", {"model.embed_tokens.weight": ("F64", np.zeros((4, 64)))})
    with pytest.raises(UnsupportedError, match="'model.embed_tokens.weight' is F64; F32, F16, BF16 can be quantised"):
        convert(source, tmp_path / "out")


def test_a_width_that_is_not_whole_groups_stays_as_it_is(tmp_path):
    """As mlx-lm leaves it: down_proj has 64 inputs."""
    convert(write_source(tmp_path / "hf", SMALL, small_shapes()), tmp_path / "out", 4, 128)
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        module = "model.layers.0.mlp.switch_mlp.down_proj"
        assert checkpoint.tensors[f"{module}.weight"].dtype == "BF16" and checkpoint.quantization(module) is None
        assert checkpoint.quantization("model.layers.0.mlp.switch_mlp.up_proj") == Quantization(4, 128)


def test_files_of_at_most_some_size(tmp_path):
    source = write_source(tmp_path / "hf", SMALL, small_shapes())
    convert(source, tmp_path / "one")
    work = convert(source, tmp_path / "many", most=30_000)
    names = sorted(file.name for file in (tmp_path / "many").glob("*.safetensors"))
    assert len(names) > 3 and names == [
        f"model-{i:05}-of-{len(names):05}.safetensors" for i in range(1, len(names) + 1)
    ]
    assert all((tmp_path / "many" / name).stat().st_size <= 30_000 for name in names)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == names
    with p.open_checkpoint(tmp_path / "one") as one, p.open_checkpoint(tmp_path / "many") as many:
        assert one.tensors.keys() == many.tensors.keys()
        assert all((one.view(name) == many.view(name)).all() for name in one.tensors)
        assert index["metadata"]["total_size"] == sum(info.nbytes for info in many.tensors.values())
        for checkpoint in (one, many):  # what a kernel reads in place
            assert all(info.offset % {"U32": 4, "BF16": 2}[info.dtype] == 0 for info in checkpoint.tensors.values())
            assert all(read_header(file).data_offset % 64 == 0 for file in checkpoint.files)
    assert [len(shard.outputs) for shard in work.shards] and sum(shard.size for shard in work.shards) == work.nbytes


def test_what_mlx_lm_has_no_place_for_is_left_out(tmp_path):
    shapes = small_shapes() | {
        "model.layers.0.self_attn.rotary_emb.inv_freq": (16,),
        "model.layers.2.mlp.gate.weight": (3, 128),
    }
    work = convert(write_source(tmp_path / "hf", SMALL | {"tie_word_embeddings": True}, shapes), tmp_path / "out")
    assert set(work.left_out) == {
        "lm_head.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.2.mlp.gate.weight",
    }
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        assert not any(
            name.startswith(("lm_head", "model.layers.2")) or "inv_freq" in name for name in checkpoint.tensors
        )
