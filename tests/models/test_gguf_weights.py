"""Models whose weights are GGUF's blocks: each type as a matrix, a stack of experts and an embedding, mapped as it
lies."""

import mmap

import numpy as np
import pytest
from support import gguf_files as files
from support.stored_formats import decode, random_blocks

import pipeline as p
from pipeline.errors import CheckpointError, UnsupportedError
from pipeline.graph.formats import BLOCKS

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, EXPERTS, EXPERT_HIDDEN, VOCAB = 256, 4, 2, 64, 3, 256, 70
KINDS = tuple(BLOCKS)
# Of the largest logit: native kernels and tensor cores make integers of 16 bits of activations. Over 65 models of other
# random weights, of one type and of all, it was 2.9e-4 at most, and no type stood out.
ROUNDED = 5e-4

METADATA = {"general.architecture": "qwen3moe"} | {
    f"qwen3moe.{key}": value
    for key, value in {
        "block_count": len(KINDS),
        "context_length": 64,
        "embedding_length": HIDDEN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD_DIM,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "expert_count": EXPERTS,
        "expert_used_count": EXPERTS,  # all, so that rounding turns no tie between them
        "expert_feed_forward_length": EXPERT_HIDDEN,
        "rope.freq_base": 1e4,
    }.items()
}


def shapes(kinds):
    """(name, shape, kind) of every tensor; layer i stores its matrices as kinds[i]."""
    yield "token_embd", (VOCAB, HIDDEN), kinds[-1]
    yield "output", (VOCAB, HIDDEN), kinds[0]
    yield "output_norm", (HIDDEN,), None
    for i, kind in enumerate(kinds):
        for name, rows in (
            ("attn_q", HEADS * HEAD_DIM),
            ("attn_k", KV_HEADS * HEAD_DIM),
            ("attn_v", KV_HEADS * HEAD_DIM),
        ):
            yield f"blk.{i}.{name}", (rows, HIDDEN), kind
        yield f"blk.{i}.attn_output", (HIDDEN, HEADS * HEAD_DIM), kind
        yield f"blk.{i}.ffn_gate_inp", (EXPERTS, HIDDEN), None
        for name in ("gate", "up"):
            yield f"blk.{i}.ffn_{name}_exps", (EXPERTS, EXPERT_HIDDEN, HIDDEN), kind
        yield f"blk.{i}.ffn_down_exps", (EXPERTS, HIDDEN, EXPERT_HIDDEN), kind
        for name, size in (
            ("attn_norm", HIDDEN),
            ("ffn_norm", HIDDEN),
            ("attn_q_norm", HEAD_DIM),
            ("attn_k_norm", HEAD_DIM),
        ):
            yield f"blk.{i}.{name}", (size,), None


def write(file, dense):
    """Random weights, to a file as their types say, and to another as float32."""
    write_both(np.random.default_rng(9), METADATA, shapes(KINDS), file, dense)


