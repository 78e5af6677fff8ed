"""A batch with one slow row that is killed (SIGKILL) at some moment: which of the rows that were finished are kept?

`python tests/support/kills.py ARGUMENTS` is the command line with the package's own generator, slowed down. It notes in
the file $FINISHED when each row is finished, before the command line hears of it.
"""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

ROWS = 200
SLOW = 2  # the index of the row that takes as long as all others together
END_TOKEN = 0  # of the built-in model
PROGRAM = Path(__file__)


@dataclass(frozen=True)
class Killed:
    """What a killed run left: the seconds between each row's end and the kill, and the rows of the file."""

    ages: dict[int, float]
    kept: list[int]
    ended: bool  # before the kill

    @property
    def lost(self) -> dict[int, float]:
        """The ages of the rows that were finished and are not in the file."""
        return {index: age for index, age in self.ages.items() if index not in self.kept}


def write_prompts(file: Path, rows: int = ROWS) -> None:
    """Prompts of which one never ends by itself, while the others end after some tokens."""
    slow = {"prompt": "The", "logit_bias": {str(END_TOKEN): -100}, "max_tokens": 1000}
    lines = [slow if i == SLOW else {"prompt": f"Once {i}", "max_tokens": 1 + i % 8} for i in range(rows)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def kill(start, prompts: Path, out: Path, moment: float, pause: float = 0.001) -> Killed:
    """Runs the prompts and kills the run `moment` seconds after its first row was finished. `start` starts a program,
    as support.programs has it; `pause` is what each token takes longer."""
    finished = out.with_suffix(".finished")
    finished.write_bytes(b"")
    arguments = ["--prompts", prompts, "--out", out, "--batch-size", 4, "--threads", 1]
    process = start([PROGRAM], arguments, {"FINISHED": str(finished), "PAUSE": str(pause)})
    try:
        while not finished.stat().st_size:
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.005)
        until = time.monotonic() + moment
        while process.poll() is None and time.monotonic() < until:
            time.sleep(min(0.005, max(until - time.monotonic(), 0)))
        ended = process.poll() is not None
        killed = time.monotonic()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    notes = [line.split() for line in finished.read_text().split("\n")[:-1]]
    lines = out.read_bytes().split(b"\n")[:-1]  # what comes after the last line end is no row
    return Killed(
        {int(index): killed - float(at) for index, at in notes}, [json.loads(line)["index"] for line in lines], ended
    )


def noting_engine() -> SimpleNamespace:
    """The package's generator, which notes the end of each row."""
    from pipeline import generation

    notes = os.open(os.environ["FINISHED"], os.O_WRONLY | os.O_APPEND)
    pause = float(os.environ["PAUSE"])

    class Noting(generation.Generator):
        def run(self, requests):
            for event in super().run(requests):
                if isinstance(event, generation.Token):
                    time.sleep(pause)
                elif isinstance(event, (generation.Finished, generation.Failed)):
                    os.write(notes, f"{event.index} {time.monotonic()}\n".encode())
                yield event

    names = {name: getattr(generation, name) for name in ("Failed", "Finished", "Prefilled", "Request", "Token")}
    return SimpleNamespace(
        **names, Generator=Noting, load_model=generation.load_model, cache_bytes=generation.cache_bytes
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from pipeline.run import main

    sys.exit(main(engine=noting_engine()))
