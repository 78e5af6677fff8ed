"""A record beside a file of rows says which model and settings made them. A run with --resume compares it with its own.

The record of `rows.jsonl` is `rows.jsonl.run`. It is there before the first row is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..checkpoints.hub import model_name
from ..errors import UsageError
from ..host import write_whole

__all__ = ["check_record", "model_digest", "read_record", "record_of", "record_path", "recorded_seed", "write_record"]

_VERSION = 1
_PIECES, _PIECE = 16, 1 << 16  # of each weight file go into the model's digest, which must not take minutes
_WORDS = (".json", ".jinja", ".model", ".txt")  # the files of a folder that say what the weights mean

# Settings that decide what is in the rows, and the options that name them.
_SETTINGS = (
    "eval",
    "stride",
    "chat",
    "system",
    "stop",
    "n",
    "max_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "repetition_window",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "prompt_logprobs",
    "seed",
    "context",
    "kv_cache",
)


def record_path(out: Path) -> Path:
    """Where the record of a file of rows is: beside the file itself, where `out` is a link."""
    place = Path(os.path.realpath(out))
    return place.with_name(place.name + ".run")


def record_of(settings: Any, weights: Iterable[Path]) -> dict[str, Any]:
    """The record of a run."""
    values = {name: getattr(settings, name) for name in _SETTINGS}
    values["stop"] = list(values["stop"])
    values["logit_bias"] = {str(token): bias for token, bias in values["logit_bias"].items()}
    model = {"name": model_name(settings.model), "digest": model_digest(settings.model, weights)}
    return {"version": _VERSION, "model": model, "settings": values}


def model_digest(model: Path, weights: Iterable[Path]) -> str:
    """A number of the model's contents: sizes and pieces of its weight files, and its other files."""
    found = hashlib.blake2b(digest_size=16)
    others = [file for file in model.iterdir() if file.suffix in _WORDS and file.is_file()] if model.is_dir() else []
    for file in (*sorted(weights), *sorted(others)):
        size = file.stat().st_size
        found.update(f"{file.suffix} {size}\n".encode())
        with open(file, "rb") as stream:
            for piece in range(_PIECES):
                stream.seek(max(size - _PIECE, 0) * piece // (_PIECES - 1))
                found.update(stream.read(_PIECE))
                if size <= _PIECE:
                    break
    return found.hexdigest()


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Writes the record beside the file of rows, all or nothing."""
    path = record_path(out)
    try:
        write_whole(path, json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}; no row was written") from error


def read_record(out: Path) -> dict[str, Any] | None:
    """The record of a file of rows; None where it has none. UsageError where it is damaged."""
    path = record_path(out)
    try:
        record = json.loads(path.read_bytes())
        if record["version"] == _VERSION and isinstance(record["settings"], dict) and record["model"]["digest"]:
            return dict(record)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"--resume: {path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UsageError(
        f"--resume: {path}: is no record of a run; delete it if the rows in {out} are of this model and settings"
    )


def recorded_seed(out: Path) -> int | None:
    """The seed of the run that made a file of rows, where there is a record."""
    record = read_record(out)
    seed = None if record is None else record["settings"].get("seed")
    return seed if type(seed) is int and 0 <= seed < 2**64 else None


def check_record(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises UsageError that names what differs between the run that made the rows, and this one."""
    differences = []
    if before["model"]["digest"] != now["model"]["digest"]:
        name, other = str(before["model"].get("name"))[:60], now["model"]["name"]
        also = " with other contents" if name == other else ""
        differences.append(f"the model was {name!r}{also}, now it is {other!r}")
    other_kind = before["settings"].get("eval") != now["settings"].get("eval")
    for name, value in now["settings"].items():
        old = before["settings"].get(name)
        if old != value and (name == "eval" or not other_kind):  # with it come others that nobody gave
            option = "--" + name.replace("_", "-")
            differences.append(f"{option} was {_shown(old)}, now it is {_shown(value)}")
    if differences:
        raise UsageError(
            f"--resume: the rows in {out} were made otherwise: {'; '.join(differences)}; give what was given then, or "
            "another file to --out"
        )


def _shown(value: object) -> str:
    if value is None or value == [] or value == {}:
        return "not given"
    if isinstance(value, bool):
        return "given" if value else "not given"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
