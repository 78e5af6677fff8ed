"""docs/command-line.md names every option, key, exit code and environment variable, and none that is not there."""

import re
import signal
from pathlib import Path

from support.paths import ROOT
from support.summaries import summary

from pipeline import run
from pipeline.cli import arguments
from pipeline.cli.lines import LINE_KEYS
from pipeline.cli.metrics import Figures, to_text
from pipeline.cli.prompts import Prompt
from pipeline.cli.request_body import BODY_KEYS
from pipeline.cli.rows import failed_row
from pipeline.generation.settings import ROW_KEYS
from pipeline.language.conversations import CHAT_KEYS

PAGE = (ROOT / "docs" / "command-line.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(title: str) -> set[str]:
    cells = re.findall(r"^\| (.*?) \|", section(title), re.M)[2:]
    return set(re.findall(r"`([^`]+)`", " ".join(cells)))


def test_options():
    actions = arguments._parser()._actions
    assert {cell.split()[0] for cell in first_cells("Options")} == {
        name for action in actions for name in action.option_strings if name.startswith("--")
    }


def test_rows():
    assert first_cells("Rows") == set(failed_row(Prompt(0, 0, ""), "why"))


def test_metrics():
    names = {line.split()[2] for line in to_text(Figures(0, 0, 0, 0, 0, 0, 1)).splitlines() if "# TYPE" in line}
    assert set(re.findall(r"^\| `(onebuf_[a-z_]+)` \|", PAGE, re.M)) == names


def test_requests_of_batch_files():
    """Every key of a body that changes a text, and those that are named as accepted or refused."""
    named = set(re.findall(r"`([a-z_]+)`", section("Prompts")))
    settings = {*ROW_KEYS} - {"prompt_logprobs"}  # for which the interface has echo
    assert {"messages", "prompt", "n", "max_completion_tokens", "echo", *settings, *CHAT_KEYS} <= named & set(BODY_KEYS)


def test_summary():
    assert first_cells("The summary") == set(summary(evaluation="perplexity"))


def test_exit_codes():
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.M)}
    signals = {run.HUNG_UP, run.INTERRUPTED, run.TERMINATED}
    assert codes == {run.OK, run.SOME_FAILED, run.BAD_INPUT, run.CLOSED_PIPE} | signals
    assert signals == {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}


def test_keys_of_a_line():
    """Every key that a line may have, its messages' own, and those of a template."""
    assert set(LINE_KEYS) | {"body", "role", "content", "tool_calls"} <= set(
        re.findall(r"`([a-z_]+)`", section("Prompts"))
    )


# Code that may read the environment, and the ways in which it does.
SOURCES = ("objc", "pipeline", "pyx", "tools", "benchmarks", "setup.py", "Makefile")
READS = re.compile(
    r"""(?:getenv\(|environmentText\(@?|environ\.get\(|environ\.setdefault\(|environ\[)\s*["']([A-Z_]+)["']"""
    r"""|\$[{(]?([A-Z][A-Z_]+)\b"""  # in shell scripts and the Makefile
)
# Variables of the system, and those that are not for users: of other libraries, and of a script itself.
SHELL = {".sh", ""}
OTHERS = {"HOME", "PATH", "XDG_CACHE_HOME", "OPENBLAS_NUM_THREADS"}


def variables_read() -> dict[str, set[str]]:
    """{variable: the files that read it}."""
    found: dict[str, set[str]] = {}
    for name in SOURCES:
        place = ROOT / name
        files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
        for file in files:
            shell = file.name == "Makefile" or file.suffix == ".sh"
            if not shell and file.suffix not in (".py", ".pyx", ".pxi", ".m", ".h", ".c"):
                continue
            for in_code, in_shell in READS.findall(file.read_text()):
                if in_code or shell:
                    found.setdefault(in_code or in_shell, set()).add(str(file.relative_to(ROOT)))
    return found


def test_every_variable_is_in_the_table():
    """All that code reads. A shell script has variables of its own: of those only the project's count."""
    found = {
        name
        for name, files in variables_read().items()
        if name.startswith("OB_") or any(Path(file).suffix not in SHELL for file in files)
    }
    assert {"OB_THREADS", "OB_ISAS", "OB_CACHE", "CC"} <= found  # in objc, setup.py, pipeline and tools
    assert found - OTHERS <= first_cells("Environment variables")


def test_every_variable_of_the_table_is_read():
    """Except NO_COLOR, which rich reads."""
    assert first_cells("Environment variables") - {"NO_COLOR"} - set(variables_read()) == set()
