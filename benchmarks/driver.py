"""How many rows per second the process of a run takes in, whose workers answer at once: what bounds a run on Ray.

    python benchmarks/driver.py [--ray] [--rows 4000] [--tokens 256] [--words 100]

It reads prompts, makes tokens of them, sends orders, takes answers and writes rows as any run does. Without --ray the
workers are in this process, so the figures are those of the run's own work; with it they are actors of a local Ray.
"""

import argparse
import json
import resource
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path

from pipeline import run
from pipeline.generation.requests import Finished
from pipeline.ray import cluster, engine
from pipeline.ray.orders import Answer
from pipeline.ray.worker import Worker

TOKENS = 0  # of each text


class Instant(Worker):
    """A worker that has its answers ready."""

    async def answer(self, order):
        count = order.request.max_tokens
        return Answer(Finished(order.request.index, [5] * count, [-1.2345678] * count, "length"), 1, None)


class Hand:
    """A way to such a worker in this process."""

    def __init__(self, worker):
        self._worker = worker

    def call(self, name, *arguments):
        done = Future()
        try:
            getattr(self._worker, name)(*arguments).send(None)
        except StopIteration as end:
            done.set_result(end.value)
        return done

    def kill(self):
        pass


class Here:
    """The place of a cluster."""

    def __init__(self, address):
        pass

    def places(self, device, per_machine):
        return [cluster.Place("here", "here", 1)]

    def actor(self, place, setup):
        return Hand(Prompt(setup))

    def close(self):
        pass


class Prompt(Instant):
    """Without a thread for what takes long."""

    async def load(self):
        return self._loaded()

    async def prepare(self, room):
        return self._prepared(room)

    async def expert_counts(self):
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--words", type=int, default=100)
    options = parser.parse_args()
    if options.ray:
        cluster.Worker = Instant
    else:
        engine.Cluster = Here
    with tempfile.TemporaryDirectory() as folder:
        prompts, out = Path(folder, "p.jsonl"), Path(folder, "o.jsonl")
        line = json.dumps({"prompt": "the fox " * (options.words // 2), "max_tokens": options.tokens}) + "\n"
        prompts.write_text(line * options.rows)
        first = ["--prompts", prompts, "--out", out, "--overwrite", "--batch-size", "16", "--context", "1000"]
        began = time.monotonic()
        code = run.main([*map(str, first), "--json", "--ray", "local", "--threads", "1", "--order", "finished"])
        assert code == 0
        seconds, size = time.monotonic() - began, out.stat().st_size
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{options.rows / seconds:,.0f} rows/s, {options.rows * options.tokens / seconds:,.0f} tok/s, "
        f"{size / seconds / 1e6:.1f} MB/s written, {(used.ru_utime + used.ru_stime) / options.rows * 1e3:.2f} ms of "
        f"processor per row, {size / options.rows:,.0f} bytes per row, {used.ru_maxrss >> 10} MiB"
    )


if __name__ == "__main__":
    main()
