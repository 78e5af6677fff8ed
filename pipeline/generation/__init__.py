"""Generation: prompts in, tokens out."""

from .._lazy import lazy

_HOMES = {
    "Generator": ".generator",
    "cache_bytes": ".generator",
    "Event": ".requests",
    "Failed": ".requests",
    "Finished": ".requests",
    "Prefilled": ".requests",
    "Request": ".requests",
    "Stats": ".requests",
    "Token": ".requests",
    "TraceEvent": ".requests",
    "Handle": ".requests",
    "Scheduler": ".scheduler",
    "Sampling": ".settings",
    "Perplexity": ".scoring",
    "Score": ".scoring",
    "perplexity": ".scoring",
    "score": ".scoring",
    "load_model": "..models.families",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOMES)
