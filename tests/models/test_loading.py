"""Weights taken from a checkpoint: fused matrices as views, what must be copied, what is refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from support import reference as ref
from support import stored_formats
from support.converting.sources import write_safetensors
from support.kernels import DOT, activations, assert_close, matrix, run, stored_activations

import pipeline as p
from pipeline.benching import gguf_tensors
from pipeline.errors import CheckpointError, ShapeError, UnsupportedError
from pipeline.graph.formats import AFFINE_BITS
from pipeline.graph.tensors import Storage
from pipeline.graph.weights import as_weight, split_rows
from pipeline.models.loading import Loader
from pipeline.models.survey import Survey

# Views are not about kernels.
pytestmark = pytest.mark.one_processor
TWO_DIMENSIONS = (
    ("f32", 0),
    ("bf16", 0),
    ("q4_bf16", 64),
    ("q3_f32", 64),
    ("mxfp4", 32),
    ("gguf_q8_0", 32),
    ("gguf_q4_k", 256),
)


@pytest.mark.parametrize("format, group", TWO_DIMENSIONS)
def test_halves_of_a_matrix(device, format, group):
    rng = np.random.default_rng(1)
    weight, values = matrix(rng, (50, 256), format, group)
    x = activations(rng, 3, 256)
    first = 0
    for part in split_rows(as_weight(weight, "qkv"), (17, 1, 32)):
        rows = values[first : first + part.shape[0]]
        y = run(device, 3, lambda pipe, x, part=part: pipe.linear(x, part), x=x)
        bound = 4 * DOT * np.abs(x) @ np.abs(rows).T + stored_activations(device, x, weight, rows)
        assert_close(y, x.astype(np.float64) @ rows.T, bound)
        first += part.shape[0]


def test_views_know_where_they_lie():
    whole = Storage.zeros((3, 10, 32), "f16")
    gate, up = split_rows(as_weight(whole, "w"), (5, 5))
    assert gate.shape == up.shape == (3, 5, 32) and gate.expert_rows == up.expert_rows == 10 and gate.row_step == 1
    assert [part.storage.extent()[1:] for part in (*gate.parts, *up.parts)] == [(0, 25 * 64), (5 * 64, 30 * 64)]
    gate, up = split_rows(as_weight(whole, "w"), (5, 5), interleaved=True)
    assert gate.row_step == up.row_step == 2
    assert [part.storage.extent()[1:] for part in (*gate.parts, *up.parts)] == [(0, 29 * 64), (64, 30 * 64)]
    assert gate.parts[0].storage.extent()[0] is whole


@pytest.mark.parametrize("sizes, interleaved", [((5, 4), False), ((5, 6), False), ((4, 6), True), ((), False)])
def test_parts_that_do_not_add_up(sizes, interleaved):
    with pytest.raises(ShapeError, match="w: 10 outputs cannot be split into"):
        split_rows(as_weight(np.zeros((10, 8), np.float32), "w"), sizes, interleaved=interleaved)


@pytest.fixture
def loader(tmp_path, processor):
    """Writes tensors and a configuration, and gives a loader of them."""

    def open_(tensors, **config):
        save_file(tensors, str(tmp_path / "model.safetensors"))
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "none"} | config))
        return Loader(p.open_checkpoint(tmp_path), processor)

    return open_


def values_of(weight, device):
    """Rows of a weight of plain elements, experts in front."""
    stored = weight.parts[0].storage.read(device).astype(np.float64)
    rows = [
        e * (weight.expert_rows or weight.shape[-2]) + o * weight.row_step
        for e in range(max(1, int(np.prod(weight.shape[:-2]))))
        for o in range(weight.shape[-2])
    ]
    return stored[rows].reshape(weight.shape)


@pytest.mark.parametrize("interleaved", [False, True])
def test_fused_experts_are_views(loader, processor, interleaved):
    fused = np.arange(2 * 6 * 8, dtype=np.float32).reshape(2, 6, 8)
    load = loader({"experts.gate_up_proj": fused})
    gate, up = load.split("experts.gate_up_proj", (2, 6, 8), (3, 3), interleaved=interleaved)
    expected = (fused[:, ::2], fused[:, 1::2]) if interleaved else (fused[:, :3], fused[:, 3:])
    for weight, values in zip((gate, up), expected):
        np.testing.assert_array_equal(values_of(weight, processor), values)
    assert (load.mapped_bytes, load.repacked_bytes) == (fused.nbytes, 0)


def test_a_transposed_stack_is_copied(loader, processor):
    stored = np.arange(2 * 8 * 6, dtype=np.float16).reshape(2, 8, 6)
    load = loader({"experts.gate_up_proj": stored})
    gate, up = load.split("experts.gate_up_proj", (2, 6, 8), (3, 3), interleaved=True, transposed=True)
    turned = stored.swapaxes(1, 2)
    np.testing.assert_array_equal(values_of(gate, processor), turned[:, ::2])
    np.testing.assert_array_equal(values_of(up, processor), turned[:, 1::2])
    assert (load.mapped_bytes, load.repacked_bytes) == (0, stored.nbytes)


def test_biases_are_taken_apart(loader, processor):
    stored = np.arange(12, dtype=np.float32).reshape(2, 6)
    load = loader({"b": stored})
    for interleaved, expected in ((False, (stored[:, :2], stored[:, 2:])), (True, (stored[:, ::2], stored[:, 1::2]))):
        sizes = (3, 3) if interleaved else (2, 4)
        for part, values in zip(load.split_array("b", (2, 6), sizes, interleaved=interleaved), expected, strict=True):
            np.testing.assert_array_equal(part.read(processor), values)


def test_mxfp4(loader, processor):
    rng = np.random.default_rng(2)
    words, scales = rng.integers(0, 2**32, (6, 8), np.uint32), rng.integers(100, 140, (6, 2)).astype(np.uint8)
    load = loader({"w.weight": words, "w.scales": scales}, quantization={"bits": 4, "group_size": 32, "mode": "mxfp4"})
    weight = as_weight(load.matrix("w", (6, 64)), "w")
    assert weight.format == "mxfp4" and weight.nbytes == words.nbytes + scales.nbytes == load.mapped_bytes


def test_scales_of_mxfp4_are_bytes(loader):
    load = loader(
        {"w.weight": np.zeros((6, 8), np.uint32), "w.scales": np.zeros((6, 2), np.float16)},
        quantization={"bits": 4, "group_size": 32, "mode": "mxfp4"},
    )
    with pytest.raises(UnsupportedError, match="'w.scales' is F16, which is not supported there; supported: U8"):
        load.matrix("w", (6, 64))


def fp8(rng, tensors, name, outputs, inputs):
    """Adds a matrix of eight bits to `tensors`, and gives its values."""
    codes = rng.integers(0, 256, (outputs, inputs)).astype(np.uint8)
    scales = np.ldexp(rng.integers(1, 2**24, (-(-outputs // 128), inputs // 128)).astype(np.float32), -30)
    tensors[f"{name}.weight"], tensors[f"{name}.weight_scale_inv"] = ("F8_E4M3", codes), ("F32", scales)
    spread = np.repeat(np.repeat(scales, 128, 0)[:outputs], 128, 1)
    return stored_formats.e4m3(codes) * spread


def test_fp8_with_a_scale_per_block(tmp_path, processor):
    """Of matrices whose rows are no whole blocks, and of experts that lie apart; NaN among them."""
    rng, tensors = np.random.default_rng(3), {}
    values = [fp8(rng, tensors, name, 130, 256) for name in ("w", "e.0", "e.1")]
    write_safetensors(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text('{"model_type": "none"}')
    load = Loader(p.open_checkpoint(tmp_path), processor)
    weight = as_weight(load.matrix("w", (130, 256)), "w")
    assert weight.format == "fp8" and (load.mapped_bytes, load.repacked_bytes) == (130 * 256, 130 * 2 * 4)
    stack = as_weight(load.stacks([["e.0", "e.1"]], [(130, 256)])[0], "e")
    assert load.repacked_bytes == 130 * (256 + 3 * 2 * 4 + 256)
    tokens = np.arange(130, dtype=np.uint32)
    found = run(processor, 130, lambda pipe, tokens: pipe.embed(tokens, weight), tokens=tokens)
    np.testing.assert_array_equal(found, values[0])
    assert [part.storage.shape for part in stack.parts] == [(2, 130, 64), (2, 130, 2), (2, 130, 2)]
    scales = stack.parts[1].storage.read(processor)
    for i in range(2):
        expected = np.repeat(tensors[f"e.{i}.weight_scale_inv"][1], 128, 0)[:130]
        np.testing.assert_array_equal(np.asarray(scales).reshape(2, 130, 2)[i], expected)


@pytest.mark.parametrize("left_out", [False, True])
def test_fp8_that_does_not_fit(tmp_path, processor, left_out):
    """One scale for 192 inputs, where nobody says that blocks are not of 128."""
    tensors = {"w.weight": ("F8_E4M3", np.zeros((4, 192), np.uint8))}
    if not left_out:
        tensors["w.weight_scale_inv"] = "F32", np.ones((1, 1), np.float32)
    write_safetensors(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text('{"model_type": "none"}')
    message = (
        "has no tensor 'w.weight_scale_inv'"
        if left_out
        else r"'w.weight_scale_inv' has shape \[1, 1\], the config says \[1, 2\]"
    )
    with pytest.raises(CheckpointError, match=message):
        Loader(p.open_checkpoint(tmp_path), processor).matrix("w", (4, 192))


@pytest.mark.parametrize("bits", [3, 6])
def test_words_that_do_not_fit_their_bits(loader, bits):
    tensors = {
        "w.weight": np.zeros((6, 8), np.uint32),
        "w.scales": np.zeros((6, 1), np.float32),
        "w.biases": np.zeros((6, 1), np.float32),
    }
    load = loader(tensors, quantization={"bits": bits, "group_size": 64})
    with pytest.raises(CheckpointError, match=rf"'w.weight' has shape \[6, 8\], the config says \[6, {2 * bits}\]"):
        load.matrix("w", (6, 64))


def test_inputs_that_are_not_whole_groups(loader):
    tensors = {
        "w.weight": np.zeros((6, 12), np.uint32),
        "w.scales": np.zeros((6, 1), np.float32),
        "w.biases": np.zeros((6, 1), np.float32),
    }
    with pytest.raises(CheckpointError, match="w: 96 inputs are not whole groups of 64"):
        loader(tensors, quantization={"bits": 4, "group_size": 64}).matrix("w", (6, 96))


def test_a_quantised_matrix_cannot_be_turned(loader):
    tensors = {
        "w.weight": np.zeros((6, 8), np.uint32),
        "w.scales": np.zeros((6, 1), np.float32),
        "w.biases": np.zeros((6, 1), np.float32),
    }
    with pytest.raises(UnsupportedError, match="w is quantised as"):
        loader(tensors, quantization={"bits": 4, "group_size": 64}).transposed("w", (64, 6))


def test_a_survey_copies_nothing(loader, tmp_path):
    loader({"g": np.zeros((2, 8, 6), np.float32), "b": np.zeros((2, 6), np.float32)})
    survey = Survey()
    load = Loader(p.open_checkpoint(tmp_path), survey)
    load.split("g", (2, 6, 8), (3, 3), transposed=True)
    load.split_array("b", (2, 6), (3, 3))
    assert load.repacked_bytes == 2 * 8 * 6 * 4 + 2 * 6 * 4 and not survey.problems
    load.split("absent", (2, 6, 8), (3, 3))
    assert "absent" in str(survey.problems[0])


@pytest.mark.parametrize("bits", AFFINE_BITS)
def test_values_that_are_written_as_gguf(loader, bits):
    made = p.quantize(np.random.default_rng(bits).normal(size=(5, 128)), bits, 64)
    tensors = {"w.weight": made.weight, "w.scales": made.scales, "w.biases": made.biases}
    checkpoint = loader(tensors, quantization={"bits": bits, "group_size": 64}).checkpoint
    expected = ref.dequantize(made.weight, made.scales, made.biases, bits, 64)
    np.testing.assert_allclose(gguf_tensors.values(checkpoint, "w"), expected, rtol=0, atol=2.0**-20)
