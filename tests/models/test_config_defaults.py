"""Configurations as transformers' classes read them: what a key is where it is absent, and which key comes first.

data/configs.json.gz holds what transformers makes of some hundred configurations; where it is installed, it is asked
again (`python tests/support/config_classes.py` writes the file).
"""

import gzip
import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from support import config_classes, config_types
from support.paths import DATA

from pipeline.checkpoints.checkpoint import Layout
from pipeline.checkpoints.text_part import _GEMMA3
from pipeline.errors import CheckpointError, UnsupportedError
from pipeline.models import decoder, defaults, key_types
from pipeline.models.families import FAMILIES
from pipeline.models.fields import Fields

CASES = json.loads(gzip.decompress((DATA / "configs.json.gz").read_bytes()))["cases"]
WITHOUT_ROPE = ("nemotron_h",)
FREQUENCY = 1e-6  # relative: transformers computes in float32

# Keys that families read though transformers' classes do not know them: each says what a foreign file may have there.
NOT_OF_A_CLASS = {
    "model_type",
    "_attention_output_bias",  # of GGUF files
    "first_k_dense_replace",
    "original_max_position_embeddings",  # an attribute that any file may add
    "partial_rotary_factor",
    "attn_output_gate",  # of Qwen3.5's published files
    "hybrid_override_pattern",  # Nemotron-H's older files have these three
    "layer_types",
    "num_hidden_layers",
    "block_ff_dim",  # LFM2's older files have these two
    "tie_embedding",
    "rms_norm_eps",  # LFM2's is norm_eps
    "per_layer_config",  # which transformers writes itself
    "rope_interleave",
    "rope_scaling",
    # Features that published files name and that these families have not: any value but the usual one is refused.
    "attention_bias",
    "attn_type_list",
    "clip_qkv",
    "mlp_bias",
    "moe_layer_freq",
    "norm_topk_prob",
    "moe_intermediate_size",
    "num_shared_expert",
    "position_embedding_type",
    "qk_norm_type",
    "rotary_dim",
    "route_norm",
    "score_func",
    "scoring_func",
    "shared_intermediate_size",
    "sliding_window_size",
    "topk_method",
    "use_cla",
    "use_mixed_mlp_moe",
    "use_qk_norm",
    "use_routing_bias",
    "use_sliding_window",
    "head_dim",
}


def family(config: dict, record: set | None = None):
    """(configuration, rotary embeddings) as the family reads them; `record` takes the keys that it asks for."""
    module, name = FAMILIES[config["model_type"]].split(".")
    made = getattr(importlib.import_module(f"pipeline.models.{module}"), name)
    fields = Fields(config, "config.json", class_defaults=True)
    if record is not None:
        fields.config = Recorded(fields.config, record)
    model = object.__new__(made)
    model.checkpoint = SimpleNamespace(layout=Layout())
    model.config = made.config_class.read(fields)
    model.prepare(fields)
    return model.config, list(getattr(model, "ropes", ())) or ([model.rope] if hasattr(model, "rope") else [])


