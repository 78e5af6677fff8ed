"""One conversion from the command line: the checkpoint is opened, the work planned, done and reported."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ..checkpoints.opening import open_checkpoint
from ..host import cores
from ..models.families import surveyed
from . import conversion
from .agreement import agree
from .elsewhere import differences
from .progress import make_progress
from .settings import Settings

__all__ = ["convert"]


def convert(source: Path, out: str, **options: Any) -> None:
    """Writes the checkpoint at `source` to `out`, a folder or a GGUF file; `options` are those of Settings.of.
    KeyboardInterrupt says that the same command goes on.

    CheckpointError and UnsupportedError for one that could not be run: what is written can be."""
    settings = Settings.of(out, **options)
    started = time.monotonic()
    with open_checkpoint(source) as checkpoint:
        work = conversion.plan(checkpoint, Path(out), settings)
        model, survey = surveyed(checkpoint)
        survey.check()
        if settings.gguf:
            agree(work, model)
            for sentence in differences(checkpoint.config):
                print(f"onebuf: note: {sentence}", file=sys.stderr)
        with make_progress() as progress:
            try:
                conversion.run(work, cores(), progress)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("; the same command again goes on from there") from None
        with open_checkpoint(out) as made:
            surveyed(made)[1].check()
        progress.done(work, time.monotonic() - started)
