"""Checkpoints: Hugging Face's and MLX's folders and GGUF files, with their tokenizers and chat templates."""

from .._lazy import lazy

_HOMES = {
    "Chat": ".chat",
    "Checkpoint": ".checkpoint",
    "NAMES": ".named",
    "TensorInfo": ".tensor_info",
    "TextStream": ".tokenizer",
    "Tokenizer": ".tokenizer",
    "builtin_model": ".storyteller",
    "model_path": ".named",
    "open_checkpoint": ".opening",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOMES)
