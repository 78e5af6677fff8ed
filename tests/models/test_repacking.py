"""Weights of AWQ, GPTQ, compressed-tensors, ModelOpt and fp8 have the values that their tools give, bit for bit."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import packed_formats as formats
from support.converting.sources import write_safetensors
from support.kernels import DOT, assert_close, run, stored_activations

import pipeline as p
from pipeline.checkpoints.named import model_path
from pipeline.checkpoints.packed.scheme import EIGHT, PackedWeight
from pipeline.checkpoints.tensor_info import TensorInfo
from pipeline.errors import BuildError, CheckpointError, UnsupportedError, UsageError
from pipeline.graph.weights import as_weight
from pipeline.models.loading import Loader
from pipeline.models.survey import Survey

pytestmark = pytest.mark.one_processor
ROWS = 64
REVERSED = np.arange(256)[::-1] // 64  # of columns whose groups take turns, the last one first


def case(packer, form, columns=256, rows=ROWS, **settings):
    words = "-".join(str(value) for value in settings.values() if not isinstance(value, np.ndarray))
    return pytest.param(packer, form, rows, columns, settings, id=f"{packer.__name__}-{words}-{columns}")


CASES = [
    *(case(formats.gptq, f"q{bits}_f16", bits=bits, group=64) for bits in (2, 3, 4, 8)),
    *(case(formats.gptq, f"q{bits}_f32", bits=bits, sym=False, v2=v2) for bits in (2, 3, 4, 8) for v2 in (0, 1)),
    case(formats.gptq, "q4_f16", group=-1),
    case(formats.gptq, "q4_f16", columns=320, group=128),  # the last group is half as large
    case(formats.gptq, "q4_bf16", dtype="BF16", group=32),
    case(formats.gptq, "q4_f16", order=np.arange(256) // 64, group=64),  # as static groups have them
    case(formats.awq, "q4_f32", group=64),
    case(formats.awq, "q4_f32", group=-1),
    case(formats.awq, "q4_f32", group=32, columns=96, rows=8),
    *(case(formats.packed, f"q{bits}_bf16", bits=bits, group=64) for bits in (2, 3, 4, 5, 6, 8)),
    *(case(formats.packed, f"q{bits}_f32", bits=bits, group=32, symmetric=False) for bits in (3, 4, 8)),
    case(formats.packed, "q4_bf16", group=-1, columns=160),
    case(formats.packed, "q4_f16", group=0, dtype="F16"),
    case(formats.packed, "q4_f32", group=256, dtype="F32"),
    case(formats.packed, "q4_f32", group=-1, symmetric=False, dtype="F16"),
    *(case(formats.signed, form, dtype=dtype) for form, dtype in (("q8_bf16", "BF16"), ("q8_f32", "F32"))),
    case(formats.signed, "q8_f32", symmetric=False),
    *(case(formats.fp8, "fp8", columns=160, kind=kind) for kind in ("tensor", "channel", "modelopt", "compressed")),
    *(case(formats.fp8, "fp8", rows=130, columns=320, kind=kind) for kind in ("block", "small block")),
    case(formats.fp8, "fp8", rows=130, kind="compressed block", dtype="BF16"),
    *(case(formats.nvfp4, "fp4", columns=80, kind=kind) for kind in ("compressed", "modelopt")),
    *(case(formats.powers, f"mxfp{bits}", bits=bits) for bits in (4, 8)),
]


def opened(folder, tensors, config):
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"model_type": "none", "quantization_config": config}))
    return p.open_checkpoint(folder)


def decoded(device, weight):
    tokens = np.arange(weight.shape[0], dtype=np.uint32)
    return run(device, len(tokens), lambda pipe, tokens: pipe.embed(tokens, weight), tokens=tokens)


@pytest.mark.parametrize("packer, form, rows, columns, settings", CASES)
def test_values(device, tmp_path, packer, form, rows, columns, settings):
    tensors, config, expected = packer(np.random.default_rng(5), "w", rows, columns, **settings)
    with opened(tmp_path, tensors, config) as checkpoint:
        load = Loader(checkpoint, device)
        weight = as_weight(load.matrix("w", (rows, columns)), "w")
        assert weight.format == form and sum(load.repacked.values()) == 1
        np.testing.assert_array_equal(decoded(device, weight), expected.astype(np.float32))
        assert checkpoint.unused == ()


def test_a_shape_that_is_not_the_weights(processor, tmp_path):
    """compressed-tensors stores it beside the words, whose last ones may be filled up."""
    tensors, config, _ = formats.packed(np.random.default_rng(5), "w", 64, 256)
    tensors["w.weight_shape"] = "I64", np.array([64, 250])
    with opened(tmp_path, tensors, config) as checkpoint:
        with pytest.raises(
            CheckpointError, match="'w.weight_shape' says 64 × 250, but the weight is 64 × 256; download"
        ):
            Loader(checkpoint, processor).matrix("w", (64, 256))


@pytest.mark.parametrize("packer, form, rows, columns, settings", CASES)
def test_on_paper(processor, tmp_path, packer, form, rows, columns, settings):
    """The same format and bytes as with a device, before anything is read."""
    tensors, config, _ = packer(np.random.default_rng(5), "w", rows, columns, **settings)
    with opened(tmp_path, tensors, config) as checkpoint:
        load, paper = Loader(checkpoint, processor), Loader(checkpoint, Survey())
        assert as_weight(load.matrix("w", (rows, columns)), "w").format == form
        assert as_weight(paper.matrix("w", (rows, columns)), "w").format == form
        assert (load.mapped_bytes, load.repacked_bytes) == (paper.mapped_bytes, paper.repacked_bytes)


@pytest.mark.parametrize("packer", [formats.gptq, formats.packed])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_act_order(device, tmp_path, packer, dtype):
    """Groups that are no neighbours, of a weight whose step knows no order of columns: the numbers to which the tool
    rounds it."""
    settings = {"order": REVERSED, "group": 64, "dtype": dtype}
    settings |= {"sym": False} if packer is formats.gptq else {"symmetric": False}
    tensors, config, expected = packer(np.random.default_rng(6), "w", ROWS, 256, **settings)
    with opened(tmp_path, tensors, config) as checkpoint:
        weight = as_weight(Loader(checkpoint, device).matrix("w", (ROWS, 256)), "w")
        found = decoded(device, weight)
    if dtype == "F16":
        np.testing.assert_array_equal(found, expected.astype(np.float16).astype(np.float32))
    elif dtype == "F32":
        np.testing.assert_array_equal(found, expected.astype(np.float32))
    else:
        bits = formats.ref.bf16_bits(expected.astype(np.float32))
        np.testing.assert_array_equal(found, formats.ref.from_bf16(bits))


@pytest.mark.parametrize(
    "packer, settings",
    [
        (formats.gptq, {"sym": False}),
        (formats.gptq, {"order": REVERSED, "group": 64}),
        (formats.awq, {}),
        (formats.packed, {"symmetric": False}),
        (formats.signed, {}),
        (formats.fp8, {"kind": "block"}),
        (formats.nvfp4, {}),
        (formats.powers, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_experts_that_lie_apart(processor, tmp_path, packer, settings):
    rng, tensors, values = np.random.default_rng(7), {}, []
    for expert in range(3):
        more, config, expected = packer(rng, f"e.{expert}", 40, 256, **settings)
        tensors |= more
        values.append(expected)
    with opened(tmp_path, tensors, config) as checkpoint:
        load = Loader(checkpoint, processor)
        stack = as_weight(load.stacks([[f"e.{e}" for e in range(3)]], [(40, 256)])[0], "e")
        assert stack.shape == (3, 40, 256) and list(load.repacked.values()) == [3]
        x = np.random.default_rng(8).normal(size=(3, 256)).astype(np.float32)
        one = [as_weight(load.matrix(f"e.{e}", (40, 256)), "e") for e in range(3)]
        for part, whole in zip(stack.parts, zip(*(each.parts for each in one))):
            found = part.storage.read(processor).reshape(3, -1)
            np.testing.assert_array_equal(found, [each.storage.read(processor).reshape(-1) for each in whole])
        for weight, expected in zip(one, values):
            y = run(processor, 3, lambda pipe, x, weight=weight: pipe.linear(x, weight), x=x)
            size = np.abs(x) @ np.abs(expected.astype(np.float32)).T
            np.testing.assert_array_less(np.abs(y - x @ expected.T.astype(np.float32)), 1e-3 * size + 1e-30)


def test_zero_points_that_carry(processor, tmp_path):
    """GPTQModel takes 1 from each zero point of a word at once, so one of 0 borrows from its neighbour."""
    tensors, config, _ = formats.gptq(np.random.default_rng(9), "w", 8, 64, group=64, sym=False)
    zeros = np.array([0, 5, 0, 0, 15, 8, 1, 0])
    words = formats.words_of(zeros[None], 4).view("<u4") - np.uint32(0x11111111)
    tensors["w.qzeros"] = "I32", words.view("<i4")
    codes = tensors["w.qweight"][1].T.copy().view(np.uint8)
    codes = np.stack([codes & 15, codes >> 4], -1).reshape(8, 64)
    with opened(tmp_path, tensors, config) as checkpoint:
        found = decoded(processor, as_weight(Loader(checkpoint, processor).matrix("w", (8, 64)), "w"))
    scales = tensors["w.scales"][1].T.astype(np.float32)
    np.testing.assert_array_equal(found, (codes - zeros[:, None]) * scales)


def test_scales_that_are_too_large_for_their_biases(processor, tmp_path):
    """Eight times the largest half is no half: then scales and biases are in f32."""
    tensors, config, _ = formats.gptq(np.random.default_rng(9), "w", 8, 64, group=64)
    tensors["w.scales"] = "F16", np.full((1, 8), 60000, np.float16)
    with opened(tmp_path, tensors, config) as checkpoint:
        weight = as_weight(Loader(checkpoint, processor).matrix("w", (8, 64)), "w")
        assert weight.format == "q4_f32" and np.isfinite(decoded(processor, weight)).all()


@pytest.mark.parametrize(
    "packer", [formats.gptq, formats.awq, formats.packed, formats.signed, formats.fp8, formats.nvfp4]
)
def test_memory(processor, tmp_path, packer):
    """What loading takes beside the weights' own places is less than the largest tensor."""
    tensors, config, _ = packer(np.random.default_rng(3), "w", 4096, 1024)
    largest = max(array.nbytes for _, array in tensors.values())
    with opened(tmp_path, tensors, config) as checkpoint:
        tracemalloc.start()
        try:
            Loader(checkpoint, processor).matrix("w", (4096, 1024))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < largest


