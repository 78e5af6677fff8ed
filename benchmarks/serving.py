"""The server's streams beside a batch job of the same prompts, and the first token under load.

    python benchmarks/serving.py                        the built-in model
    python benchmarks/serving.py --shape --streams 16   two layers of Qwen3-30B-A3B's shape in 4 bits, random weights

Both sides run the same prompts with as many sequences at a time, greedy, in turns: the batch job in a process of
`pipeline.run`, whose summary has its seconds; the server in a process of `pipeline.serve`, with as many clients as
sequences, each of which reads streams one after the other. It prints tokens per second of both, and the ratio. Then
rows decode while a long prompt comes: its first token is compared with the time of the steps in which its tokens go
through, which is measured without a server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import pipeline as p
from pipeline.benching.shapes import cut_shape
from pipeline.benching.weights import ensure_checkpoint
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.generation import Prefilled


def shape_folder(target: Path) -> Path:
    """A folder of random weights with the built-in tokenizer."""
    weights = ensure_checkpoint(cut_shape("qwen3-30b-a3b", 2, 8192), print)
    for file in weights.iterdir():
        (target / file.name).symlink_to(file)
    shutil.copy(builtin_model() / "tokenizer.json", target)
    return target


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[tuple[str, int, int]]:
    """A server's host, port and process id."""
    command = [sys.executable, "-m", "pipeline.serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    if " at http://" not in line:
        raise SystemExit(line + process.stderr.read())
    host, _, port = line.split(" at http://")[1].split(",")[0].rpartition(":")
    reader = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    try:
        yield host, int(port), process.pid
    finally:
        process.terminate()
        process.wait()
        reader.kill()


async def stream(host: str, port: int, body: dict[str, object]) -> tuple[int, float]:
    """(tokens of the stream, seconds to its first piece)."""
    start, first = time.perf_counter(), 0.0
    reader, writer = await asyncio.open_connection(host, port)
    content = json.dumps(body | {"stream": True, "stream_options": {"include_usage": True}}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    received = bytearray()
    while block := await reader.read(1 << 16):
        received += block
        if not first and b"data: " in received:
            first = time.perf_counter() - start
    writer.close()
    usage = received.rpartition(b'"completion_tokens":')[2]
    return int(usage.partition(b",")[0]), first


def batch_job(model: Path, prompts: list[dict[str, object]], slots: int) -> float:
    """Tokens per second of a batch job, in the seconds in which it had something to do."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "in.jsonl")
        file.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
        out = str(Path(folder, "out.jsonl"))
        command = [sys.executable, "-m", "pipeline.run", "--model", str(model), "--prompts", str(file), "--out", out]
        command += ["--batch-size", str(slots), "--json"]
        summary = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(summary["generated_tokens"] / (summary["prefill_seconds"] + summary["decode_seconds"]))


async def streams(host: str, port: int, prompts: list[dict[str, object]], slots: int) -> float:
    """Tokens per second of streams, `slots` at a time."""
    waiting, tokens = iter(prompts), 0

    async def client() -> None:
        nonlocal tokens
        for prompt in waiting:
            count, _ = await stream(host, port, prompt)
            tokens += count

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(slots)))
    return tokens / (time.perf_counter() - start)


def mixed_step(model: Path, slots: int, prompt: int, context: int) -> tuple[float, int]:
    """The median time of a step with tokens of a prompt beside `slots - 1` rows, and how many such steps it takes."""
    with p.open_checkpoint(model) as checkpoint:
        loaded = p.load_model(checkpoint)
        rng = np.random.default_rng(0)
        scheduler = p.Scheduler(loaded, batch_size=slots, context=context)
        for i in range(slots - 1):
            scheduler.submit(p.Request(i, tuple(rng.integers(1, 4000, 8).tolist()), context - 9))
        for _ in range(10):
            scheduler.step()
        times = []
        for _ in range(5):
            handle = scheduler.submit(p.Request(99, tuple(rng.integers(1, 4000, prompt).tolist()), 1))
            steps = 0
            while handle.end is None:
                start = time.perf_counter()
                events = scheduler.step()
                if any(isinstance(event, Prefilled) and event.index == 99 for event in events):
                    times.append(time.perf_counter() - start)
                    steps += 1
        return statistics.median(times), steps


async def first_under_load(host: str, port: int, slots: int, prompt: int, context: int) -> list[float]:
    rng = np.random.default_rng(1)
    others = [
        asyncio.create_task(stream(host, port, {"prompt": f"Number {i}", "max_tokens": context - 20, "temperature": 0}))
        for i in range(slots - 1)
    ]
    await asyncio.sleep(0.3)
    times = []
    for _ in range(5):
        body = {"prompt": rng.integers(1, 4000, prompt).tolist(), "max_tokens": 2, "temperature": 0}
        times.append((await stream(host, port, body))[1])
    for other in others:
        other.cancel()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="store_true", help="two layers of Qwen3-30B-A3B's shape")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=100, help="per prompt")
    parser.add_argument("--long", type=int, default=400, help="tokens of the prompt that comes under load")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    slots, context = options.streams, 1000
    prompts: list[dict[str, object]] = [
        {"prompt": f"Story {i} of a", "max_tokens": options.tokens, "temperature": 0} for i in range(options.prompts)
    ]
    with tempfile.TemporaryDirectory() as folder:
        model = shape_folder(Path(folder)) if options.shape else builtin_model()
        arguments = ["--model", str(model), "--batch-size", str(slots), "--context", str(context)]
        with server(*arguments) as (host, port, _):
            asyncio.run(streams(host, port, prompts, slots))
            ratios = []
            for repeat in range(options.repeats):
                job, served = batch_job(model, prompts, slots), asyncio.run(streams(host, port, prompts, slots))
                ratios.append(served / job)
                print(f"  repeat {repeat}: batch job {job:8,.0f} tok/s, streams {served:8,.0f} tok/s", flush=True)
            print(f"ratio at {slots} streams {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
            seconds, steps = mixed_step(model, slots, options.long, context)
            times = asyncio.run(first_under_load(host, port, slots, options.long, context))
        least = seconds * steps
        print(f"a prompt of {options.long} tokens beside {slots - 1} rows: {steps} steps of {seconds * 1e3:.1f} ms")
        print(
            f"first token under load {statistics.median(times) * 1e3:.1f} ms, {statistics.median(times) / least:.2f} ×"
        )


if __name__ == "__main__":
    main()
