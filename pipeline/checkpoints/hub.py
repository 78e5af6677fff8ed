"""Models by their names on the Hugging Face hub: from its cache on this machine, else downloaded into that cache.

org/name, org/name@REVISION, and org/name/FILE.gguf where a repository has several. What is in the cache is used without
asking the hub. Downloading needs the package huggingface_hub, which shows progress and goes on with what is there.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import CheckpointError, UsageError
from ..printing import one_line
from .config import read_json
from .files import exists, read_file

__all__ = ["hub_path", "is_hub_name", "model_name", "needed_files"]

_NAME = re.compile(r"([\w][\w.-]*/[\w][\w.-]*?)(/[\w./ -]+\.gguf)?(?:@([\w][\w./-]*))?", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{40}")
_FOLDER = re.compile(r"models--(.+?)--(.+)")
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
INDEX = "model.safetensors.index.json"
SMALL = (".json", ".jinja", ".txt", ".model", ".tiktoken")
MOST_REF_BYTES = 1000


def is_hub_name(text: str) -> bool:
    """Whether it could be a name on the hub."""
    return _NAME.fullmatch(text) is not None and not text.endswith(".") and ".." not in text


def hub_path(text: str) -> Path:
    """The folder of the model `text`, or its GGUF file, in the cache. UsageError where it cannot be had."""
    found = _NAME.fullmatch(text)
    assert found is not None, text
    repository, file, revision = found[1], (found[2] or "")[1:], found[3] or "main"
    snapshot = _cached(repository, revision)
    if snapshot is not None:
        there = _complete(snapshot, file)
        if there is not None:
            return there
    return _downloaded(text, repository, revision, file)


def model_name(path: Path) -> str:
    """The name that a model goes by: of a snapshot in the hub's cache the repository's, else that of folder or file."""
    for folder in (path, path.parent):
        repository = _FOLDER.fullmatch(folder.parent.parent.name)
        if folder.parent.name == "snapshots" and repository:
            name = f"{repository[1]}/{repository[2]}"
            return name if folder == path else f"{name}/{path.name}"
    return path.resolve().name


def _cache() -> Path:
    """Where huggingface_hub keeps models."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def _cached(repository: str, revision: str) -> Path | None:
    """The snapshot of a revision; None where the cache has none."""
    folder = _cache() / f"models--{repository.replace('/', '--')}"
    try:
        if _HASH.fullmatch(revision):
            commit = revision
        else:
            commit = read_file(folder / "refs" / revision, MOST_REF_BYTES).decode().strip()
    except (OSError, CheckpointError, UnicodeDecodeError):
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if _HASH.fullmatch(commit) and snapshot.is_dir() else None


def _complete(snapshot: Path, file: str) -> Path | None:
    """The folder or the file to open, where all of it is in the snapshot; links to blobs that are not there count as
    absent."""
    names = [str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if exists(path)]
    try:
        wanted = needed_files(names, file)
    except UsageError:
        return None
    if not wanted:
        return None
    gguf = [name for name in wanted if name.endswith(".gguf")]
    if gguf:
        parts = re.search(r"-of-(\d{5})\.gguf$", gguf[0])
        return snapshot / gguf[0] if parts is None or len(gguf) == int(parts[1]) else None
    weights = {name for name in wanted if name.endswith(".safetensors")}
    if INDEX in names:
        listed = read_json(snapshot / INDEX).get("weight_map")
        if isinstance(listed, dict) and not set(map(str, listed.values())) <= weights:
            return None
    elif any(re.search(r"-of-0*([2-9]|\d\d+)\.", name) for name in weights):
        return None  # shards, and no index that says how many
    tokenizer = any(name.startswith(("tokenizer.", "tiktoken", "vocab")) for name in wanted)
    return snapshot if "config.json" in wanted and weights and tokenizer else None


