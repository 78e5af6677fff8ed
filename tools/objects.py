"""Incremental, parallel compilation: an object is made again only when something it is made from
changed, judged by content. Standard library only.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path


class CommandError(Exception):
    """A compiler failed; the message is one line, the compiler's own text is in `output`."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


class Workshop:
    """Runs compiler commands from `root` and remembers, under `folder`, what each was made from."""

    def __init__(self, root: Path, folder: Path, identity: str, say: Callable[[str], None] = print) -> None:
        self.root = root
        self.folder = folder
        self.identity = identity
        self.say = say  # gets a compiler's warnings
        folder.mkdir(parents=True, exist_ok=True)

    def make(self, out: Path, command: list[str], inputs: Iterable[Path], depfile: Path | None = None) -> bool:
        """Runs `command`, which writes `out`, unless `out` is up to date. True when it ran.

        `inputs` are the files known beforehand; `depfile` is where the command lists the rest.
        """
        record = out.with_name(out.name + ".json")
        known = list(inputs)
        if out.exists() and record.exists():
            saved = json.loads(record.read_text())
            used = list(map(Path, saved["inputs"]))
            if set(known) <= set(used) and saved["key"] == self._key(command, used):
                return False
        record.unlink(missing_ok=True)
        self._run(command, known[0] if len(known) == 1 else out)
        used = sorted({*known, *(_dependencies(depfile) if depfile else ())})
        key = self._key(command, used)
        record.write_text(json.dumps({"key": key, "inputs": list(map(str, used))}))
        return True

    def _key(self, command: list[str], inputs: list[Path]) -> str:
        digest = hashlib.sha256("\0".join([self.identity, *command]).encode())
        for path in inputs:
            digest.update(b"\0" + str(path).encode() + b"\0")
            full = self.root / path
            digest.update(full.read_bytes() if full.is_file() else b"\0absent")
        return digest.hexdigest()

    def _run(self, command: list[str], subject: Path) -> None:
        try:
            done = subprocess.run(
                command, cwd=self.root, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise CommandError(f"{command[0]} does not start: {error.strerror}", "") from None
        if done.returncode:
            raise CommandError(f"{subject} does not build", done.stdout)
        if done.stdout.strip():
            self.say(done.stdout.rstrip())


class Pool:
    """Runs jobs, as many at once as there are cores. Those of the lowest rank come first, and within a rank those
    that were submitted first: who submits the longest jobs first leaves no core idle at the end."""

    def __init__(self, workers: int | None = None) -> None:
        self._jobs: queue.PriorityQueue = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers or _cores())]
        for thread in self._threads:
            thread.start()

    def submit(self, rank: int, job: Callable, *arguments) -> Future:
        future: Future = Future()
        if self._closed:
            future.cancel()
            future.set_running_or_notify_cancel()
            return future
        self._jobs.put((rank, next(self._numbers), future, job, arguments))
        return future

    def map(self, job: Callable, *iterables: Iterable) -> Iterator:
        """The results of one job per set of arguments, in their order. Their rank is 0."""
        futures = [self.submit(0, job, *arguments) for arguments in zip(*iterables)]
        return (future.result() for future in futures)

    def close(self, cancel: bool = False) -> None:
        """Waits for the jobs that run; with `cancel` those that have not begun never do."""
        self._closed = True
        while cancel:
            try:
                future = self._jobs.get_nowait()[2]
            except queue.Empty:
                break
            future.cancel()
            future.set_running_or_notify_cancel()
        for _ in self._threads:
            self._jobs.put((1 << 30, next(self._numbers), None, None, ()))
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            _, _, future, job, arguments = self._jobs.get()
            if future is None:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job(*arguments))
            except BaseException as error:  # it belongs to whoever waits for the result
                future.set_exception(error)


def parallel(jobs: list[Callable[[], object]]) -> None:
    """Runs all jobs, as many at once as there are cores; raises the first error in list order."""
    pool = Pool()
    try:
        for future in [pool.submit(0, job) for job in jobs]:
            future.result()
    finally:
        pool.close(cancel=True)


def install(source: Path, target: Path) -> None:
    """Puts a copy of a file or folder at `target`, by renaming: a running process that has the old
    one mapped keeps it. Nothing is written where the contents are equal already."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for gone in {p.name for p in target.iterdir()} - {p.name for p in source.iterdir()}:
            path = target / gone
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in source.iterdir():
            install(path, target / path.name)
        return
    if target.is_file() and target.read_bytes() == source.read_bytes():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy(source, temporary)
    os.replace(temporary, target)


def _dependencies(depfile: Path) -> list[Path]:
    """The files named by a make rule that the compiler wrote (-MMD: without system headers)."""
    text = depfile.read_text().replace("\\\n", " ").replace("\\ ", "\0")
    return [Path(word.replace("\0", " ")) for word in text.partition(": ")[2].split()]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
