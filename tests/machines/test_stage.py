"""The stage for Ray Data, called as Ray Data calls it: batches of columns in, batches with texts out."""

import json

import numpy as np
import pytest
from support.programs import rows_of, run

from pipeline.errors import CheckpointError, UsageError
from pipeline.ray import Generate


@pytest.fixture(scope="module")
def stage():
    return Generate(device="cpu", threads=1, rows=4, context=100, max_tokens=6, temperature=0.9, seed=5)


def test_the_stage_makes_the_texts_of_a_run(stage, tmp_path):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    texts = ["The fox", "Once", "Two dogs"]
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    assert run("--prompts", prompts, "--out", out, "--max-tokens", 6, "--temperature", 0.9, "--seed", 5)[0] == 0
    batch = {"prompt": np.array(texts, object), "index": np.arange(3), "kept": np.array([1, 2, 3])}
    made = stage(batch)
    assert list(made["generated"]) == [row["text"] for row in rows_of(out)]
    assert list(made["generated_tokens"]) == [row["tokens"] for row in rows_of(out)]
    assert list(made["generated_reason"]) == ["length"] * 3 and list(made["generated_error"]) == [None] * 3
    assert made["kept"] is batch["kept"]


def test_a_row_has_its_own_settings_and_fails_alone(stage):
    batch = {
        "prompt": np.array([[5, 6], [5, 10**6], [5, 6]], object),
        "max_tokens": np.array([2.0, 3.0, np.nan]),
        "stop": np.array([None, "x", None], object),
    }
    batch["max_tokens"] = batch["max_tokens"].astype(object)
    batch["max_tokens"][:2] = [2, 3]
    made = stage(batch)
    assert [len(tokens) for tokens in made["generated_tokens"]] == [2, 0, 6]
    assert "1000000" in made["generated_error"][1] and made["generated"][1] is None


@pytest.mark.parametrize(
    "batch, words",
    [({"text": []}, "no column 'prompt'"), ({"prompt": [], "generated": []}, "into="), ([], "mapping of columns")],
)
def test_batches_that_the_stage_cannot_use(stage, batch, words):
    with pytest.raises(UsageError, match=words):
        stage(batch)


def test_a_stage_without_a_model():
    with pytest.raises(CheckpointError, match="nowhere"):
        Generate("/nowhere")
