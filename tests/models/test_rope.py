"""Rope as configurations state it, against transformers: data/rope.json holds the frequencies and scales of its rotary
embeddings for these configurations."""

import numpy as np
import pytest
from support.paths import golden

from pipeline.errors import CheckpointError, UnsupportedError
from pipeline.models.rope import Rope

CASES = golden("rope")["cases"]
FREQUENCY = 1e-6  # relative: transformers computes in float32, theta to a power of it among the rest
BASE = {"max_position_embeddings": 4096}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_as_transformers_computes_it(case):
    rope = Rope.read(case["config"], case["head_dim"], "config.json", case["layer_type"])
    np.testing.assert_allclose(rope.inv_freq, case["inv_freq"], rtol=FREQUENCY, atol=0)
    assert rope.inv_freq.dtype == np.float32 and rope.rotary_dim == 2 * len(case["inv_freq"])
    assert rope.scale == pytest.approx(case["scale"], rel=1e-12)
    assert rope.score_scale == pytest.approx(case.get("score_scale", 1.0), rel=1e-12)


def test_factors_divide_the_frequencies():
    rope = {"rope_type": "factors", "rope_theta": 500.0, "factors": [1.0, 2.0, 32.0]}
    made = Rope.read({"rope_parameters": rope}, 6, "f")
    np.testing.assert_allclose(made.inv_freq, 500.0 ** (-np.arange(3) / 3) / [1, 2, 32], rtol=1e-7)


def test_dynamic_is_the_default_within_the_context():
    ropes = ({"type": "dynamic", "factor": 2.0}, {})
    made, plain = (Rope.read({"rope_scaling": rope, **BASE}, 16, "f") for rope in ropes)
    assert (made.inv_freq == plain.inv_freq).all() and made.scale == 1 and not made.positions


def test_longrope_holds_up_to_the_trained_context():
    factors = {"short_factor": [1.0, 1.5, 2.0, 8.0], "long_factor": [9.0] * 4}
    rope = {"rope_type": "longrope", "rope_theta": 100.0, "original_max_position_embeddings": 1024, **factors}
    made = Rope.read({"rope_parameters": rope, **BASE}, 8, "f")
    np.testing.assert_allclose(made.inv_freq, 100.0 ** (-np.arange(4) / 4) / [1, 1.5, 2, 8], rtol=1e-7)
    assert made.positions == 1024 and made.scale == pytest.approx((1 + np.log(4) / np.log(1024)) ** 0.5)
    with pytest.raises(CheckpointError, match="original_max_position_embeddings 1: longrope needs 2 or more"):
        Rope.read({"rope_parameters": rope | {"original_max_position_embeddings": 1}, **BASE}, 8, "f")


def test_what_a_family_says_where_the_configuration_does_not():
    assert Rope.read({}, 8, "f", theta=100.0).inv_freq[1] == np.float32(100.0**-0.25)
    assert Rope.read({"rope_theta": 16.0}, 8, "f", theta=100.0).inv_freq[1] == np.float32(0.5)
    assert not Rope.read({}, 8, "f").interleaved
    assert Rope.read({"rope_interleave": True}, 8, "f").interleaved
    assert not Rope.read({"rope_interleave": True}, 8, "f", interleaved=False).interleaved
    assert Rope.read({}, 8, "f", "sliding_attention").inv_freq[1] == np.float32(0.1)


@pytest.mark.parametrize(
    "rope, error, words",
    [
        (
            {"rope_type": "axial"},
            UnsupportedError,
            "rope_type 'axial' is not supported; use one of: default, linear, llama3",
        ),
        ({"rope_type": "longrope"}, CheckpointError, "rope short_factor must be 8 numbers above 0, found None"),
        (
            {"rope_type": "longrope", "short_factor": [True] * 8},
            CheckpointError,
            "rope short_factor must be 8 numbers above 0, found 8 of them",
        ),
        ({"type": "dynamic"}, CheckpointError, "has no 'factor', which must be a number above 0"),
        ({"rope_type": 7}, UnsupportedError, "rope_type 7"),
        ({"rope_type": ["yarn"]}, UnsupportedError, "rope_type ['yarn']"),
        (
            {"rope_type": "factors", "factors": ["1"] * 8},
            CheckpointError,
            "rope factors must be 8 numbers above 0, found 8 of them",
        ),
        ({"rope_type": "linear"}, CheckpointError, "has no 'factor', which must be a number above 0 (1e-18"),
        (
            {"rope_type": "linear", "factor": "2"},
            CheckpointError,
            "'factor' must be a number above 0 (1e-18 to 1e18), found \"2\"",
        ),
        (
            {"rope_type": "linear", "factor": 1e-30},
            CheckpointError,
            "'factor' must be a number above 0 (1e-18 to 1e18)",
        ),
        ({"rope_theta": 1.0}, CheckpointError, "rope_theta = 1 must be above 1"),
        ({"partial_rotary_factor": 1.5}, CheckpointError, "partial_rotary_factor = 1.5, but no more than 1"),
        ({"partial_rotary_factor": 0.01}, CheckpointError, "0 numbers of a head of 16 cannot turn"),
        (
            {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0},
            CheckpointError,
            "high_freq_factor = 4 must be above low_freq_factor = 4",
        ),
        (
            {"rope_type": "yarn", "factor": 2.0, "extrapolation_factor": 0.5},
            UnsupportedError,
            "extrapolation_factor = 0.5",
        ),
        ({"rope_type": "yarn", "factor": 2.0, "truncate": 1}, CheckpointError, "'truncate' must be true or false"),
        (
            {"rope_type": "factors", "factors": [1.0]},
            CheckpointError,
            "rope factors must be 8 numbers above 0, found 1 of them",
        ),
        ({"rope_type": "factors"}, CheckpointError, "rope factors must be 8 numbers above 0, found None"),
        ({"full_attention": {"rope_type": "default"}}, CheckpointError, "entries for full_attention, none for None"),
        ("yarn", CheckpointError, "rope_parameters = 'yarn' is no object"),
    ],
)
def test_what_is_refused(rope, error, words):
    with pytest.raises(error) as caught:
        Rope.read({**BASE, "rope_parameters": rope}, 16, "folder/config.json")
    assert str(caught.value).startswith("folder/config.json: ") and words in str(caught.value)
    assert type(caught.value) is error


def test_an_odd_head_cannot_turn():
    with pytest.raises(CheckpointError, match="8 numbers of a head of 7 cannot turn"):
        Rope.read({}, 7, "f")


def test_the_share_of_one_type_of_layer_is_not_the_others():
    """Earlier keys beside the parts, as mlx-lm's configurations of Gemma 4 may have them, are of one of the parts."""
    parts = {
        "full_attention": {"rope_theta": 1e6, "partial_rotary_factor": 0.25},
        "sliding_attention": {"rope_theta": 1e4},
    }
    config = {"rope_parameters": parts, "partial_rotary_factor": 0.25, "rope_theta": 1e6}
    assert Rope.read(config, 32, "f", "sliding_attention").rotary_dim == 32
    assert Rope.read(config, 32, "f", "full_attention").rotary_dim == 8
    assert Rope.read({"partial_rotary_factor": 0.25}, 32, "f").rotary_dim == 8
