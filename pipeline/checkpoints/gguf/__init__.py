"""GGUF, the file format of llama.cpp: header, tensors, configuration, tokenizer and chat templates of one file."""

from .checkpoint import GgufCheckpoint, open_gguf

__all__ = ["GgufCheckpoint", "open_gguf"]