def needed_files(names: Iterable[str], file: str = "") -> list[str]:
    """Of the names of a repository's files, those that a model needs: safetensors and what stands beside them, without
    copies in other formats; else a GGUF file, or its parts. UsageError where there are several of these, and `file`
    chooses none; empty where there is neither."""
    names = sorted(names)
    ggufs = [name for name in names if name.endswith(".gguf") and not Path(name).name.startswith("mmproj")]
    root = [name for name in names if "/" not in name]
    weights = [name for name in root if name.endswith(".safetensors")]
    usual = [name for name in weights if name.startswith(("model", "weights")) and not name.startswith("model.fp")]
    if file or not (weights and "config.json" in root):
        if file and file not in ggufs:
            raise UsageError(f"{file}: is not in the repository; it has {_listed(ggufs)}")
        sets: dict[str, list[str]] = {}
        for name in ggufs:
            sets.setdefault(_PART.sub("", name), []).append(name)
        if file:
            return sets[_PART.sub("", file)]
        if len(sets) > 1:
            raise UsageError(
                f"has several GGUF files; choose one behind its name: {_listed(s[0] for s in sets.values())}"
            )
        return next(iter(sets.values()), [])
    chosen = usual or [name for name in weights if not name.startswith("consolidated")]
    small = [name for name in root if name.endswith(SMALL) and not name.endswith(".index.json")]
    more = [name for name in names if re.fullmatch(r"additional_chat_templates/[^/]+\.jinja", name)]
    return [*small, *more, *chosen, *([INDEX] if INDEX in root else [])]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "none"


def _downloaded(text: str, repository: str, revision: str, file: str) -> Path:
    try:
        import huggingface_hub  # an extra
    except ImportError:
        raise UsageError(
            f"{text}: no such folder or file, and no whole model of that name in the hub's cache ({_cache()}); to "
            "download it, pip install 'onebuf[hub]'"
        ) from None
    try:
        info = huggingface_hub.HfApi().model_info(repository, revision=revision)
        names = [each.rfilename for each in info.siblings or []]
        wanted = needed_files(names, file)
        if not wanted:
            raise UsageError("has neither safetensors with a config.json nor a GGUF file; other formats are not read")
        patterns = [glob.escape(name) for name in wanted]
        folder = Path(
            huggingface_hub.snapshot_download(repository, revision=info.sha or revision, allow_patterns=patterns)
        )
        _note(repository, revision, info.sha)
    except UsageError as error:
        raise UsageError(f"{text}: {error}") from None
    except Exception as error:  # of the network, of the hub, of the disk: many kinds
        raise UsageError(f"{text}: {_reason(error, repository, revision)}") from error
    there = _complete(folder, file)
    if there is None:
        raise UsageError(f"{text}: the hub's repository lacks files that a model needs; it has {_listed(names)}")
    return there


def _note(repository: str, revision: str, commit: str | None) -> None:
    """Notes which commit a branch was, as huggingface_hub does it, so that the cache is enough next time."""
    if commit is None or commit == revision:
        return
    file = _cache() / f"models--{repository.replace('/', '--')}" / "refs" / revision
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(commit)


def _reason(error: Exception, repository: str, revision: str) -> str:
    """What to do about an error of huggingface_hub, whose classes are known by their names."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in names:
        return f"asks for consent; give it at https://huggingface.co/{repository}, and set HF_TOKEN"
    if "RevisionNotFoundError" in names:
        return f"the hub has no revision {revision} of it"
    if "RepositoryNotFoundError" in names:
        return "no such folder or file, and no such model on the hub, or a private one; for that, set HF_TOKEN"
    if "OfflineModeIsEnabled" in names or "LocalEntryNotFoundError" in names:
        return "is not in the hub's cache, and HF_HUB_OFFLINE is set or the hub cannot be reached"
    return (
        "no such folder or file, and it cannot be had from the hub: "
        f"{one_line(str(error), 200) or type(error).__name__}; the same command again goes on from there"
    )
