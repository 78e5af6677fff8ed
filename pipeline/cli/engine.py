"""The part of pipeline.generation that a run uses, so that tests can put another generator in its place."""

from __future__ import annotations

from typing import Protocol, cast

from .. import generation
from ..checkpoints.checkpoint import Checkpoint
from ..generation.generator import Generator
from ..generation.requests import Failed, Finished, Prefilled, Request, Token
from ..models.decoder import Decoder

__all__ = ["Engine", "package_engine"]


class Engine(Protocol):
    """Names of pipeline.generation."""

    Failed: type[Failed]
    Finished: type[Finished]
    Generator: type[Generator]
    Prefilled: type[Prefilled]
    Request: type[Request]
    Token: type[Token]

    def load_model(
        self, checkpoint: Checkpoint, *, device: str = "auto", threads: int = 0, isa: str | None = None
    ) -> Decoder: ...

    def cache_bytes(self, model: Decoder, batch_size: int, context: int, kv_cache: str = "f16") -> int: ...


def package_engine() -> Engine:
    """The package's own generator."""
    return cast(Engine, generation)  # a module that loads its names when they are used, which mypy cannot follow
