"""The requests that a job makes of the generator, one per text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..checkpoints.tokenizer import Tokenizer
from ..generation.requests import Request
from ..generation.settings import row_seed
from ..generation.stopping import watch
from .jobs import Job
from .settings import CheckedSettings

__all__ = ["request_of"]


def request_of(
    job: Job, sample: int, number: int, settings: CheckedSettings, tokenizer: Tokenizer, kind: type[Request] = Request
) -> Request:
    """The request of one text of a job, with the settings of its line and, where it has none, the run's. A text that is
    not the job's first has a seed made of that one's."""
    own = dict(job.prompt.settings)
    own.pop("max_tokens", None)  # is the job's
    temperature = own.pop("temperature", settings.temperature)
    seed = own.pop("seed", None)
    seed = row_seed(settings.seed, job.prompt.index) if seed is None else seed
    more: dict[str, Any] = {"grammar": job.grammar} if job.grammar is not None else {}
    return kind(
        number,
        job.tokens,
        job.max_tokens,
        temperature,
        row_seed(seed, sample - 1) if sample else seed,
        replace(settings.sampling, **own) if own else settings.sampling,
        watch(tokenizer, job.stop, job.before),
        **more,
    )
