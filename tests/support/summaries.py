"""A summary of a run, as the command line makes it."""

from pathlib import Path
from types import SimpleNamespace

import numpy

from pipeline.cli.settings import Settings
from pipeline.cli.summary import make_summary
from pipeline.generation.scoring import Perplexity


def summary(counts=((1, 3), (2, 2)), evaluation=None, **changes):
    stats = SimpleNamespace(
        **{
            "prompt_tokens": 6,
            "generated_tokens": 20,
            "prefill_seconds": 0.01,
            "decode_seconds": 0.02,
            "decode_tokens": 20,
            "command_buffers": 20,
            "readback_bytes": 160,
            "expert_counts": numpy.array(counts),
        }
        | changes
    )
    device = SimpleNamespace(name="cpu", isa="avx2", threads=2)
    model = SimpleNamespace(device=device, dispatches_per_layer=10, mapped_bytes=1_500_000, repacked_bytes=0)
    scores = Perplexity(10, 23.0)
    session = SimpleNamespace(prompts=1, failed=0, prefill_tokens=5, scores=scores)
    settings = Settings(model=Path("storyteller"), prompt="x", temperature=0.0, seed=3, eval=evaluation)
    return make_summary(settings, model, stats, session, 0.125)
