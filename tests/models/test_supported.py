"""What inspecting calls supported runs, and what cannot run is refused when it is loaded, not at the first chain."""

import json

import pytest
from fuzz import attempts, tiny
from support.families.files import write_folder

import pipeline as p
from pipeline.errors import CheckpointError, OnebufError
from pipeline.generation.requests import Finished
from pipeline.inspecting.facts import gather
from pipeline.models import load_model

pytestmark = pytest.mark.one_processor


def generates(path, device):
    """Whether inspecting finds nothing unsupported; such a model generates, and any other one is refused at load."""
    with p.open_checkpoint(path) as checkpoint:
        supported = not gather(checkpoint)["unsupported"]
        try:
            model = load_model(checkpoint, device=device)
        except OnebufError:
            assert not supported
            return False
        assert supported
        events = list(p.Generator(model, context=16).run([p.Request(0, (3, 4, 5, 6, 7), 2)]))
        assert isinstance(events[-1], Finished)
        return True


@pytest.mark.parametrize("model", tiny.models(), ids=str)
def test_what_is_supported_runs(model, processor, tmp_path):
    """Every family in every format; then with each tensor in another dtype, and with its weights of half as many
    bits."""
    path = attempts.write(model.files, tmp_path)
    assert generates(path, processor)
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else ():
        header, data = tiny.read_safetensors(file.read_bytes())
        for number, (name, entry) in enumerate(header.items()):
            for dtype in OTHER_DTYPES.get(entry["dtype"], ()) if number % 6 == len(model.name) % 6 else ():
                file.write_bytes(tiny.safetensors(header | {name: entry | {"dtype": dtype}}, zeroed(data, entry)))
                generates(path, processor)
        file.write_bytes(tiny.safetensors(header, data))


OTHER_DTYPES = {"BF16": ("F16", "I16"), "F16": ("BF16", "U16"), "F32": ("U32", "I32"), "U32": ("F32",), "U8": ("I8",)}


def zeroed(data, entry):
    """Zeros are numbers in every dtype."""
    begin, end = entry["data_offsets"]
    return data[:begin] + bytes(end - begin) + data[end:]


@pytest.mark.parametrize(
    "name, changes",
    [
        ("gpt_oss", {"attention_bias": False}),
        ("deepseek_v3", {"n_group": 3}),
        ("deepseek_v3", {"n_group": 4, "topk_group": 4}),
        ("deepseek_v3", {"topk_group": 3}),
        ("deepseek_v2", {"n_group": 4, "topk_group": 1}),
        ("glm4_moe", {"n_group": 4}),
        ("glm4_moe", {"num_experts_per_tok": 4}),
        ("qwen3_moe", {"num_experts_per_tok": 5}),
        ("granitemoe", {"residual_multiplier": 1e-30}),
        ("granitemoe", {"embedding_multiplier": 1e38, "residual_multiplier": 1e-8}),
        ("gemma3_text", {"query_pre_attn_scalar": 1e-300}),
        ("llama", {"rms_norm_eps": 1e-60}),
        ("llama", {"num_key_value_heads": 2}),
        ("deepseek_v3", {"qk_rope_head_dim": 8}),
        (
            "glm4_moe_lite",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        ),
    ],
)
def test_impossible_groups_and_numbers_are_refused_at_load(name, changes, processor, tmp_path):
    """Or they run: never at the first chain."""
    made = tiny.described(name)
    write_folder(tmp_path, name, made | {"config": made["config"] | changes})
    (tmp_path / "tokenizer.json").write_text(json.dumps(tiny.BYTE_LEVEL))
    if not generates(tmp_path, processor):
        with p.open_checkpoint(tmp_path) as checkpoint, pytest.raises(CheckpointError, match="config"):
            load_model(checkpoint)
    else:
        assert name in ("gpt_oss", "llama", "glm4_moe_lite")
