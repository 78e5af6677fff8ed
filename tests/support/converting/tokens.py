"""Greedy tokens by Onebuf, and how far mlx-lm is from choosing the same ones on the same checkpoint.

PYTHONPATH=.:tests python tests/support/converting/tokens.py FOLDER     # where mlx-lm is installed
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pipeline as p
from pipeline.generation.generator import Generator
from pipeline.generation.requests import Finished, Request
from pipeline.models import load_model


@dataclass
class Report:
    """worst_margin: the most that mlx-lm prefers another token by, in logits; 0 where all are equal."""

    tokens: int = 0
    different: int = 0
    worst_margin: float = 0.0


def greedy(folder, prompts, count: int) -> list[list[int]]:
    with p.open_checkpoint(folder) as checkpoint:
        model = load_model(checkpoint, device="cpu")
        model.end_tokens = ()
        events = Generator(model).run([Request(i, tuple(prompt), count) for i, prompt in enumerate(prompts)])
        done = {event.index: event.tokens for event in events if isinstance(event, Finished)}
    return [done[i] for i in range(len(prompts))]


def compare(folder, mx, utils, prompts, count: int) -> Report:
    """mx: mlx.core; utils: mlx_lm.utils."""
    model, _ = utils.load_model(Path(folder))
    report = Report()
    for prompt, chosen in zip(prompts, greedy(folder, prompts, count)):
        logits = np.array(model(mx.array([[*prompt, *chosen]]))[0].astype(mx.float32))
        for token, row in zip(chosen, logits[len(prompt) - 1 :]):
            report.tokens += 1
            report.different += int(row.argmax() != token)
            report.worst_margin = max(report.worst_margin, float(row.max() - row[token]))
    return report


if __name__ == "__main__":
    import mlx.core
    import mlx_lm.utils

    print(compare(sys.argv[1], mlx.core, mlx_lm.utils, [[1, 5, 9, 30], [2, 60, 41, 3, 8]], 64))
