"""Runs cases in forked processes, some at a time: what one of them does to its process ends that process alone."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fuzz import attempts

MEMORY = 1 << 30  # bytes of address space that cases may add
SECONDS = 10  # of the processor, for one case
WALL_SECONDS = 120  # by the clock: the machine may be busy, but a case that waits does not compute
FOREIGN = ("panicked", "Traceback", "\x1b", "Exception ignored", "Fatal Python")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Result:
    """One case: its outcome, or the mistake in it."""

    number: int
    outcome: str
    mistake: str = ""


@dataclass
class _Process:
    """A forked process and the cases that it still has to do; `current` is the one that it works on."""

    pid: int
    pipe: int
    numbers: list[int]
    log: Path
    current: int | None = None
    started: float = 0.0
    cpu: float = 0.0
    buffer: bytes = field(default=b"")


def results(numbers: range, jobs: int, batch: int, folder: Path) -> Iterator[Result]:
    """The results of all cases, as they come. No other thread may run in this process."""
    waiting = [list(numbers[first : first + batch]) for first in range(0, len(numbers), batch)][::-1]
    running: list[_Process] = []
    places = [folder / f"job{i}" for i in range(jobs)]
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                taken = {process.log.parent for process in running}
                running.append(_fork(waiting.pop(), next(place for place in places if place not in taken)))
            ready, _, _ = select.select([process.pipe for process in running], [], [], 0.5)
            for process in list(running):
                if process.pipe in ready:
                    yield from _read(process, running, waiting)
                elif _hangs(process):
                    os.kill(process.pid, signal.SIGKILL)
                    yield from _read(process, running, waiting, hung=True)
    finally:
        for process in running:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)


def _read(process: _Process, running: list[_Process], waiting: list[list[int]], hung: bool = False) -> Iterator[Result]:
    """What a process said; when it has ended, also how."""
    while data := os.read(process.pipe, 1 << 16):
        *lines, process.buffer = (process.buffer + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if isinstance(said, int):
                process.current, process.started, process.cpu = said, time.monotonic(), _cpu(process.pid)
            else:
                process.numbers.remove(said["number"])
                process.current = None
                yield Result(**said)
        if not hung:
            return
    os.close(process.pipe)
    running.remove(process)
    _, status = os.waitpid(process.pid, 0)
    end = f"a hang of more than {SECONDS} s" if hung else f"the process ended: {_ending(status)}"
    if process.current is not None:
        process.numbers.remove(process.current)
        yield Result(process.current, "crashed", f"{end}; {_last_words(process.log)}")
    elif process.numbers and not hung:
        yield Result(process.numbers.pop(0), "crashed", f"{end} between cases; {_last_words(process.log)}")
    if process.numbers:
        waiting.append(process.numbers)


def _hangs(process: _Process) -> bool:
    if process.current is None:
        return False
    return time.monotonic() - process.started > WALL_SECONDS or _cpu(process.pid) - process.cpu > SECONDS


def _cpu(pid: int) -> float:
    """Seconds of the processor that a process took."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.WEXITSTATUS(status)}"


def _last_words(log: Path) -> str:
    return " ".join(log.read_text(errors="replace")[-600:].split()) if log.exists() else ""


def _fork(numbers: list[int], folder: Path) -> _Process:
    folder.mkdir(parents=True, exist_ok=True)
    read, write = os.pipe()
    log = folder / "log"
    pid = os.fork()
    if pid:
        os.close(write)
        return _Process(pid, read, list(numbers), log)
    code = 1
    try:
        os.close(read)
        _work(numbers, folder, write, log)
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _work(numbers: list[int], folder: Path, pipe: int, log: Path) -> None:
    """The cases of one process. Standard error is a file, which must stay empty."""
    os.dup2(os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    device = attempts.open_device()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    for number in numbers:
        os.write(pipe, json.dumps(number).encode() + b"\n")
        outcome, mistake = "mistake", ""
        try:
            outcome = attempts.once(number, folder, device)
        except attempts.Wrong as wrong:
            mistake = str(wrong)[:1000]
        except BaseException as error:
            outcome = "traceback"
            mistake = f"{type(error).__name__}: {str(error)[:300]!r} at {_place(error)}"
        words = log.read_bytes().decode(errors="replace")
        if not mistake and any(word in words for word in FOREIGN):
            outcome, mistake = "mistake", f"on standard error: {words[:300]!r}"
        os.truncate(log, 0)
        os.write(pipe, json.dumps({"number": number, "outcome": outcome, "mistake": mistake}).encode() + b"\n")


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-4:])
