"""The peers that a benchmark can be compared with, and the packages that they need."""

from __future__ import annotations

import importlib.util

from ..errors import UsageError

__all__ = ["PEERS", "require"]

PEERS = ("llama.cpp",)
_PACKAGES = {"llama_cpp": "llama-cpp-python"}  # module: package
_WRITERS = {"gguf": "gguf"}  # for a model that is no GGUF file


def require(peer: str, *, gguf: bool) -> None:
    """Raises UsageError where the peer is unknown, or a package that it needs is not installed.

    gguf: whether the model is a GGUF file.
    """
    if peer not in PEERS:
        raise UsageError(f"--peer {peer}: unknown; peers are {', '.join(PEERS)}")
    needed = _PACKAGES if gguf else _PACKAGES | _WRITERS
    absent = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if absent:
        raise UsageError(f"--peer {peer}: not installed here; pip install {' '.join(absent)}")
