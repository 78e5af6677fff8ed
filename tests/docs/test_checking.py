"""docs/checking.md: its examples paste and run and print what it shows, and its tables name what there is."""

import os
import re
import subprocess
import sys

import pytest
from support.paths import ROOT

from pipeline.checking import options
from pipeline.device.findings import KINDS

PAGE = (ROOT / "docs" / "checking.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S)
COMMANDS = [(text.strip(), BLOCKS[number + 1][1]) for number, (kind, text) in enumerate(BLOCKS) if kind == "sh"]
CODES = [0, 1, 0]


def plain(line: str) -> str:
    """A line without the numbers that depend on the order of threads."""
    return re.sub(r"\d+", "N", line.strip()) if "thread (" in line or "at offset" in line else line.strip()


@pytest.mark.parametrize("number", range(len(CODES)))
def test_commands(number, tmp_path):
    assert len(COMMANDS) == len(CODES)
    command, expected = COMMANDS[number]
    (tmp_path / "rows.metal").write_text(next(text for kind, text in BLOCKS if kind == "metal"))
    assert command.startswith("python -m pipeline.check ")
    done = subprocess.run(
        [sys.executable, *command.split()[1:]],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == CODES[number], done.stderr
    printed = [plain(line) for line in done.stdout.splitlines()]
    for line in expected.splitlines():
        assert plain(line) in printed, done.stdout
    assert (tmp_path / "sums.npy").exists() == ("--save" in command)


def test_python(tmp_path):
    first, _, last = (text for kind, text in BLOCKS if kind == "python")
    shown = []
    for code in (first, last):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        shown.append(done.stdout)
    assert shown[0].startswith("out of bounds | 5 | x | (") and "guard the index" in shown[0]
    assert shown[1] == "120.0 []\n"


def test_pytest(tmp_path):
    """The suite passes; with an index that goes too far it fails and says where."""
    _, code, _ = (text for kind, text in BLOCKS if kind == "python")
    for text, words in ((code, "1 passed"), (code.replace("2 * x[i];", "2 * x[i + 1];"), "out of bounds")):
        (tmp_path / "test_doubled.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_doubled.py"],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert (done.returncode == 0) == (words == "1 passed") and words in done.stdout, done.stdout


def table(title: str) -> set[str]:
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| (.*?) \|", section, re.M))


def test_tables():
    named = set(re.findall(r"`(-[\w-]+)", " ".join(table("Options"))))
    taken = {action.option_strings[-1] for action in options._parser()._actions if action.option_strings}
    assert named == taken - {"--help"}
    assert table("What it finds") - {"Finding", "---"} == set(KINDS)
