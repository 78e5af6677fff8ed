"""docs/command-line.md names every option, key, exit code and environment variable, and none that is not there."""

import re

import pytest
from support.paths import ROOT
from support.summaries import summary

from pipeline import run
from pipeline.cli import arguments
from pipeline.cli.prompts import Prompt
from pipeline.cli.rows import failed_row

PAGE = (ROOT / "docs" / "command-line.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(title: str) -> set[str]:
    cells = re.findall(r"^\| (.*?) \|", section(title), re.M)[2:]
    return set(re.findall(r"`([^`]+)`", " ".join(cells)))


def test_options():
    actions = arguments._parser()._actions
    assert {cell.split()[0] for cell in first_cells("Options")} == {action.option_strings[-1] for action in actions}


def test_rows():
    assert first_cells("Rows") == set(failed_row(Prompt(0, 0, ""), "why"))


def test_summary():
    assert first_cells("The summary") == set(summary())


def test_exit_codes():
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.M)}
    assert codes == {run.OK, run.SOME_FAILED, run.BAD_INPUT, run.INTERRUPTED, run.CLOSED_PIPE}


@pytest.mark.parametrize("folder", ["objc", "pipeline", "pyx", "tools"])
def test_environment_variables(folder):
    """Every OB_ variable that the sources name is in the table."""
    read = re.compile(
        r"(?:getenv\(|environmentText\(@?|environ\.get\(|environ\.setdefault\(|environ\[)\s*\"([A-Z_]+)\""
    )
    files = [file for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".pyx", ".m", ".h", ".sh")]
    found = {name for file in files for name in read.findall(file.read_text())}
    standard = {"HOME", "XDG_CACHE_HOME"}
    assert files and found - standard <= first_cells("Environment variables")
