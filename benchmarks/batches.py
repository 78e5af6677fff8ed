"""Batches with the scheduler's ways and without them: beginnings that are shared, and prompts beside rows that decode.

    python benchmarks/batches.py
    python benchmarks/batches.py --model path/to/checkpoint --rows 1000

Both sides take the same requests in turns, in one run. "plain" computes every prompt whole, alone, while rows that
decode wait. It prints medians, ratios, and whether the texts are the same. With --memory it prints what a cache for 64
sequences of the model's context takes that have 200 positions each, beside the whole cache.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.generation import Finished
from pipeline.generation.scheduler import Scheduler
from pipeline.models import Model

SIDES = {"plain": {"shares": False, "prompt_rows": 0}, "scheduler": {}}


def prefix_job(vocab: int, rows: int) -> list[p.Request]:
    """Prompts that share 400 tokens and have 20 of their own, with 20 new tokens each."""
    rng = np.random.default_rng(0)
    common = rng.integers(1, vocab, 400).tolist()
    return [p.Request(i, (*common, *rng.integers(1, vocab, 20).tolist()), 20) for i in range(rows)]


def mixed_job(vocab: int, rows: int, context: int) -> list[p.Request]:
    """Prompts of 10 to 1,500 tokens, as far as the context goes, with 5 to 300 new ones."""
    rng = np.random.default_rng(1)
    made = []
    for i in range(rows):
        length = min(int(np.exp(rng.uniform(np.log(10), np.log(1500)))), context - 301)
        made.append(p.Request(i, tuple(rng.integers(1, vocab, length).tolist()), int(rng.integers(5, 301))))
    return made


def measure(model: Model, requests: list[p.Request], batch: int, repeats: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    texts: dict[str, list[tuple[int, list[int]]]] = {}
    context = min(model.context, max(len(each.tokens) + each.max_tokens for each in requests))
    for _ in range(repeats):
        for name, options in SIDES.items():
            generator = p.Generator(model, batch_size=batch, context=context, **options)
            start = time.perf_counter()
            events = list(generator.run(requests))
            seconds[name].append(time.perf_counter() - start)
            texts[name] = sorted((event.index, event.tokens) for event in events if isinstance(event, Finished))
    tokens = sum(len(made) for _, made in texts["plain"]) + sum(len(each.tokens) for each in requests)
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"  {name:10} {median:7.2f} s, {len(requests) / median:7.1f} rows/s, {tokens / median:8,.0f} tokens/s")
    ratio = statistics.median(a / b for a, b in zip(seconds["plain"], seconds["scheduler"]))
    print(f"  ratio {ratio:.2f}, texts {'the same' if texts['plain'] == texts['scheduler'] else 'DIFFERENT'}")


def memory(model: Model) -> None:
    scheduler = Scheduler(model, batch_size=64)
    rng = np.random.default_rng(2)
    for i in range(64):
        scheduler.submit(p.Request(i, tuple(rng.integers(1, model.vocab_size, 150).tolist()), 50))
    most, before = 0, resident()
    while not scheduler.idle:
        scheduler.step()
        most = max(most, scheduler._batch.paging.nbytes)
    whole = scheduler._batch.parts.cache.nbytes
    grown = resident() - before
    print(f"  blocks in use {most:,} bytes of {whole:,} ({most / whole:.1%}); the process grew by {grown:,} bytes")


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    with p.open_checkpoint(options.model or builtin_model()) as checkpoint:
        model = p.load_model(checkpoint, device=options.device)
    model.end_tokens = ()
    print("memory of 64 sequences of 200 positions")
    memory(model)
    print(f"{options.rows} prompts that share 400 tokens, batch {options.batch}")
    measure(model, prefix_job(model.vocab_size, options.rows), options.batch, options.repeats)
    print(f"{options.rows // 2} prompts of many lengths, batch {options.batch}")
    measure(model, mixed_job(model.vocab_size, options.rows // 2, model.context), options.batch, options.repeats)


if __name__ == "__main__":
    main()
