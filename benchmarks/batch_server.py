"""A batch of prompts of many lengths through Onebuf and through llama.cpp's server: one GGUF file, one client.

    python benchmarks/batch_server.py MODEL.gguf --llama-server PATH
    python benchmarks/batch_server.py MODEL.gguf --llama-server PATH --slots 16 --rows 60 --repeats 3

PATH is llama.cpp's program `llama-server`. Its sources are in the source package of llama-cpp-python
(`vendor/llama.cpp`; `cmake --build ... --target llama-server` makes it without network with LLAMA_USE_PREBUILT_UI=OFF).
Onebuf's side is a process of this script, which puts a scheduler behind the same request. Both have as many slots, the
same threads, an f16 cache, and keep no beginnings, because each prompt is of random tokens. The client sends each
prompt as tokens over HTTP to `/completion`, greedy and without end tokens, as many at a time as there are slots. The
sides take turns, and every repeat has new prompts. It prints tokens per second, of prompts and texts together, and the
median of the ratios.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pipeline as p  # noqa: E402
from pipeline.generation import Failed, Finished  # noqa: E402

Job = list[tuple[list[int], int]]  # the tokens of each prompt, and how many new ones


def job_of(vocab: int, rows: int, seed: int, context: int) -> Job:
    """Prompts of 10 to 1,500 tokens, as far as the context goes, with 5 to 300 new ones."""
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.uniform(np.log(10), np.log(1500), rows)).astype(int).clip(max=context - 301)
    return [(rng.integers(100, vocab, length).tolist(), int(rng.integers(5, 301))) for length in lengths]


class Service:
    """A scheduler in a thread of its own, to which other threads give requests and wait."""

    def __init__(self, scheduler: p.Scheduler) -> None:
        self._scheduler = scheduler
        self._news = threading.Condition()
        self._waiting: dict[int, threading.Event] = {}
        self._ends: dict[int, Finished | Failed] = {}
        self._count = 0
        threading.Thread(target=self._work, daemon=True).start()

    def complete(self, tokens: list[int], count: int) -> Finished | Failed:
        with self._news:
            index, over = self._count, threading.Event()
            self._count += 1
            self._waiting[index] = over
            self._scheduler.submit(p.Request(index, tuple(tokens), count))
            self._news.notify()
        over.wait()
        return self._ends.pop(index)

    def _work(self) -> None:
        while True:
            with self._news:
                while self._scheduler.idle:
                    self._news.wait()
            for event in self._scheduler.step():
                if isinstance(event, (Finished, Failed)):
                    self._ends[event.index] = event
                    self._waiting.pop(event.index).set()


def serve(options: argparse.Namespace) -> None:
    with p.open_checkpoint(options.model) as checkpoint:
        model = p.load_model(checkpoint, device="cpu", threads=options.threads)
        model.end_tokens = ()
        context = min(options.context, model.context)
        service = Service(p.Scheduler(model, batch_size=options.slots, context=context, shares=False))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:  # the name is the base class's
                self._answer({"status": "ok"})

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                end = service.complete(asked["prompt"], asked["n_predict"])
                self._answer(
                    {"tokens_predicted": len(end.tokens)} if isinstance(end, Finished) else {"error": end.error}
                )

            def _answer(self, values: dict[str, object]) -> None:
                body = json.dumps(values).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        ThreadingHTTPServer(("127.0.0.1", options.serve), Handler).serve_forever()


def client(port: int, job: Job, slots: int) -> float:
    """Sends the job, `slots` requests at a time; the seconds that it took."""
    local = threading.local()

    def one(prompt: tuple[list[int], int]) -> None:
        tokens, count = prompt
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
        asked = {"prompt": tokens, "n_predict": count, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        local.connection.request("POST", "/completion", json.dumps(asked), {"Content-Type": "application/json"})
        answer = json.loads(local.connection.getresponse().read())
        if answer.get("tokens_predicted") != count:
            raise SystemExit(f"asked for {count} tokens behind {len(tokens)}, got {str(answer)[:300]}")

    start = time.perf_counter()
    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(one, job))
    return time.perf_counter() - start


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def started(command: list[str], port: int) -> subprocess.Popen[bytes]:
    """The process, once it answers."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return process
        except OSError:
            pass
        time.sleep(0.2)
    process.kill()
    raise SystemExit(f"does not start: {' '.join(command)}")


def measure(options: argparse.Namespace) -> None:
    with p.open_checkpoint(options.model) as checkpoint:
        vocab = checkpoint.tokenizer().vocab_size
    ports = {"onebuf": free_port(), "llama.cpp": free_port()}
    sizes = ["--slots", str(options.slots), "--threads", str(options.threads), "--context", str(options.context)]
    ours = [sys.executable, __file__, options.model, "--serve", str(ports["onebuf"]), *sizes]
    cache = str(options.slots * options.context)
    theirs = [options.llama_server, "-m", options.model, "-np", str(options.slots), "-c", cache]
    theirs += ["-t", str(options.threads), "-tb", str(options.threads), "--port", str(ports["llama.cpp"])]
    processes = []
    try:
        processes += [started(ours, ports["onebuf"]), started(theirs, ports["llama.cpp"])]
        rates: dict[str, list[float]] = {name: [] for name in ports}
        for repeat in range(options.repeats + 1):
            job = job_of(vocab, options.rows if repeat else options.slots, repeat, options.context)
            tokens = sum(len(prompt) + count for prompt, count in job)
            for name, port in ports.items():
                seconds = client(port, job, options.slots)
                if repeat:  # the first is a warm-up
                    rates[name].append(tokens / seconds)
                    print(f"  repeat {repeat}: {name:9} {tokens / seconds:8,.0f} tokens/s of {tokens:,}", flush=True)
        for name, found in rates.items():
            print(f"{name:9} {statistics.median(found):8,.0f} tokens/s")
        ratios = [a / b for a, b in zip(rates["onebuf"], rates["llama.cpp"])]
        print(f"ratio     {statistics.median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    finally:
        for process in processes:
            process.terminate()


def end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    signal.signal(signal.SIGTERM, end)  # so that the servers end, too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a .gguf file")
    parser.add_argument("--llama-server", help="the program")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--context", type=int, default=1856, help="positions of a slot")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--serve", type=int, metavar="PORT", help="be Onebuf's side")
    options = parser.parse_args()
    if options.serve is not None:
        serve(options)
    elif options.llama_server is None:
        parser.error("--llama-server: give the program to compare with")
    else:
        measure(options)


if __name__ == "__main__":
    main()
