"""Programs of the package in processes of their own that are forked from one which has imported the package, because a
fresh process spends most of its time on the imports. What such a process does not show is a start and an end of the
interpreter: tests of those, of signals and of closed streams start fresh ones (support/programs.py)."""

import importlib
import multiprocessing
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

PRELOADED = ("pipeline.run", "pipeline.cli.running", "pipeline.inspecting.report", "pipeline.converting.conversion")
# The fork server inherits the environment, of which NumPy and the interpreter read these at their start.
FROZEN = ("PYTHON", "LC_", "LANG", "OPENBLAS_", "OMP_")
TIMEOUT_S = 60

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(PRELOADED))


def can_run(environment: dict[str, str]) -> bool:
    """Whether these variables, beside those of this process, work in a process that is forked."""
    return not any(name.startswith(FROZEN) for name in environment)


def start(module: str, arguments: list[str], environment: dict[str, str], *standard: int) -> BaseProcess:
    """Begins `main(arguments)` of the module. `standard` are descriptors of standard input, output and error, which
    the caller closes; `environment` is the whole of it. The process has `pid`, `exitcode` and `join`."""
    files = [Connection(os.dup(each)) for each in standard]
    process = _context.Process(target=_child, args=(module, arguments, environment, os.getcwd(), files))
    process.start()
    for each in files:
        each.close()
    return process


def wait(process: BaseProcess) -> int:
    """The exit code: negative for the signal that ended it. Raises TimeoutError after a minute, and kills it."""
    process.join(TIMEOUT_S)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"process {process.pid} runs for more than {TIMEOUT_S} s")
    return process.exitcode


def run(module: str, arguments: list[str], environment: dict[str, str], data: bytes | None = None):
    """A program from its start to its end: exit code, standard output and error as bytes. Standard input is a pipe with
    `data`, or the null device."""
    (output, stdout), (errors, stderr) = os.pipe(), os.pipe()
    stdin, feed = os.pipe() if data is not None else (os.open(os.devnull, os.O_RDONLY), None)
    process = start(module, arguments, environment, stdin, stdout, stderr)
    for end in (stdin, stdout, stderr):
        os.close(end)
    with ThreadPoolExecutor(3) as threads:
        if feed is not None:
            threads.submit(_write, feed, data)
        streams = [threads.submit(_read, each) for each in (output, errors)]
        code = wait(process)
    return code, *(stream.result() for stream in streams)


def _write(pipe: int, data: bytes) -> None:
    try:
        with open(pipe, "wb") as stream:
            stream.write(data)
    except BrokenPipeError:  # the program reads no more
        pass


def _read(pipe: int) -> bytes:
    with open(pipe, "rb") as stream:
        return stream.read()


def _child(module, arguments, environment, where, standard: list[Connection]) -> None:
    for number, file in enumerate(standard):
        os.dup2(file.fileno(), number)
        file.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(where)
    kind = {"encoding": sys.__stdout__.encoding, "closefd": False}
    sys.stdin = sys.__stdin__ = open(0, errors=sys.__stdin__.errors, **kind)
    sys.stdout = sys.__stdout__ = open(1, "w", errors=sys.__stdout__.errors, **kind)
    sys.stderr = sys.__stderr__ = open(2, "w", errors="backslashreplace", buffering=1, **kind)
    program = importlib.import_module(module)
    sys.argv = [str(program.__file__), *arguments]
    sys.exit(program.main(arguments))
