"""Active bytes of every family, against counts that are made of names, shapes and configurations alone."""

import math
import re
from dataclasses import replace

import pytest
from support.axes import axis, each
from support.families import golden
from support.families.cases import CASES
from support.families.gguf_layout import ARCHITECTURES
from support.families.stored import stored

import pipeline as p
from pipeline.benching.traffic import mean_positions, traffic
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.inspecting.facts import active

EXPERT = re.compile(r"\.(switch_mlp|experts)\.|\.block_sparse_moe\.(in|out)put_linear\.")
# Vectors and taps of recurrent layers, which the kernels take in float32, whatever the file has.
WIDENED = re.compile(r"\.conv(1d)?\.(weight|bias)$|\.(A_log|dt_bias|D)$|\.(linear_attn|mamba|mixer)\.norm\.weight$")
STORED = [
    (name, kind)
    for name in CASES
    for kind in ("bf16", "mlx", "Q8_0", "Q4_K")
    if name in ARCHITECTURES or kind[0] != "Q"
]
# Two files per family in a daily run: transformers' names or MLX's, and one of GGUF's formats.
DAILY = [
    (name, kind)
    for i, name in enumerate(CASES)
    for kind in (("bf16", "Q8_0"), ("mlx", "Q4_K"))[i % 2]
    if (name, kind) in STORED
]


def counted(path):
    """(Traffic, checkpoint) of a model."""
    with p.open_checkpoint(path) as checkpoint:
        return traffic(p.load_model(checkpoint)), checkpoint


@each("stored_as", axis(STORED, daily=DAILY))
def test_every_family(stored_as, tmp_path):
    """All tensors but the experts, of which a share, and the embedding, of which a row, unless it is the head, too."""
    name, kind = stored_as
    found, checkpoint = counted(stored(name, kind, tmp_path))
    config, shared, experts, row, widened = golden.load(name)[0]["config"], 0, 0, 0, 0
    count = next((config[key] for key in ("num_experts", "num_local_experts", "n_routed_experts") if key in config), 0)
    for tensor, info in checkpoint.tensors.items():
        if EXPERT.search(tensor):
            experts += info.nbytes
        elif tensor.startswith("model.embed_tokens."):
            row += info.nbytes / config["vocab_size"]
            shared += info.nbytes * config["tie_word_embeddings"]
        elif tensor != "rope_freqs.weight":
            widened += 4 * math.prod(info.shape) - info.nbytes if WIDENED.search(tensor) else 0
            shared += info.nbytes
    assert (found.shared, found.row, found.experts) == (shared + widened, row, count)
    assert found.top_k == (config.get("num_experts_per_tok") or config.get("top_k_experts") or 0)
    assert found.expert == (experts / count if count else 0) and bool(experts) == bool(count)
    weights = found.per_token(1, 0) - found.state - widened
    assert weights == pytest.approx(active(checkpoint)["weight_bytes"], abs=row + 1)


def test_a_shape(tiny_folder):
    with p.open_checkpoint(tiny_folder) as checkpoint:
        found, single = (traffic(p.load_model(checkpoint), kv_cache) for kv_cache in ("f16", "f32"))
    # Attention: q 128 → 256, k and v 128 → 128, o 256 → 128; head 256 · 128; 4.5 bits each. Router 8 · 128 at 8.5 bits.
    assert found.shared == (3 * 128 * 256 + 256 * 128) * 4.5 / 8 + 8 * 128 * 8.5 / 8 + (3 * 128 + 2 * 64) * 2
    assert found.expert == 3 * 128 * 64 * 4.5 / 8
    assert found.row == 128 * 4.5 / 8
    assert found.position == 2 * 2 * 64 * 2  # keys and values, 2 heads of 64, f16
    assert single.position == 2 * found.position and replace(single, windows=found.windows) == found
    assert (found.experts, found.top_k) == (8, 2)
    assert found.per_token(1, 10 * found.position) == found.shared + 2 * found.expert + found.row + 10 * found.position


