"""A model with a weight that is no number: the row fails and names the step, whatever the weight is."""

import shutil
import struct

import numpy as np
import pytest

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.generation.requests import Failed

pytestmark = pytest.mark.one_processor


def damaged(folder, name, element, value):
    """The built-in model with one bf16 element of a tensor replaced."""
    shutil.copytree(builtin_model(), folder)
    with p.open_checkpoint(folder) as checkpoint:
        info = checkpoint.tensors[name]
    assert info.dtype == "BF16"
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(info.offset + 2 * element)
        file.write(struct.pack("<f", value)[2:])
    return folder


@pytest.mark.parametrize("element", [0, 1, 255])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_final_norm(processor, tmp_path, value, element):
    with p.open_checkpoint(damaged(tmp_path / "m", "model.norm.weight", element, value)) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        requests = [p.Request(i, (0, 40 + i), 4, temperature) for i, temperature in enumerate((0.0, 1.0))]
        events = list(p.Generator(model, batch_size=2).run(requests))
    failed = [event for event in events if isinstance(event, Failed)]
    assert {event.index for event in failed} == {0, 1}
    assert all(event.error.startswith("sample had nothing to choose from: ") for event in failed)
