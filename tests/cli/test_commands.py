"""`onebuf`: its commands, what it says of itself, and the prompt that stands without an option."""

import importlib
import platform
import re
import shutil
import subprocess
import sys

import pytest
from support import fakes
from support.paths import ROOT

from pipeline import commands
from pipeline.cli.arguments import parse_arguments
from pipeline.errors import UsageError


def onebuf(capsys, *arguments):
    try:
        code = commands.main([*arguments])
    except SystemExit as end:  # of --help
        code = end.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_command_is_the_program_of_its_name(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/onebuf"])
    code, out, err = onebuf(capsys, name, "--help")
    assert (code, err) == (0, "") and out.startswith(f"usage: onebuf {name} ")
    monkeypatch.setattr(sys, "argv", ["/somewhere/pipeline/module.py"])
    assert onebuf(capsys, name, "--help")[1].startswith(f"usage: python -m pipeline.{name} ")


def test_without_a_command_it_is_run(capsys, monkeypatch):
    monkeypatch.setattr("pipeline.run.parse_arguments", lambda given: pytest.fail(f"run {given}"))
    for given in ([], ["--prompt", "x"], ["-x"]):
        with pytest.raises(pytest.fail.Exception, match=re.escape(f"run {given}")):
            commands.main(given)


def test_help_names_every_command(capsys):
    for word in ("--help", "-h"):
        code, out, err = onebuf(capsys, word)
        assert (code, err) == (0, "")
        assert all(f"\n  {name} " in out for name in [*commands.COMMANDS, "completion"])


@pytest.mark.parametrize(
    "words, wanted",
    [
        (["rnu"], "'rnu' is no command; they are run, serve, bench, check, inspect, convert; do you mean run?"),
        (["A fox"], "'A fox' is no command;.*a prompt goes to onebuf run \"A fox\""),
        (["--version", "words"], "--version stands alone; leave out 'words'"),
        (["completion"], "completion: name one shell of bash or zsh or fish"),
        (["completion", "tcsh"], "completion: name one shell of"),
    ],
)
def test_what_is_no_command(words, wanted, capsys):
    code, out, err = onebuf(capsys, *words)
    assert (code, out) == (2, "") and err.startswith("onebuf: error: ") and err.count("\n") == 1
    assert re.search(wanted, err)


def test_version(capsys):
    code, out, err = onebuf(capsys, "--version")
    assert (code, err) == (0, "")
    first, device, build = out.splitlines()
    assert re.fullmatch(r"onebuf (\d+\.\d+\.\d+\S*|of a source folder that is not installed)", first)
    assert re.fullmatch(r"device (cpu|metal|cuda:\d), .+, \w+", device)
    assert build.startswith(f"build  Python {platform.python_version()}, {platform.system()} {platform.machine()}")


# -- a prompt without an option


@pytest.mark.parametrize("words", [["A fox", "--temp", "0"], ["--temp", "0", "A fox"], ["--temp=0", "--", "A fox"]])
def test_a_prompt_stands_anywhere(words):
    settings = parse_arguments(words)
    assert (settings.prompt, settings.temperature) == ("A fox", 0)


def test_a_prompt_that_looks_like_an_option_stands_behind_two_dashes():
    assert parse_arguments(["--", "--temp"]).prompt == "--temp"


@pytest.mark.parametrize(
    "words, wanted",
    [
        (["--prompt", "A", "fox"], "'fox': what is it, beside --prompt 'A'\\? put a prompt of several words in quotes"),
        (["A", "fox"], "'A' 'fox': one prompt is one word; put"),
        (["tests"], "'tests': is a file or folder; give it to --model or --prompts"),
        (["--frob", "A fox"], "unrecognized arguments: --frob; see --help"),
    ],
)
def test_words_that_are_no_prompt(words, wanted, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UsageError, match=wanted):
        parse_arguments(words)


def test_a_prompt_is_told(capsys):
    code = importlib.import_module("pipeline.run").main(["A fox", "--max-tokens", "2", "--json"], engine=fakes)
    assert code == 0 and '"prompts": 1' in capsys.readouterr().out


# -- completion


def test_completions_are_those_of_the_options():
    """Where it fails, tools/completions.py makes them anew."""
    tool = pytest.importorskip("shtab") and ROOT / "tools" / "completions.py"
    spec = importlib.util.spec_from_file_location("completions", tool)
    completions = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(completions)
    for shell in commands.SHELLS:
        assert (completions.FOLDER / shell).read_text() == completions.text(shell)


def test_bash_completes(capsys):
    if not (bash := shutil.which("bash")):
        pytest.skip("no bash here")
    text = onebuf(capsys, "completion", "bash")[1]
    for words, wanted in ((["in"], "inspect"), (["run", "--repetition-p"], "--repetition-penalty")):
        given = f"COMP_WORDS=(onebuf {' '.join(words)}); COMP_CWORD={len(words)}; _shtab_onebuf; echo ${{COMPREPLY[@]}}"
        done = subprocess.run([bash, "-c", f"{text}\n{given}"], capture_output=True, text=True)
        assert (done.stdout.strip(), done.stderr) == (wanted, "")