class Recorded(dict):
    """A configuration that notes which keys are read."""

    def __init__(self, config: dict, keys: set) -> None:
        super().__init__(config)
        self.keys_read = keys

    def get(self, key, default=None):
        self.keys_read.add(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self.keys_read.add(key)
        return super().__getitem__(key)

    def __or__(self, other):
        return Recorded(dict(self) | other, self.keys_read)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_as_transformers_reads_it(case):
    if case["expected"] is None:
        pytest.skip("transformers refuses it")
    expected, (config, ropes) = case["expected"], family(case["config"])
    mine = {name: getattr(config, name) for name in config_classes.FIELDS}
    assert mine == {name: expected[name] for name in mine}
    if case["config"]["model_type"] not in config_classes.LATENT:
        assert config.head_dim == expected["head_dim"]
    for name in config_classes.MORE_FIELDS:
        if hasattr(config, name) and name in expected:
            assert getattr(config, name) == (expected[name] or 0), name
    windows = getattr(config, "windows", None) or (getattr(config, "window", 0),) * config.layers
    assert list(windows) == expected["windows"]
    assert len(ropes) == len(expected["ropes"])
    for rope, theirs in zip(ropes, expected["ropes"]):
        np.testing.assert_allclose(rope.inv_freq, theirs["inv_freq"], rtol=FREQUENCY, atol=0)
        assert rope.scale == pytest.approx(theirs["scale"], rel=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_key_that_a_family_reads_has_its_default(name):
    read = set()
    family(config_classes.made_config(name, "small"), read)
    needed = {"hidden_size", "num_hidden_layers"} | (set() if name in WITHOUT_ROPE else {"rope_parameters"})
    assert needed <= read
    more = {"rope_theta"} if name in config_classes.GEMMA4 else set()  # its classes have one for each type of layer
    if name in config_classes.OWN:  # whose files give all sizes
        sizes = {*config_classes.SMALL, *config_classes.NEEDED[name], "intermediate_size"}
        more = sizes | {"rope_parameters", "partial_rotary_factor"}
    assert read - more <= set(defaults.defaults_of(name)) | NOT_OF_A_CLASS


WRONG = {"bool": True, "int": 3, "float": 1.5, "str": "wrong", "list": [3], "dict": {"a": 1}}


@pytest.mark.parametrize("name", FAMILIES)
def test_values_of_a_wrong_type_are_refused(name):
    """Whether the forward pass asks for the key or not; transformers' classes refuse them, too."""
    config, table = config_classes.made_config(name, "small"), json.loads(key_types.FILE.read_text())
    asked = [(key, table[key]) for key in defaults.defaults_of(name) if key in table]
    assert len(asked) > 10
    for key, kinds in [*asked, ("rope_scaling", ["dict"]), ("rope_theta", ["float"])]:
        for kind, value in WRONG.items():
            if kind not in kinds and not (kind == "int" and "float" in kinds):
                with pytest.raises(CheckpointError, match=f"config.json: '{key}' must be"):
                    Fields(config | {key: value}, "config.json", class_defaults=True)
        Fields(config | {key: None}, "config.json", class_defaults=True)


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("inner, kinds", key_types.OF_ROPE.items())
def test_values_of_a_wrong_type_about_rope_are_refused(key, inner, kinds):
    for part in (lambda value: {inner: value}, lambda value: {"full_attention": {inner: value}}):
        for kind, value in WRONG.items():
            if kind not in kinds and not (kind == "int" and "float" in kinds) and kind != "dict":
                with pytest.raises(CheckpointError, match=f"{key}: '{inner}' must be"):
                    Fields({"model_type": "phimoe", key: part(value)}, "config.json", class_defaults=True)


def test_absent_and_null():
    absent = defaults.with_defaults({"model_type": "mistral"})
    assert (absent["sliding_window"], absent["num_key_value_heads"]) == (4096, 8)
    null = defaults.with_defaults({"model_type": "mistral", "sliding_window": None, "rms_norm_eps": None})
    assert (null["sliding_window"], null["rms_norm_eps"]) == (None, 1e-6)
    assert defaults.with_defaults({"model_type": "unknown", "a": 1}) == {"model_type": "unknown", "a": 1}


def test_only_folders_take_them():
    """A GGUF file leaves to llama.cpp's code what it does not say."""
    assert decoder.Checkpoint.class_defaults
    assert Fields({"model_type": "mixtral"}, "f").config == {"model_type": "mixtral"}


def test_gemma3_as_the_part_of_a_whole():
    assert _GEMMA3.items() <= defaults.defaults_of("gemma3_text").items()


@pytest.mark.parametrize(
    "said, sizes", [({}, (2, 16)), ({"5": {"head_dim": 24}}, (2, 24)), ({"5": {"num_key_value_heads": 1}}, (1, 16))]
)
def test_gemma4_layers_differ_in_what_is_said_of_them(said, sizes):
    """transformers writes nothing where layers that see all positions are as large as the others."""
    made = family(config_classes.made_config("gemma4_text", "small") | {"per_layer_config": said})[0]
    assert (made.global_kv_heads, made.global_head_dim) == sizes


def small(name, **changes):
    return family(config_classes.made_config(name, "small") | changes)


def test_layers_of_one_kind():
    """Gemma 4 without windows; MiMo, whose layers with windows have twice as many key-value heads."""
    assert small("gemma4_text", layer_types=["full_attention"] * 6)[0].windows == (0,) * 6
    alone = {"layer_types": ["full_attention"] * 6, "num_key_value_heads": 4}
    assert small("mimo_v2_flash", **alone)[0].windows == (0,) * 6
    with pytest.raises(CheckpointError, match="twice num_key_value_heads"):
        small("mimo_v2_flash", num_key_value_heads=4)


def test_latent_heads_have_no_size_by_the_hidden_one():
    assert small("youtu", hidden_size=76)[0].hidden == 76


@pytest.mark.parametrize("name", ["gemma3_text", "gemma4_text"])
def test_a_share_of_the_head_is_for_proportional_rope_alone(name):
    """As transformers computes these families' own rope."""
    part = {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5}
    whole = small(name, rope_parameters={"full_attention": part, "sliding_attention": part})[1]
    assert all(rope.rotary_dim == len(rope.inv_freq) * 2 and not (rope.inv_freq == 0).any() for rope in whole)
    yarn = {"rope_theta": 1e4, "rope_type": "yarn", "factor": 4.0, "truncate": False}
    with pytest.raises(UnsupportedError, match="truncate = false of full_attention"):
        small(name, rope_parameters={"full_attention": yarn, "sliding_attention": part})


# transformers as the other side


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_is_that_of_the_classes(transformers, name):
    assert defaults.defaults_of(name) == config_classes.class_defaults(name)


def test_the_types_are_those_of_the_classes(transformers):
    pytest.importorskip("torch", reason="torch is not installed")
    assert json.loads(key_types.FILE.read_text()) == config_types.class_types()


def test_the_cases_are_what_transformers_makes_of_them(transformers):
    pytest.importorskip("torch", reason="torch is not installed")
    for case in CASES:
        model_type = case["config"]["model_type"]
        found = config_classes.expected(model_type, dict(case["config"]))
        assert json.loads(json.dumps(found)) == case["expected"], case["name"]
