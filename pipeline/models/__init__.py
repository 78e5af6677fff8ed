"""Model families: one file per family states its configuration, weights and forward pass."""

from .._lazy import lazy

_HOMES = {
    "Decoder": ".decoder",
    "DecoderLayer": ".decoder",
    "Model": ".decoder",
    "FAMILIES": ".families",
    "family_of": ".families",
    "load_model": ".families",
    "surveyed": ".families",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOMES)
