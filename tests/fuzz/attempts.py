"""One damaged model, used as a program of the package uses it; whatever must not be raises."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from pathlib import Path

import pipeline as p
from fuzz import damage, tiny
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.errors import OnebufError, PromptError
from pipeline.generation.generator import Generator
from pipeline.generation.requests import Failed, Finished, Request
from pipeline.inspecting import facts, report
from pipeline.printing import printable, to_json

MOST_CHARACTERS = 3000  # of a message: five tensors are named, with their paths
PROGRAMS = 16  # one case of so many goes through the programs, too
CONTEXT = 16
RAN, ROW, REFUSED = "ran", "failed as a row", "refused"


class Wrong(Exception):
    """The outcome is not one that a damaged model may have."""


def open_device() -> p.Device:
    return p.open_device("cpu", threads=1)


def warm_up(folder: Path) -> None:
    """Opens one well-formed model of each kind, so that what this imports is there before a fork; no device."""
    for model in tiny.models()[:3]:
        path = write(model.files, folder)
        with p.open_checkpoint(path) as checkpoint:
            assert not facts.gather(checkpoint)["unsupported"], model.name
            checkpoint.tokenizer().encode("a")
    import pipeline.cli.running  # noqa: F401
    import pipeline.inspect  # noqa: F401
    import pipeline.run  # noqa: F401


def once(number: int, folder: Path, device: p.Device) -> str:
    """The outcome of one case."""
    name, files = damage.damaged(number)
    path = write(files, folder)
    try:
        with p.open_checkpoint(path) as checkpoint:
            outcome = used(checkpoint, device)
    except OnebufError as error:
        outcome = REFUSED
        check_message(str(error))
    if number % PROGRAMS == 0:
        through_programs(path)
    return outcome


def used(checkpoint: Checkpoint, device: p.Device) -> str:
    """Inspects a checkpoint and generates two tokens. What inspecting calls supported must run."""
    found = facts.gather(checkpoint)
    for line in report.lines(found):
        check_printable(printable(line))
    check_printable(to_json(found))
    supported = not found["unsupported"]
    try:
        return generated(checkpoint, device)
    except OnebufError as error:
        if supported:
            raise Wrong(f"inspect says that it is supported, but: {error}") from error
        raise


def generated(checkpoint: Checkpoint, device: p.Device) -> str:
    model = p.load_model(checkpoint, device=device)
    tokenizer, _ = checkpoint.tokenizer(), checkpoint.chat()
    try:
        prompt = [token for token in tokenizer.encode("ab cd the\n€") if token < model.vocab_size][:8]
    except PromptError as error:
        check_message(str(error))
        prompt = []
    generator = Generator(model, context=min(model.context, CONTEXT))
    end = list(generator.run([Request(0, tuple(prompt or [0]), 2)]))[-1]
    if isinstance(end, Failed):
        check_message(end.error)
        return ROW
    assert isinstance(end, Finished)
    with contextlib.suppress(OnebufError):
        tokenizer.decode(end.tokens)
    return RAN


def through_programs(path: Path) -> None:
    """`pipeline.inspect` and `pipeline.run` end with a code of theirs, and with a line on standard error or none."""
    import pipeline.inspect
    import pipeline.run

    common = ["--device", "cpu", "--threads", "1", "--max-tokens", "2", "--prompt", "ab"]
    for main, arguments in ((pipeline.inspect.main, [str(path)]), (pipeline.run.main, ["--model", str(path), *common])):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        if code not in (0, 1, 2):
            raise Wrong(f"exit code {code}")
        check_printable(err.getvalue())
        if code == 2:
            check_message(err.getvalue().rstrip("\n"))
        if main is pipeline.inspect.main:
            check_printable(out.getvalue())


def check_message(text: str) -> None:
    if "\n" in text or len(text) > MOST_CHARACTERS or not text:
        raise Wrong(f"an unclear message of {len(text):,} characters: {text[:200]!r}")
    check_printable(text)


def check_printable(text: str) -> None:
    if text != printable(text):
        raise Wrong(f"characters that a terminal obeys: {text[:300]!r}")


def write(files: dict[str, bytes | str], folder: Path) -> Path:
    """Writes the files of a model; returns what is opened."""
    target = folder / "model"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, content in files.items():
        file = target / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content == damage.FOLDER:
            file.mkdir()
        elif content == damage.FIFO:
            os.mkfifo(file)
        elif content == damage.DEVICE:
            file.symlink_to("/dev/zero")
        else:  # much larger than memory, and empty
            with open(file, "wb") as stream:
                stream.truncate(1 << 40)
    return target / "model.gguf" if "model.gguf" in files else target
