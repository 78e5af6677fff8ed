"""Every family against transformers: logits at all positions, greedy texts; as safetensors, MLX 4-bit and GGUF."""

import functools
import json
from collections import Counter

import numpy as np
import pytest
from support.axes import axis, each
from support.families import files, golden
from support.families.cases import CASES
from support.families.gguf_layout import ARCHITECTURES
from support.families.grid import tokens
from support.families.layouts import write_blocks, write_mlx
from support.families.stored import stored
from support.processors import PROCESSORS

import pipeline as p
from pipeline.errors import CheckpointError, OnebufError, UnsupportedError
from pipeline.generation.generator import Generator
from pipeline.generation.requests import Finished, Request

# Of logits of deviation 1 to 2. In f32 rounding leaves a fiftieth of it; a wrong term, rope or scale is a thousand
# times as much.
BOUND = 1e-3


# A family's weights and formats meet each device, but not each of them in all ways: devices know nothing of families.
on_processors = {"indirect": ["processor"]}


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """name -> the folder of transformers' checkpoint in float32, which a process writes once."""

    @functools.cache
    def write(name):
        folder = tmp_path_factory.mktemp(name)
        files.write_folder(folder, name, golden.load(name)[0])
        return folder

    return write


@pytest.fixture
def model(written, name, processor):
    with p.open_checkpoint(written(name)) as checkpoint:
        yield p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == ()


def check(model, name, rows=golden.POSITIONS):
    """The logits of a pass of `rows` rows at a time."""
    expected = golden.load(name)[1]
    found = model.logits(tokens(golden.POSITIONS, expected.shape[1]), rows, "f32")
    error = np.abs(found - expected).max(-1)
    assert error.max() < BOUND, f"off by {error.max():.3g}, first at position {np.argmax(error >= BOUND)}"


@each("name, rows, processor", CASES, [golden.POSITIONS, 7, 1], PROCESSORS[::-1], **on_processors)
def test_logits(model, name, rows):
    """A prompt at once, in parts, or step by step; test_formats has each family in parts, test_greedy step by step."""
    check(model, name, rows)


@each("name, processor", CASES, PROCESSORS, **on_processors)
def test_greedy(model, name):
    expected = golden.load(name)[0]
    prompt = tokens(golden.POSITIONS, expected["config"]["vocab_size"])[: golden.PROMPT]
    generator = Generator(model, kv_cache="f32", context=golden.PROMPT + golden.GREEDY)
    events = list(generator.run([Request(0, tuple(prompt), golden.GREEDY)]))
    (finished,) = (event for event in events if isinstance(event, Finished))
    assert finished.tokens == expected["greedy"]


STORED = [
    (name, storage)
    for name in CASES
    for storage in ("bf16", "mlx", "Q8_0", "Q4_K")
    if name in ARCHITECTURES or not storage.startswith("Q")
]
# Each family with the names of MLX and with those of GGUF, whose formats take turns; bf16 has the names of float32.
DAILY = [
    (name, storage)
    for i, name in enumerate(CASES)
    for storage in ("mlx", ("Q8_0", "Q4_K")[i % 2], *(["bf16"] if i % 4 == 0 else []))
    if (name, storage) in STORED
]


@each("stored_as, processor", axis(STORED, daily=DAILY), PROCESSORS, **on_processors)
def test_formats(stored_as, processor, tmp_path):
    """The same numbers in half as many bits, in MLX's 4 bits and in GGUF's blocks, in parts and with the head's
    ring."""
    name, storage = stored_as
    with p.open_checkpoint(stored(name, storage, tmp_path)) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == ()
        check(model, name, 7)
        if storage.startswith("Q"):  # a recurrent layer's vectors are copied
            assert model.repacked_bytes < (model.mapped_bytes / 20 if CASES[name].recurrent else 1)


def test_blocks_of_mxfp4(processor, tmp_path):
    """gpt-oss as it is published; nothing but small biases is copied."""
    write_blocks(tmp_path, "gpt_oss", golden.load("gpt_oss")[0])
    with p.open_checkpoint(tmp_path) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        assert checkpoint.unused == () and model.repacked_bytes < 0.05 * model.mapped_bytes
        check(model, "gpt_oss", 7)


# The most dispatches that a layer may take at decode.
DISPATCHES = {"qwen3_moe": 12, "mixtral": 12, "olmoe": 12, "gpt_oss": 16, "gemma4_text": 16, "llama": 8}


@pytest.mark.parametrize("case", DISPATCHES)
def test_dispatches(case, tmp_path):
    write_mlx(tmp_path, case, golden.load(case)[0])
    with p.open_checkpoint(tmp_path) as checkpoint:
        assert p.load_model(checkpoint).dispatches_per_layer <= DISPATCHES[case]


