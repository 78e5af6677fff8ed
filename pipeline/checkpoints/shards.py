"""The safetensors files of a folder: a single one, those that an index names, or those that are complete by themselves.

Names such as model-00002-of-00003.safetensors tell whether files are missing, so an index is not needed; where it is
out of date, they have the last word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeGuard

from ..errors import CheckpointError, UnsupportedError
from ..printing import brief
from .checkpoint import WEIGHTS
from .config import read_json
from .files import exists
from .safetensors import Header, read_header
from .tensor_info import TensorInfo, listed, quoted

__all__ = ["INDEX", "merged", "no_weights", "read_weights"]

INDEX = "model.safetensors.index.json"
MOST_NAME_BYTES = 255  # of a file's name, in the file systems that there are
MOST_NAMED = 100  # missing files
_NUMBERED = re.compile(r"(.*)-(\d{1,6})-of-(\d{1,6})\.safetensors")


def read_weights(path: Path) -> tuple[list[Header], str | None]:
    """The checked headers of a folder's weight files, and a note where its index is out of date."""
    if exists(path / WEIGHTS):
        return [read_header(path / WEIGHTS)], None
    if not exists(path / INDEX):
        return [read_header(path / name) for name in _files_without_index(path)], None
    weight_map = _read_index(path / INDEX)
    try:
        return _indexed(path, weight_map), None
    except _OutOfDate as error:
        headers = _complete_anyway(path, weight_map)
        if headers is None:
            raise CheckpointError(str(error)) from None
        return headers, f"{INDEX} is out of date and not used; the files without it are complete"


def merged(headers: Iterable[Header]) -> dict[str, TensorInfo]:
    """All tensors of the files. CheckpointError where two have one of the same name."""
    tensors: dict[str, TensorInfo] = {}
    for header in headers:
        for name, info in header.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{header.file}: tensor {quoted(name)} is in {tensors[name].file.name}, too; leave only the files "
                    "of one checkpoint in the folder, or download them again"
                )
            tensors[name] = info
    return tensors


class _OutOfDate(Exception):
    """An index that says what the files do not have."""


def _read_index(index: Path) -> dict[str, str]:
    """The index's map from tensors to names of files."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no 'weight_map' from tensors to files; download it again")
    for name, file in weight_map.items():
        if not _is_file_name(file):
            raise CheckpointError(
                f"{index}: tensor {quoted(name)} is in {quoted(file)}, which is no file name; download it again"
            )
    return weight_map


def _is_file_name(name: object) -> TypeGuard[str]:
    """Whether a file in the folder can have this name."""
    if not isinstance(name, str) or name in ("", ".", "..") or any(c in name for c in "/\\\0"):
        return False
    try:
        return len(os.fsencode(name)) <= MOST_NAME_BYTES
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def _indexed(path: Path, weight_map: dict[str, str]) -> list[Header]:
    """The headers of the files that the index names. They have all of its tensors, perhaps in other files than it
    says."""
    files = sorted(set(weight_map.values()))
    missing = [file for file in files if not exists(path / file)]
    if missing:
        raise _OutOfDate(
            f"{path}: {len(missing)} of the {len(files)} files that {INDEX} names are not found: "
            f"{listed(missing, MOST_NAMED)}; download them"
        )
    headers = [read_header(path / file) for file in files]
    absent = _absent(headers, weight_map)
    if absent:
        where = path / weight_map[absent[0]]
        raise _OutOfDate(
            f"{where}: has no tensor {listed(map(brief, absent))}, though {INDEX} says so; download it again"
        )
    return headers


def _absent(headers: Iterable[Header], names: Iterable[str]) -> list[str]:
    found = {name for header in headers for name in header.tensors}
    return [name for name in names if name not in found]


def _complete_anyway(path: Path, weight_map: dict[str, str]) -> list[Header] | None:
    """The headers of files that are complete though the index is wrong, None where there are none.

    A numbered set of files is complete by its names, unless the folder has files of another set that the index names:
    then, as for files without numbers, all tensors that the index names must be there.
    """
    present = {file for file in weight_map.values() if exists(path / file)}
    groups, _ = _numbered(path)
    for files in [*groups, sorted(file.name for file in path.glob("*.safetensors"))]:
        try:
            headers = [read_header(path / file) for file in files]
            if headers and ((files in groups and present <= set(files)) or not _absent(headers, weight_map)):
                merged(headers)
                return headers
        except CheckpointError:  # a file that is damaged: what is wrong with the index is said
            continue
    return None


def _files_without_index(path: Path) -> list[str]:
    groups, incomplete = _numbered(path)
    ours = [group for group in groups if group[0].startswith("model-")] or groups
    if len(ours) > 1:
        firsts = listed(group[0] for group in ours)
        raise CheckpointError(f"{path}: has several sets of files: {firsts}; leave one in the folder, or an {INDEX}")
    if ours:
        return ours[0]
    if incomplete:
        raise CheckpointError(f"{path}: files are not found: {listed(incomplete, MOST_NAMED)}; download them")
    names = sorted(file.name for file in path.glob("*.safetensors"))
    usual = [name for name in names if name.startswith(("model", "weights."))]
    if len(names) == 1 or usual:
        return usual or names
    raise no_weights(path)


def _numbered(path: Path) -> tuple[list[list[str]], list[str]]:
    """The complete sets of numbered files, and the files that the other sets lack."""
    sets: dict[tuple[str, str], dict[int, str]] = {}
    for file in sorted(path.glob("*-of-*.safetensors")):
        match = _NUMBERED.fullmatch(file.name)
        if match is not None:
            sets.setdefault((match[1], match[3]), {})[int(match[2])] = file.name
    complete, lacking = [], []
    for (stem, total), files in sets.items():
        first = min(min(files), 1)  # most writers count from 1, some from 0
        wanted = range(first, first + int(total))
        if set(wanted) == set(files):
            complete.append([files[number] for number in wanted])
        else:
            lacking += [
                f"{stem}-{number:0{len(total)}}-of-{total}.safetensors" for number in wanted if number not in files
            ]
    return complete, lacking


def no_weights(path: Path) -> CheckpointError:
    """The error for a folder without safetensors; the advice depends on the files that it holds instead."""
    names = sorted(item.name for item in path.iterdir())
    for name in names:
        if name.endswith(".gguf"):
            return CheckpointError(f"{path}: holds GGUF files and no {WEIGHTS}; give the file itself: {path / name}")
        if name.endswith((".bin", ".pt", ".pth")):
            return UnsupportedError(f"{path / name}: PyTorch weights are not supported; convert them to {WEIGHTS}")
    return CheckpointError(f"{path}: has neither {WEIGHTS} nor {INDEX}; download or convert it again")
