"""Weights as other libraries store them, with configurations and headers that a fuzzer damages.

One file holds both: a safetensors file with a weight "q_proj" whose tensor "config" is the text of quantization_config.
So half of the mutations change a configuration beside a header that is right, and half a header.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
from support import packed_formats as formats

from fuzz import mutations

NAME, ROWS, COLUMNS = "q_proj", 32, 128
SEEDS = (
    (formats.gptq, {"group": 32}),
    (formats.gptq, {"group": 64, "bits": 3, "sym": False, "v2": True}),
    (formats.gptq, {"group": 64, "order": np.arange(COLUMNS)[::-1] // 64}),
    (formats.awq, {"group": 64}),
    (formats.packed, {"group": 64}),
    (formats.packed, {"group": 32, "bits": 8, "symmetric": False, "dtype": "F16"}),
    (formats.packed, {"group": 64, "order": np.arange(COLUMNS)[::-1] // 64}),
    (formats.signed, {"symmetric": False}),
    *((formats.fp8, {"kind": kind}) for kind in formats.FP8_CONFIGS),
    (formats.nvfp4, {}),
    (formats.nvfp4, {"kind": "modelopt"}),
    (formats.powers, {"bits": 4}),
    (formats.powers, {"bits": 8}),
)
DYNAMIC = {"dynamic": {"+:q.*": {"bits": 4, "group_size": 32}, "-:.*head": {}}}


@functools.cache
def _seeds() -> list[tuple[dict, dict, dict]]:
    """(configuration, header without "config", data by names)."""
    found = []
    for number, (packer, settings) in enumerate(SEEDS):
        tensors, config, _ = packer(np.random.default_rng(number), NAME, ROWS, COLUMNS, **settings)
        if config["quant_method"] == "gptq" and number == 0:
            config |= DYNAMIC
        if config["quant_method"] == "compressed-tensors":
            config["ignore"] = ["lm_head", r"re:.*layers\.\d+\.(gate|router)$"]
        found.append((config, tensors, {}))
    return found


def damaged(number: int) -> bytes:
    config, tensors, _ = _seeds()[number // 2 % len(SEEDS)]
    text = json.dumps(config).encode() if number % 2 else mutations.mutated_json(config, number)
    return written(tensors, text, number if number % 2 else None)


def written(tensors: dict, text: bytes, number: int | None = None) -> bytes:
    """The file; the header damaged where a number says how."""
    stored = tensors | {"config": ("U8", np.frombuffer(text, np.uint8))}
    header, offset = {}, 0
    for name, (dtype, array) in stored.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    raw = json.dumps(header).encode() if number is None else mutations.mutated_json(header, number)
    return len(raw).to_bytes(8, "little") + raw + b"".join(array.tobytes() for _, array in stored.values())


def seeds() -> list[bytes]:
    """The files without damage."""
    return [written(tensors, json.dumps(config).encode()) for config, tensors, _ in _seeds()]


@functools.cache
def _device():
    import pipeline as p

    return p.open_device("cpu", threads=1)


def check(file: Path) -> None:
    """The weight loads, in a format that a step takes, with as many bytes as were counted before; or a CheckpointError
    says why not."""
    from pipeline.checkpoints.checkpoint import Checkpoint
    from pipeline.checkpoints.safetensors import read_header
    from pipeline.errors import CheckpointError
    from pipeline.graph.weights import as_weight
    from pipeline.models.loading import Loader
    from pipeline.models.survey import Survey

    header = read_header(file)
    info = header.tensors.get("config")
    raw = b"" if info is None else file.read_bytes()[info.offset : info.offset + info.nbytes]
    try:
        config = {"quantization_config": json.loads(raw)}
    except (ValueError, RecursionError):
        raise CheckpointError(f"{file}: no configuration") from None
    with Checkpoint(file, file, config, {file: header.size}, header.tensors) as checkpoint:
        survey = Survey()
        paper = Loader(checkpoint, survey)
        as_weight(paper.matrix(NAME, (ROWS, COLUMNS)), NAME)
        survey.check()
        load = Loader(checkpoint, _device())
        weight = as_weight(load.matrix(NAME, (ROWS, COLUMNS)), NAME)
        assert weight.shape == (ROWS, COLUMNS)
        assert load.mapped_bytes <= paper.mapped_bytes  # more is copied where zero points are not what is said
        for part in (*weight.parts, *([] if weight.order is None else [weight.order])):
            assert part.storage.read(_device()).nbytes == part.nbytes