@pytest.mark.parametrize(
    "packer, change, message",
    [
        (formats.gptq, {"qzeros": None}, "has no tensor 'w.qzeros'"),
        (formats.gptq, {"scales": None}, "has no tensor 'w.scales'"),
        (formats.gptq, {"g_idx": ("I32", np.full(256, 9, np.int32))}, "'w.g_idx' names groups that are not among 2"),
        (formats.awq, {"scales": ("F16", np.zeros((3, 64), np.float16))}, "'w.scales' has shape"),
        (formats.packed, {"weight_scale": None}, "has no tensor 'w.weight_scale'"),
        (formats.packed, {"weight_scale": ("BF16", np.zeros((64, 3), np.uint16))}, "'w.weight_scale' has shape"),
        (formats.signed, {"weight_scale": None}, "has no tensor 'w.weight_scale'"),
        (formats.fp8, {"weight_scale_inv": None}, "has no tensor 'w.weight_scale_inv'"),
        (formats.nvfp4, {"weight_global_scale": None}, "has no tensor 'w.weight_global_scale'"),
        (formats.nvfp4, {"weight_scale": None}, "has no tensor 'w.weight_scale'"),
        (formats.powers, {"weight_scale": None}, "has no tensor 'w.weight_scale'"),
    ],
)
def test_what_is_missing_or_misshapen(processor, tmp_path, packer, change, message):
    tensors, config, _ = packer(np.random.default_rng(3), "w", 64, 256)
    for part, tensor in change.items():
        del tensors[f"w.{part}"]
        if tensor is not None:
            tensors[f"w.{part}"] = tensor
    with opened(tmp_path, tensors, config) as checkpoint, pytest.raises(CheckpointError, match=message):
        Loader(checkpoint, processor).matrix("w", (64, 256))


