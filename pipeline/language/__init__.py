"""A model as texts in and texts out: prompts and conversations, whole texts, streams and scores."""

from .._lazy import lazy

_HOMES = {
    "AsyncStream": ".streams",
    "LanguageModel": ".model",
    "Stream": ".streams",
    "Text": ".texts",
    "load": ".loading",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOMES)
