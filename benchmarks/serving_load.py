"""The server under clients of all kinds: readers, readers that vanish, slow ones, and such that send garbage.

    python benchmarks/serving_load.py --seconds 300 --clients 64

Each client does one thing after the other, drawn at random: it reads a stream or a whole answer to its end, which must
be complete and, for a prompt that ran before, the same text; it leaves in the middle; it reads a few bytes per second;
it sends damaged bodies or headers, or hangs up within a body. At the end it prints how often each happened, statuses,
seconds to the first piece, and what the server had left: rows, blocks, and memory at the first tenth and at the end. It
exits with 1 where a status was 500 or above, a text differed, or something was left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import sys
import time
from collections import Counter

from serving import server

HEAD = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
KINDS = ("stream", "whole", "vanish", "slow", "garbage", "cut")
GARBAGE = (
    b"{",
    b"\xff\x00",
    b'{"prompt": 5}',
    b'{"prompt": "x", "max_tokens": -3}',
    b"[" * 5000,
    b'{"prompt": "x", "n": 10000}',
    b'{"messages": [{"role": "user"}]}',
)


class Load:
    def __init__(self, host: str, port: int, rng: random.Random) -> None:
        self.host, self.port, self.rng = host, port, rng
        self.done: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.texts: dict[str, str] = {}
        self.wrong: list[str] = []
        self.first: list[float] = []

    async def client(self, until: float) -> None:
        while time.monotonic() < until:
            kind = self.rng.choice(KINDS)
            try:
                await getattr(self, kind)()
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                if kind in ("stream", "whole"):
                    self.wrong.append(f"{kind}: {type(error).__name__}")
            self.done[kind] += 1

    async def opened(self, content: bytes, declared: int | None = None) -> asyncio.StreamReader:
        reader, self_writer = await asyncio.open_connection(self.host, self.port)
        reader.writer = self_writer  # type: ignore[attr-defined]  # whoever closes it needs it
        length = len(content) if declared is None else declared
        self_writer.write(f"{HEAD}Content-Length: {length}\r\n\r\n".encode() + content)
        return reader

    async def status(self, reader: asyncio.StreamReader) -> str:
        line = (await reader.readline()).decode()
        status = line.split(" ")[1] if " " in line else "none"
        self.statuses[status] += 1
        return status

    def body(self, **more: object) -> tuple[str, bytes]:
        prompt = f"Story {self.rng.randrange(40)} of a"
        asked = {"prompt": prompt, "max_tokens": 60, "temperature": 1, "seed": 5, **more}
        return prompt, json.dumps(asked).encode()

    def same(self, prompt: str, text: str) -> None:
        if self.texts.setdefault(prompt, text) != text:
            self.wrong.append(f"{prompt}: another text")

    async def stream(self) -> None:
        prompt, content = self.body(stream=True)
        start = time.perf_counter()
        reader = await self.opened(content)
        if await self.status(reader) == "200":
            await reader.readuntil(b"data: ")
            self.first.append(time.perf_counter() - start)
            text = (b"data: " + await reader.read()).decode()
            if "data: [DONE]" not in text:
                self.wrong.append(f"{prompt}: a stream without its end")
            chunks = re.findall(r'^data: (\{.*"choices".*\})\r?$', text, re.M)
            self.same(prompt, "".join(json.loads(chunk)["choices"][0]["text"] for chunk in chunks))
        reader.writer.close()  # type: ignore[attr-defined]

    async def whole(self) -> None:
        prompt, content = self.body()
        reader = await self.opened(content)
        if await self.status(reader) == "200":
            self.same(prompt, json.loads((await reader.read()).partition(b"\r\n\r\n")[2])["choices"][0]["text"])
        reader.writer.close()  # type: ignore[attr-defined]

    async def vanish(self) -> None:
        reader = await self.opened(self.body(stream=self.rng.random() < 0.5, max_tokens=900)[1])
        await asyncio.sleep(self.rng.random())
        reader.writer.transport.abort()  # type: ignore[attr-defined]

    async def slow(self) -> None:
        reader = await self.opened(self.body(stream=True, max_tokens=300)[1])
        for _ in range(self.rng.randrange(1, 6)):
            await reader.read(40)
            await asyncio.sleep(1)
        reader.writer.close()  # type: ignore[attr-defined]

    async def garbage(self) -> None:
        reader = await self.opened(self.rng.choice(GARBAGE))
        await self.status(reader)
        reader.writer.close()  # type: ignore[attr-defined]

    async def cut(self) -> None:
        reader = await self.opened(self.body()[1][: self.rng.randrange(1, 30)], declared=5000)
        await asyncio.sleep(0.2 * self.rng.random())
        reader.writer.transport.abort()  # type: ignore[attr-defined]


async def metrics(host: str, port: int) -> dict[str, float]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return {name: float(value) for name, value in re.findall(r"^(onebuf_\S+) (\S+)$", text, re.M)}


def resident(process: int) -> float:
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


async def run(host: str, port: int, process: int, options: argparse.Namespace) -> bool:
    load = Load(host, port, random.Random(options.seed))
    until = time.monotonic() + options.seconds
    clients = [asyncio.create_task(load.client(until)) for _ in range(options.clients)]
    await asyncio.sleep(options.seconds / 10)
    early = resident(process)
    await asyncio.gather(*clients)
    for _ in range(100):
        left = await metrics(host, port)
        if not left["onebuf_prompts_running"] and not left['onebuf_cache_blocks{state="used"}']:
            break
        await asyncio.sleep(0.2)
    stuck = left["onebuf_prompts_running"] + left['onebuf_cache_blocks{state="used"}']
    failures = sum(count for status, count in load.statuses.items() if status >= "500")
    print("done    ", dict(load.done))
    print("statuses", dict(load.statuses), f"; {len(load.texts)} prompts, {len(load.wrong)} wrong", *load.wrong[:5])
    times = sorted(load.first)
    print(f"first piece {statistics.median(times):.2f} s, 99% {times[int(len(times) * 0.99)]:.2f} s")
    print(f"left: {stuck:g} rows and blocks in use; memory {early:,.0f} MiB, at the end {resident(process):,.0f} MiB")
    return not (failures or load.wrong or stuck)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", default="16")
    options = parser.parse_args()
    with server("--batch-size", options.batch_size, "--context", "1000") as (host, port, process):
        good = asyncio.run(run(host, port, process, options))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
