"""The options of a run that scores texts, and makes none: --eval perplexity."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError

__all__ = ["PERPLEXITY", "check_evaluation"]

PERPLEXITY = "perplexity"

# Options that are for texts that are made, and their values where nobody gave them.
_OF_GENERATION: dict[str, object] = {
    "prompt": None,
    "chat": False,
    "system": None,
    "stop": (),
    "n": 1,
    "max_tokens": None,
    "temperature": None,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "repetition_window": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logit_bias": {},
    "logprobs": 0,
    "prompt_logprobs": None,
    "seed": None,
    "trace": None,
    "explain": False,
}


def check_evaluation(settings: Any) -> None:
    """Raises UsageError that names what does not go with --eval, or needs it."""
    if settings.eval is None:
        for option, value in (("--text", settings.text), ("--stride", settings.stride)):
            if value is not None:
                raise UsageError(f"{option}: is for texts that are scored; give --eval {PERPLEXITY}, too")
        return
    if settings.eval != PERPLEXITY:
        raise UsageError(f"--eval {settings.eval}: unknown; give {PERPLEXITY}")
    for name, unset in _OF_GENERATION.items():
        value = getattr(settings, name)
        if (tuple(value) if name == "stop" else value) != unset:
            raise UsageError(
                f"--{name.replace('_', '-')}: changes nothing with --eval, which makes no text; leave it out"
            )
    if (settings.prompts is None) == (settings.text is None):
        raise UsageError(
            "--eval: give either --prompts FILE, each a text of its own, or --text FILE, which is one text"
        )
    if settings.text is not None and settings.out is not None:
        raise UsageError("--out: has a row per prompt; with --text there is one result, which --json prints")
    if settings.context is not None and settings.context < 2:
        raise UsageError(f"--context {settings.context}: too small; a window that is scored has at least 2 tokens")
    if settings.stride is not None and settings.stride < 1:
        raise UsageError(f"--stride {settings.stride}: too small; give at least 1")