@pytest.mark.parametrize(
    "packer, columns, message",
    [
        (formats.gptq, 48, "rows of 48 integers, which do not fill whole words"),
        (formats.fp8, 40, "40 inputs in groups of 40 are not supported"),
        (formats.nvfp4, 24, "rows of 24, which are not whole groups of 16"),
        (formats.awq, 160, "160 inputs in groups of 80 are not supported"),
    ],
)
def test_sizes_that_no_kernel_reads(processor, tmp_path, packer, columns, message):
    settings = {formats.gptq: {"group": -1}, formats.awq: {"group": 80}}.get(packer, {})
    tensors, config, _ = packer(np.random.default_rng(3), "w", 64, 32 if columns == 24 else columns, **settings)
    with opened(tmp_path, tensors, config) as checkpoint, pytest.raises(UnsupportedError, match=message):
        Loader(checkpoint, processor).matrix("w", (64, columns))


def test_global_scale_of_mlx(device, tmp_path):
    """Of nvfp4: scales are shares of another one, which stands for the largest scale times the largest code."""
    tensors, _, _ = formats.nvfp4(np.random.default_rng(4), "w", 64, 96, kind="modelopt")
    pairs, blocks, factor = (tensors[f"w.{part}"][1] for part in ("weight", "weight_scale", "weight_scale_2"))
    stored = {"w.weight": ("U32", pairs.view("<u4")), "w.scales": ("U8", blocks), "w.global_scale": ("F32", factor)}
    codes = formats.E2M1[np.stack([pairs & 15, pairs >> 4], -1).reshape(64, 96)]
    with opened(tmp_path, stored, {"mode": "nvfp4"}) as checkpoint:
        weight = as_weight(Loader(checkpoint, device).matrix("w", (64, 96)), "w")
        assert weight.format == "fp4" and checkpoint.unused == ()
        scale = formats.e4m3(blocks) * (factor / np.float32(448 * 6))
        np.testing.assert_array_equal(decoded(device, weight), codes * np.repeat(scale, 16, -1))


