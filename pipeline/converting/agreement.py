"""A check before a GGUF file is written: whether what its header says is the model that the source is."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.gguf import open_gguf
from ..checkpoints.gguf.checkpoint import GgufCheckpoint
from ..errors import UnsupportedError, UsageError
from ..models.decoder import Model
from ..models.families import surveyed
from ..models.rope import Rope
from ..printing import brief
from .conversion import Conversion
from .gguf_vocabulary import SAMPLES
from .shards import Shard

__all__ = ["agree"]

OF_FAMILY = ("kind",)  # fields of a configuration that follow from the family alone
CLOSE = 1e-6  # GGUF keeps numbers in float32


def agree(conversion: Conversion, model: Model | None) -> None:
    """UnsupportedError where a configuration, or a text's tokens, would come back otherwise from the file.

    The header goes to a temporary file of the final size, which takes no room on the disk.
    """
    source = conversion.checkpoint
    (shard,) = conversion.shards
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "header.gguf"
        try:
            _write_header(file, shard)
        except OSError as error:
            raise UsageError(
                f"{file}: {error.strerror or error}; TMPDIR may name another folder for temporary files"
            ) from error
        with open_gguf(file) as made:
            again, survey = surveyed(made)
            if survey.problems:
                problem = str(survey.problems[0]).replace(str(file), "the file")
                raise UnsupportedError(f"{source.source}: cannot be said in a GGUF file: {problem}")
            if model is None or again is None:
                return
            if not isinstance(source, GgufCheckpoint):
                _compare(source, _fields(model), _fields(again))
                _compare_tokens(source, made)


def _write_header(file: Path, shard: Shard) -> None:
    with open(file, "wb") as stream:
        stream.write(shard.header)
        for output in shard.outputs:
            if output.constant:
                stream.seek(shard.offsets[output.name])
                stream.write(output.constant)
        stream.flush()
        os.ftruncate(stream.fileno(), shard.size)


def _fields(model: Model) -> dict[str, Any]:
    fields: dict[str, Any] = {
        field.name: getattr(model.config, field.name) for field in dataclasses.fields(model.config)
    }
    return {name: value for name, value in fields.items() if name not in OF_FAMILY} | {"rope": vars(model).get("rope")}


def _compare(source: Checkpoint, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    for name, value in _named(wanted):
        other = dict(_named(found)).get(name)
        if not _same(value, other):
            raise UnsupportedError(
                f"{source.source}: a GGUF file would not say what the model is: its {name} is {brief(value)}, and "
                f"{brief(other)} would be read back"
            )


def _named(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields, and those of fields that have some: "mamba.limits"."""
    for name, value in fields.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, Rope):
            inner = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            yield from ((f"{name}.{key}", each) for key, each in _named(inner))
        else:
            yield name, value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Rope) and isinstance(b, Rope):
        same = a.inv_freq.shape == b.inv_freq.shape and np.allclose(a.inv_freq, b.inv_freq, rtol=1e-5, atol=0)
        return same and all(
            _same(getattr(a, name), getattr(b, name)) for name in ("scale", "rotary_dim", "score_scale")
        )
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=CLOSE, atol=0))
    if isinstance(a, float) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=CLOSE)
    return bool(a == b)


def _compare_tokens(source: Checkpoint, made: Checkpoint) -> None:
    ours, theirs = source.tokenizer(), made.tokenizer()
    unknown = ours.id_of(json.loads(ours.to_json())["model"].get("unk_token") or "")
    for text in SAMPLES:
        tokens = ours.encode(text)
        if unknown not in tokens and tokens != theirs.encode(text):
            raise UnsupportedError(
                f"{source.path}: a GGUF file's tokenizer would cut {brief(text)} into other tokens; "
                "its form has no name for this tokenizer's rules"
            )