def test_the_storyteller():
    """Tied: the embedding is the head, too."""
    found, _ = counted(builtin_model())
    attention = 256 * 256 * 2 + 2 * 256 * 128
    norms = 2 * 256 + 2 * 32
    assert found.shared == (8 * attention + 4096 * 256) * 4.5 / 8 + 8 * (16 * 256 * 8.5 / 8 + norms * 2) + 256 * 2
    assert found.expert == 8 * 3 * 256 * 128 * 4.5 / 8
    assert found.row == 256 * 4.5 / 8


def test_dense_and_tied(tmp_path):
    """Qwen2: 6 heads of 128, 3 of keys and values, with biases; bf16."""
    found, _ = counted(stored("qwen2", "bf16", tmp_path))
    layer = (2 * 768 + 2 * 384) * 768 + 768 + 2 * 384 + 3 * 288 * 768 + 2 * 768
    assert found.shared == 2 * (5 * layer + 768 + 61 * 768) and found.row == 2 * 768
    assert (found.expert, found.experts, found.top_k, found.distinct_experts(3)) == (0, 0, 0, 0)
    assert found.position == 5 * 2 * 3 * 128 * 2
    assert found.per_token(4, 100) == found.shared / 4 + found.row + 100


def test_experts_one_by_one(tmp_path):
    """Mixtral: 6 heads of 32, 3 of keys and values; 2 of 6 experts; bf16, each expert's matrices apart."""
    found, _ = counted(stored("mixtral", "bf16", tmp_path))
    layer = (2 * 192 + 2 * 96) * 256 + 6 * 256 + 2 * 256
    assert found.shared == 2 * (5 * layer + 256 + 61 * 256)
    assert found.expert == 2 * 5 * 3 * 256 * 256 and (found.experts, found.top_k) == (6, 2)
    assert found.per_token(1, 0) == pytest.approx(found.shared + 2 * found.expert + 2 * 256)


def test_leading_dense_layers_and_shared_experts(tmp_path):
    """GLM-4-MoE: one dense layer of 288, then 6 experts and one that every token takes, of 256; blocks of Q8_0, 8.5
    bits; biases, norms, the router and its correction F32."""
    found, _ = counted(stored("glm4_moe", "Q8_0", tmp_path))
    attention, mlp, shared = (2 * 192 + 2 * 96) * 256, 3 * 288 * 256, 3 * 256 * 256
    vectors = 5 * (192 + 2 * 96 + 2 * 256 + 2 * 32) + 256 + 4 * (6 * 256 + 6)
    assert found.shared == (5 * attention + mlp + 4 * shared + 61 * 256) * 8.5 / 8 + 4 * vectors
    assert found.expert == 4 * 3 * 256 * 256 * 8.5 / 8  # in four layers
    assert found.position == 5 * 2 * 3 * 32 * 2


def test_one_compressed_row_of_keys_and_values(tmp_path):
    """DeepSeek-V3: 64 numbers, from which both come, and 16 that turn."""
    found, _ = counted(stored("deepseek_v3", "mlx", tmp_path))
    assert found.windows == {0: 5 * (64 + 16) * 2}


def test_windows(tmp_path):
    """Gemma 3: three layers of five see 8 positions."""
    found, _ = counted(stored("gemma3_text", "bf16", tmp_path))
    position = 2 * 3 * 32 * 2
    assert found.windows == {0: 2 * position, 8: 3 * position} and found.position == 5 * position
    for context, tokens in ((0, 4), (5, 6), (8, 2), (100, 3)):
        read = [2 * place + 3 * min(place, 8) for place in range(context + 1, context + tokens + 1)]
        assert found.cache(context, tokens) == pytest.approx(position * sum(read) / tokens)


def test_positions_read():
    """Three tokens after 10 read 11, 12 and 13 positions, or 11, 12 and 12 where a window has no more."""
    assert mean_positions(10, 3) == 12
    assert mean_positions(10, 3, 12) == pytest.approx(35 / 3)
    assert mean_positions(10, 3, 2) == 2