def write_both(rng, metadata, described, file, dense):
    tensors, data, floats, plain = [], [], [], []
    for name, shape, kind in described:
        if kind is None:
            values = (rng.normal(size=shape) / (8 if len(shape) > 1 else 4) + (len(shape) == 1)).astype(np.float32)
            raw = values.tobytes()
        else:
            blocks = random_blocks(rng, shape, kind, -4)
            values, raw = decode(blocks, kind), blocks.tobytes()
        tensors.append((f"{name}.weight", shape[::-1], 0 if kind is None else files.TYPES[kind]))
        floats.append((f"{name}.weight", shape[::-1], 0))
        data += raw, bytes(-len(raw) % 32)
        plain += values.tobytes(), bytes(-values.nbytes % 32)
    file.write_bytes(files.gguf(metadata, tensors, b"".join(data)))
    dense.write_bytes(files.gguf(metadata, floats, b"".join(plain)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")
    write(folder / "blocks.gguf", folder / "floats.gguf")
    return folder / "blocks.gguf"


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_logits_are_those_of_the_decoded_weights(processor, model, rows):
    tokens = np.random.default_rng(1).integers(0, VOCAB, 12).tolist()
    with p.open_checkpoint(model) as checkpoint, p.open_checkpoint(model.with_name("floats.gguf")) as decoded:
        found = p.load_model(checkpoint, device=processor).logits(tokens, rows, "f32")
        expected = p.load_model(decoded, device=processor).logits(tokens, rows, "f32")
    if processor.name == "cpu" and processor.threads == 1:  # the shaders alone: a decoded weight is the same number
        assert found.tobytes() == expected.tobytes()
    else:
        assert np.abs(found - expected).max() <= ROUNDED * np.abs(expected).max()


def test_nothing_is_copied_or_left_over(processor, model):
    with p.open_checkpoint(model) as checkpoint:
        loaded = p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == () and loaded.repacked_bytes == 0
        assert loaded.mapped_bytes == sum(info.nbytes for info in checkpoint.tensors.values())


def broken(tmp_path, name, shape, number, size):
    """A model whose tensor `name` has another shape or type, its data zeros."""
    tensors = [
        (f"{n}.weight", (s if n != name else shape)[::-1], 0 if n != name else number) for n, s, _ in shapes(KINDS)
    ]
    files.BLOCKS.setdefault(number, size)
    file = tmp_path / "broken.gguf"
    total = sum(-(-files.nbytes(extents, kind) // 32) * 32 for _, extents, kind in tensors)
    file.write_bytes(files.gguf(METADATA, tensors, bytes(total)))
    return p.open_checkpoint(file)


def test_a_type_that_no_kernel_reads_is_named(tmp_path):
    with broken(tmp_path, "blk.3.attn_v", (KV_HEADS * HEAD_DIM, HIDDEN), 15, (256, 292)) as checkpoint:
        with pytest.raises(UnsupportedError) as caught:
            p.load_model(checkpoint)
    message = str(caught.value)
    assert "'model.layers.3.self_attn.v_proj.weight' is Q8_K" in message and "Q4_K" in message and "\n" not in message


def nvfp4_file(file, rng, kind="NVFP4"):
    """A model whose layer's matrices are NVFP4 with a scale each, per expert where there are some; and the same one
    decoded, in float32."""
    tensors, data, floats, plain = [], [], [], []

    def add(to, bytes_of, name, shape, type_, raw):
        to.append((name, shape[::-1], type_))
        bytes_of += raw, bytes(-len(raw) % 32)

    for name, shape, own in shapes([kind]):
        if own is None or "blk" not in name:
            values = (rng.normal(size=shape) / (8 if len(shape) > 1 else 4) + (len(shape) == 1)).astype(np.float32)
            add(tensors, data, f"{name}.weight", shape, 0, values.tobytes())
        else:
            blocks = random_blocks(rng, shape, kind, -4)
            scale = rng.uniform(0.5, 2, shape[:-2] or (1,)).astype(np.float32)
            add(tensors, data, f"{name}.weight", shape, files.TYPES[kind], blocks.tobytes())
            add(tensors, data, f"{name}.input_scale", scale.shape, 0, scale.tobytes())
            add(tensors, data, f"{name}.scale", scale.shape, 0, scale.tobytes())
            values = (decode(blocks, kind).reshape(-1, *shape[-2:]) * scale[:, None, None]).reshape(shape)
        add(floats, plain, f"{name}.weight", shape, 0, values.astype(np.float32).tobytes())
    metadata = METADATA | {"qwen3moe.block_count": 1}
    file.write_bytes(files.gguf(metadata, tensors, b"".join(data)))
    file.with_name("floats.gguf").write_bytes(files.gguf(metadata, floats, b"".join(plain)))


def test_nvfp4_with_scales_of_tensors_is_repacked(processor, tmp_path):
    """As converted files of ModelOpt have it; each number is its code times its scale times the tensor's."""
    file, rng = tmp_path / "scaled.gguf", np.random.default_rng(12)
    nvfp4_file(file, rng)
    tokens = rng.integers(0, VOCAB, 9).tolist()
    with p.open_checkpoint(file) as checkpoint, p.open_checkpoint(tmp_path / "floats.gguf") as decoded:
        loaded = p.load_model(checkpoint, device=processor)
        weights = sum(info.nbytes for info in checkpoint.tensors.values() if info.dtype == "NVFP4")
        assert loaded.repacked_bytes == weights // 36 * 48 and checkpoint.unused == ()
        assert any("GGUF's NVFP4 with scales of tensors, fp4" in note for note in loaded.notes)
        found = loaded.logits(tokens, 4, "f32")
        expected = p.load_model(decoded, device=processor).logits(tokens, 4, "f32")
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_scale_beside_other_blocks_is_named(tmp_path):
    nvfp4_file(tmp_path / "scaled.gguf", np.random.default_rng(13), "Q8_0")
    with p.open_checkpoint(tmp_path / "scaled.gguf") as checkpoint, pytest.raises(UnsupportedError) as caught:
        p.load_model(checkpoint)
    assert "q_proj.weight' (Q8_0) has a scale of its own, 'model.layers.0.self_attn.q_proj.scale'" in str(caught.value)


def test_experts_of_another_shape_are_named(tmp_path):
    with broken(tmp_path, "blk.1.ffn_up_exps", (EXPERTS, EXPERT_HIDDEN, 128), 8, (32, 34)) as checkpoint:
        with pytest.raises(
            CheckpointError, match=r"model.layers.1.mlp.switch_mlp.up_proj.weight.* has shape \[3, 256, 128\]"
        ):
            p.load_model(checkpoint)


def test_experts_that_lie_apart_may_differ_in_format(processor, tmp_path):
    """A mixture as its first files had it, each expert's matrices in types of their own: mixed, not refused."""
    rng = np.random.default_rng(11)
    kinds = ("Q4_K", "IQ3_S", "NVFP4")
    apart = [
        (f"blk.0.ffn_{name}.{expert}", (EXPERT_HIDDEN, HIDDEN), kinds[(expert + (name == "down")) % 3])
        for name in ("gate", "up", "down")
        for expert in range(EXPERTS)
    ]
    whole = [entry for entry in shapes(["Q8_0"]) if "exps" not in entry[0] and "_norm" not in entry[0][5:]]
    norms = [("output_norm", (HIDDEN,), None)] + [(f"blk.0.{name}_norm", (HIDDEN,), None) for name in ("attn", "ffn")]
    metadata = files.llama(
        1,
        **{
            "llama.embedding_length": HIDDEN,
            "llama.feed_forward_length": EXPERT_HIDDEN,
            "llama.expert_count": EXPERTS,
            "llama.expert_used_count": 2,
        },
    )
    write_both(rng, metadata, (*whole, *norms, *apart), tmp_path / "mixed.gguf", tmp_path / "floats.gguf")
    tokens = rng.integers(0, VOCAB, 9).tolist()
    with p.open_checkpoint(tmp_path / "mixed.gguf") as mixed, p.open_checkpoint(tmp_path / "floats.gguf") as decoded:
        loaded = p.load_model(mixed, device=processor)
        found, expected = (
            model.logits(tokens, 4, "f32") for model in (loaded, p.load_model(decoded, device=processor))
        )
        assert mixed.unused == ()
    if processor.name == "cpu" and processor.threads == 1:
        assert found.tobytes() == expected.tobytes()
    else:
        assert np.abs(found - expected).max() <= ROUNDED * np.abs(expected).max()


def test_a_stack_stored_one_by_one_is_put_together(processor):
    """Blocks of experts that lie apart are copied, and counted."""
    from pipeline.models.loading import Loader

    class Apart:
        path = source = "apart"

        def __init__(self):
            rng = np.random.default_rng(3)
            self.data = {f"e.{i}.weight": random_blocks(rng, (4, 64), "Q5_1") for i in range(3)}
            self.begins, self.map = {}, mmap.mmap(-1, mmap.PAGESIZE)
            for i, (name, blocks) in enumerate(self.data.items()):
                self.begins[name] = 1000 * i
                self.map[1000 * i : 1000 * i + blocks.nbytes] = blocks.tobytes()
            self.tensors = {name: self.tensor(name) for name in self.data}

        def quantization(self, module):
            return None

        def packing(self, module):
            return None

        def tensor(self, name):
            from pipeline.checkpoints.tensor_info import TensorInfo

            return TensorInfo(name, "Q5_1", (4, 64), "apart", self.begins[name], self.data[name].nbytes)

        def raw(self, name):
            return self.data[name].reshape(-1)

        def mapped(self, file):
            return self.map

        def borders(self, file):
            return tuple(self.begins.values())

    apart = Apart()
    load = Loader(apart, processor)
    (stack,) = load.stacks([[f"e.{i}" for i in range(3)]], [(4, 64)])
    assert stack.type == "Q5_1" and load.repacked_bytes == 3 * 4 * 48 and load.mapped_bytes == 0
    np.testing.assert_array_equal(stack.data.read(processor), np.stack(list(apart.data.values())))