REFUSED = {
    "llama": {"hidden_act": "gelu", "rope_parameters": {"rope_type": "axial", "rope_theta": 1e4}},
    "qwen3_moe": {"hidden_act": "relu"},
    "mixtral": {"hidden_act": "gelu"},
    "olmoe": {"hidden_act": "gelu"},
    "qwen3_next": {"hidden_act": "gelu", "linear_conv_kernel_dim": 1, "attn_output_gate": False},
    "lfm2": {"conv_L_cache": 1},
    "granitemoehybrid": {"mamba_d_conv": 1, "position_embedding_type": "alibi"},
    "nemotron_h": {
        "mlp_hidden_act": "silu",
        "mamba_hidden_act": "relu",
        "conv_kernel": 1,
        "time_step_limit": [0.0, 0.5],
        "n_shared_experts": 2,
        "sliding_window": 8,
    },
    "llama4_text": {"hidden_act": "gelu"},
    "phimoe": {"hidden_act": "gelu"},
    "gpt_oss": {"swiglu_limit": 5.0},
    "gemma3_text": {"hidden_activation": "relu"},
    "gemma4_text": {"use_bidirectional_attention": "all"},
    "deepseek_v2": {"topk_method": "other", "norm_topk_prob": True},
    "glm4_moe": {"scoring_func": "softmax"},
    "minimax_m2": {"use_routing_bias": False, "shared_intermediate_size": 64, "attn_type_list": [1, 0, 1, 1, 1]},
    "iquestcoder": {"clip_qkv": 8.0, "use_sliding_window": True},
    "internlm3": {"mlp_bias": False},
    "ernie4_5_moe": {"moe_norm_min": 0.1},
    "hunyuan_v1_moe": {"moe_topk": [2, 2, 2, 1, 2]},
    "bailing_moe": {"use_bias": True, "norm_head": True, "score_function": "tanh"},
    "gemma4_small": {"hidden_activation": "relu"},
    "glm4_moe_lite": {"scoring_func": "softmax", "topk_method": "greedy"},
}


@pytest.mark.parametrize("case, key", [(case, key) for case, features in REFUSED.items() for key in features])
def test_features_that_are_refused(case, key, tmp_path):
    """By name, before weights are looked at: there are none."""
    made = golden.load(case)[0]
    files.write_folder(tmp_path, case, {"config": made["config"] | {key: REFUSED[case][key]}, "tensors": {}})
    with p.open_checkpoint(tmp_path) as checkpoint, pytest.raises(UnsupportedError) as refused:
        p.load_model(checkpoint)
    word = key if key != "rope_parameters" else "axial"
    assert word in str(refused.value) and "config.json" in str(refused.value)


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"hybrid_override_pattern": "MEM*EM*M"}, "contradicts layers_block_type"),
        ({"hybrid_override_pattern": "MEM*"}, "contradicts layers_block_type"),
        (
            {"hybrid_override_pattern": "ME*", "layers_block_type": None, "num_hidden_layers": 4},
            "num_hidden_layers = 4",
        ),
        ({"attention_bias": True}, "layers.3.mixer.q_proj.bias"),
    ],
)
def test_nemotron_h_says_no_two_things(written, changes, word, tmp_path):
    """Of its layers, nor of biases for which there is no tensor."""
    folder = written("nemotron_h")
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with p.open_checkpoint(tmp_path) as checkpoint, pytest.raises(CheckpointError, match=word):
        p.load_model(checkpoint)


def test_tensors_that_are_wrong(tmp_path):
    """Missing, misshapen: each is named at once. What has no place in the family is told, not used."""
    made = golden.load("mixtral")[0]
    tensors = dict(made["tensors"])
    del tensors["model.layers.3.block_sparse_moe.experts.4.w2.weight"]
    tensors["model.layers.1.self_attn.k_proj.weight"] = [64, 256]
    tensors["model.layers.9.extra.weight"] = [3]
    files.write_folder(tmp_path, "mixtral", made | {"tensors": tensors})
    with p.open_checkpoint(tmp_path) as checkpoint:
        with pytest.raises(CheckpointError) as wrong:
            p.load_model(checkpoint)
        assert checkpoint.unused == ("model.layers.9.extra.weight",)
    for word in ("experts.4.w2.weight", "no tensor", "k_proj.weight", "[64, 256]", "[96, 256]"):
        assert word in str(wrong.value)


VALUES = (["x"], {"a": [1]}, [], "x", -1, 0, 1.5, True, float("inf"), 2**70)
KEYS = Counter(key for case in CASES for key in golden.load(case)[0]["config"])
COMMON = {key for key, families in KEYS.items() if families >= 8}


@pytest.mark.parametrize("case", CASES)
def test_values_of_any_kind(case, tmp_path):
    """Whatever a key of config.json holds: one line, of this package."""
    made = golden.load(case)[0]
    files.write_folder(tmp_path, case, {"config": made["config"], "tensors": {}})
    number = list(CASES).index(case)
    for at, key in enumerate(made["config"]):
        # Keys that most families have are read by the same code: all values of such a key come up, over the families.
        for value in VALUES[(number + at) % 4 :: 4] if key in COMMON else VALUES:
            (tmp_path / "config.json").write_text(json.dumps(made["config"] | {key: value}))
            with pytest.raises(OnebufError) as refused, p.open_checkpoint(tmp_path) as checkpoint:
                p.load_model(checkpoint)
            assert "\n" not in str(refused.value), (key, value)
