"""The peers that a benchmark can be compared with, and the packages that they need."""

from __future__ import annotations

import importlib.util

from ..errors import UsageError

__all__ = ["LLAMA_CPP", "PEERS", "TORCH", "require"]

LLAMA_CPP, TORCH = PEERS = ("llama.cpp", "torch")
_PACKAGES = {  # module: package
    LLAMA_CPP: {"llama_cpp": "llama-cpp-python"},
    TORCH: {"torch": "torch", "transformers": "transformers"},
}
_GGUF = {"gguf": "gguf"}  # writes GGUF files for llama.cpp, and reads them for transformers


def require(peer: str, *, gguf: bool, gpu: bool) -> None:
    """Raises UsageError where the peer is unknown, or a package that it needs is not installed.

    gguf: whether the model is a GGUF file.
    gpu: whether the peer is meant to run on a GPU.
    """
    if peer not in PEERS:
        raise UsageError(f"--peer {peer}: unknown; peers are {', '.join(PEERS)}")
    needed = _PACKAGES[peer] | ({} if gguf == (peer == LLAMA_CPP) else _GGUF)
    absent = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if absent:
        variables = 'CMAKE_ARGS="-DGGML_CUDA=on" ' if gpu and "llama-cpp-python" in absent else ""
        raise UsageError(f"--peer {peer}: not installed here; {variables}pip install {' '.join(absent)}")
