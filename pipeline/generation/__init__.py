"""Generation: prompts in, tokens out."""

from ..models import load_model
from .generator import Generator, cache_bytes
from .requests import Failed, Finished, Prefilled, Request, Stats, Token, TraceEvent
from .settings import Sampling

__all__ = [
    "Failed",
    "Finished",
    "Generator",
    "Prefilled",
    "Request",
    "Sampling",
    "Stats",
    "Token",
    "TraceEvent",
    "cache_bytes",
    "load_model",
]