@pytest.mark.parametrize("mode", ["affine", "mxfp4", "mxfp8", "nvfp4"])
def test_words_of_mlx_without_scales(processor, tmp_path, mode):
    stored = {"w.weight": ("U32", np.zeros((64, 8), np.uint32))}
    with opened(tmp_path, stored, {"mode": mode}) as checkpoint:
        with pytest.raises(CheckpointError, match="'w.weight' is quantised, and there is no 'w.scales'"):
            Loader(checkpoint, processor).matrix("w", (64, 64))


@pytest.mark.parametrize("part", ["qweight", "weight_packed"])
def test_words_of_which_nobody_tells(processor, tmp_path, part):
    write_safetensors(tmp_path / "model.safetensors", {f"w.{part}": ("I32", np.zeros((8, 8), np.int32))})
    (tmp_path / "config.json").write_text('{"model_type": "none"}')
    with p.open_checkpoint(tmp_path) as checkpoint:
        with pytest.raises(CheckpointError, match=f"says nothing of w.{part}; it needs the 'quantization_config'"):
            Loader(checkpoint, processor).matrix("w", (64, 64))


@pytest.mark.parametrize("packer, bits", [(formats.gptq, 2), (formats.gptq, 3), (formats.gptq, 4), (formats.packed, 8)])
def test_act_order_of_a_projection(device, tmp_path, packer, bits):
    """Columns are put where groups are neighbours, and the inputs of the step likewise."""
    rng = np.random.default_rng(6)
    groups = rng.permutation(np.arange(256) // 64)
    tensors, config, expected = packer(rng, "q_proj", ROWS, 256, bits=bits, group=64, order=groups)
    with opened(tmp_path, tensors, config) as checkpoint:
        load = Loader(checkpoint, device)
        stored = load.matrix("q_proj", (ROWS, 256))
        weight = as_weight(stored, "w")
        again = as_weight(load.matrix("q_proj", (ROWS, 256)), "w")
        assert weight.format.startswith(f"q{bits}_") and weight.order.storage is again.order.storage
        order = weight.order.storage.read(device)
        np.testing.assert_array_equal(order, np.argsort(groups, kind="stable"))
        np.testing.assert_array_equal(
            decoded(device, replace(weight, order=None)), expected[:, order].astype(np.float32)
        )
        with pytest.raises(BuildError, match="the columns of w have an order; only projections' may"):
            decoded(device, weight)
        x = rng.normal(size=(5, 256)).astype(np.float32)
        found = run(device, 5, lambda pipe, x: pipe.linear(x, weight), x=x)
        bound = 4 * DOT * np.abs(x) @ np.abs(expected).T + stored_activations(
            device, x[:, order], stored, expected[:, order]
        )
        assert_close(found, x.astype(np.float64) @ expected.T, bound)


def test_groups_of_several_sizes(processor, tmp_path):
    """Such a weight is decoded, since kernels have groups of one size."""
    groups = np.array([0] * 100 + [1] * 156)[::-1]
    tensors, config, expected = formats.gptq(np.random.default_rng(6), "q_proj", 8, 256, group=128, order=groups)
    with opened(tmp_path, tensors, config) as checkpoint:
        weight = as_weight(Loader(checkpoint, processor).matrix("q_proj", (8, 256)), "w")
        assert weight.format == "f16" and weight.order is None
        np.testing.assert_array_equal(decoded(processor, weight), expected.astype(np.float16))


@pytest.mark.parametrize("same", [True, False])
def test_steps_of_projections_with_orders(processor, tmp_path, same):
    """Query, key and value take one dispatch for the inputs where they share an order; gate and up do, too."""
    rng, values, weights = np.random.default_rng(6), {}, {}
    sizes = {"q_proj": (32, 64), "k_proj": (32, 64), "v_proj": (32, 64), "gate_proj": (96, 64), "up_proj": (96, 64)}
    sizes |= {"down_proj": (64, 96)}
    groups = rng.permutation(np.arange(64) // 32)
    for name, (rows, columns) in sizes.items():
        order = groups if same and columns == 64 else rng.permutation(np.arange(columns) // 32)
        tensors, config, values[name] = formats.gptq(rng, name, rows, columns, group=32, order=order)
        (tmp_path / name).mkdir()
        with opened(tmp_path / name, tensors, config) as checkpoint:
            load = Loader(checkpoint, processor)
            load.orders = weights.setdefault("orders", {})
            weights[name] = load.matrix(name, (rows, columns))
    x = rng.normal(size=(3, 64)).astype(np.float32)
    qkv = ("q_proj", "k_proj", "v_proj")

    def build(pipe, x):
        made = pipe.linear3(x, [weights[name] for name in qkv], qkv)
        found = (*made, pipe.mlp(x, *(weights[f"{part}_proj"] for part in ("gate", "up", "down"))))
        kernels = [dispatch.kernel for dispatch in pipe.dispatches]
        assert kernels.count("order_columns") == (2 if same else 6)
        return found

    found = run(processor, 3, build, x=x)
    gate, up = (x @ values[f"{part}_proj"].T for part in ("gate", "up"))
    expected = [x @ values[name].T for name in qkv]
    expected.append(gate / (1 + np.exp(-gate)) * up @ values["down_proj"].T)
    for y, right in zip(found, expected, strict=True):
        assert np.abs(y - right).max() < 1e-3 * np.abs(right).max()


@pytest.mark.parametrize("packer, form, rows, columns, settings", CASES)
def test_shapes_of_what_is_packed(tmp_path, packer, form, rows, columns, settings):
    tensors, config, _ = packer(np.random.default_rng(5), "w", rows, columns, **settings)
    others = {"norm.weight": ("F32", np.zeros(3, np.float32)), "lm_head.weight": ("BF16", np.zeros((2, 2), np.uint16))}
    with opened(tmp_path, others | tensors, config) as checkpoint:
        (found,) = checkpoint.packed_weights()
    assert (found.module, found.shape) == ("w", (rows, columns))
    assert set(found.parts) == {name for name in tensors if not name.endswith("activation_scale")}


@pytest.mark.parametrize("part", ["_scale_inv", "_scale"])
@pytest.mark.parametrize("blocks", [True, False])
def test_fp8_experts_in_one_stack(processor, tmp_path, part, blocks):
    """As transformers stores them: names without a suffix, and a block's or an expert's scale."""
    rng, config = np.random.default_rng(4), formats.FP8_CONFIGS["block" if blocks else "tensor"]
    codes = formats.eight(rng, 3 * 130, 256).reshape(3, 130, 256)
    grid = (3, 2, 2) if blocks else (3, 1, 1)
    (dtype, scales), values = formats.scales_of(rng, grid, "F32")
    name = "mlp.experts.gate_up_proj"
    with opened(tmp_path, {name: ("F8_E4M3", codes), f"{name}{part}": (dtype, scales)}, config) as checkpoint:
        stack = as_weight(Loader(checkpoint, processor).matrix(name, (3, 130, 256)), "w")
        assert stack.format == "fp8" and stack.shape == (3, 130, 256) and checkpoint.unused == ()
        found = stack.parts[1].storage.read(processor).reshape(3, 130, 2)
    of = np.arange(130) // 128
    np.testing.assert_array_equal(found, values[:, of] if blocks else np.broadcast_to(values, (3, 130, 2)))


def test_a_stack_whose_name_has_no_suffix_lists_its_own_tensor_first():
    names = ("m.experts.up", "m.experts.up_scale_inv")
    tensors = {name: TensorInfo(name, "F8_E4M3", (4, 256, 128), Path(), 0, 0) for name in names}
    assert PackedWeight.of("m.experts.up", EIGHT, tensors).parts == names


def test_an_empty_path_is_no_model():
    with pytest.raises(UsageError, match="the model's path is empty"):
        model_path("")
