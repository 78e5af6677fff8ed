"""The frame of all programs: values that begin with a dash, paths with ~, and what is not executed."""

import os
import re
import subprocess
import sys

import pytest
from support.paths import ROOT
from support.programs import fresh, run

from pipeline import convert, inspect
from pipeline.benching import options as bench_options
from pipeline.checking.options import parse_options
from pipeline.cli.arguments import _parser, parse_arguments
from pipeline.cli.program import Parser
from pipeline.commands import COMMANDS
from pipeline.errors import UsageError

DASHES = ["---", "--", "-", "-x", "--- a", "-1e-5", "--stopp", "-\n"]
# Options that take any text.
TEXTS = {"--prompt": "prompt", "--stop": "stop", "--system": "system", "--out": "out", "--trace": "trace"}


@pytest.mark.parametrize("text", DASHES)
@pytest.mark.parametrize("option", TEXTS)
def test_a_text_may_begin_with_a_dash(option, text):
    for arguments in ([option, text], [f"{option}={text}"]):
        value = getattr(_parser().parse_args(arguments), TEXTS[option])
        assert value == ([text] if option == "--stop" else text)


def test_every_option_with_a_value_takes_one_with_a_dash():
    """Options of numbers say that it is no number, and not that there is none."""
    parsers = [_parser(), convert._parser(), inspect._parser(), bench_options._parser()]
    for parser in parsers:
        for action in parser._actions:
            if action.option_strings and action.nargs is None:
                try:
                    parser.parse_args([action.option_strings[-1], "---"])
                except UsageError as error:
                    assert "expected one argument" not in str(error), action


def test_numbers_below_zero():
    settings = parse_arguments(["--prompt", "x", "--presence-penalty", "-1e-3", "--frequency-penalty", "-2"])
    assert settings.presence_penalty == -1e-3 and settings.frequency_penalty == -2
    assert parse_arguments(["--prompt", "x", "--logit-bias", "5:-inf"]).logit_bias == {5: -float("inf")}


def test_several_stop_texts():
    settings = parse_arguments(["--stop", "---", "--prompt", "-a", "--stop", "--", "--stop=x=y", "--json"])
    assert settings.stop == ["---", "--", "x=y"] and settings.prompt == "-a" and settings.json


@pytest.mark.parametrize("next_option", ["--json", "--out", "--out=x", "--stop"])
def test_a_value_that_was_forgotten(next_option):
    with pytest.raises(UsageError) as caught:
        parse_arguments(["--stop", next_option])
    assert "--stop: has no value" in str(caught.value) and f"write --stop={next_option}" in str(caught.value)
    assert _parser().parse_args([f"--stop={next_option}"]).stop == [next_option]


def test_a_value_that_is_not_there():
    with pytest.raises(UsageError, match="--stop: expected one argument; see --help"):
        parse_arguments(["--prompt", "x", "--stop"])


def test_arguments_after_two_dashes():
    parser = Parser("run")
    parser.add_argument("--stop")
    parser.add_argument("files", nargs="*")
    parsed = parser.parse_args(["--stop", "-a", "--", "--stop", "-b"])
    assert parsed.stop == "-a" and parsed.files == ["--stop", "-b"]
    parser.add_argument("-I", dest="include")
    assert parser.parse_args(["-I", "-x"]).include == "-x" and parser.parse_args(["-I", "y"]).include == "y"


# What is printed


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("program", ["run", "inspect"])
def test_results_on_a_full_disk_are_an_error(program):
    """Those of inspect wait in a buffer until the end."""
    arguments = {"run": ["--prompt", "x", "--max-tokens", "1", "--json"], "inspect": ["storyteller"]}[program]
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", f"pipeline.{program}", *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("onebuf: error: ") and done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("program", ["run", "inspect", "convert", "bench", "check"])
def test_messages_on_a_full_disk_change_no_exit_code(program):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", f"pipeline.{program}", "--absent"], cwd=ROOT, stderr=full)
    assert done.returncode == 2


# Paths


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_home_folder(home):
    given = _parser().parse_args(["--model=~/m", "--prompts=~/p.txt", "--out=~/o.jsonl", "--trace=~/t", "--stop=~/s"])
    assert given.model == f"{home}/m" and given.prompts == f"{home}/p.txt" and given.out == f"{home}/o.jsonl"
    assert given.trace == f"{home}/t" and given.stop == ["~/s"]
    assert _parser().parse_args(["--prompts", "-", "--out", "-"]).out == "-"
    assert inspect._parser().parse_args(["~/m"]).model == f"{home}/m"
    converted = convert._parser().parse_args(["~/a", "~/b"])
    assert (converted.source, converted.out) == (f"{home}/a", f"{home}/b")
    assert bench_options._parser().parse_args(["~/m", "--plot=~/p.svg"]).plot == home / "p.svg"
    checked = parse_options(
        ["~/f.metal", "-I~/i", "--run=k", "--grid=1", "--threads=1", "--buffer=0=zeros:4:float", "--save=0=~/s.npy"]
    )
    assert checked.files == [f"{home}/f.metal"] and checked.include == [f"{home}/i"]
    assert checked.run.save == {"0": home / "s.npy"}


def test_no_home_folder(monkeypatch):
    monkeypatch.delenv("HOME")
    assert _parser().parse_args(["--model=~nobody-of-this-name/m"]).model == "~nobody-of-this-name/m"


# How tests run programs


@pytest.mark.parametrize(
    "arguments, data, env",
    [
        (["--prompt", "The fox", "--max-tokens", 4], None, {}),
        (["--prompts", "-", "--out", "-", "--max-tokens", 2], b"The fox\n\xff\n", {}),
        (["--temperature", "-1"], None, {}),
        (["--prompt", "x", "--isa", ""], None, {"OB_ISA": "avx1024"}),
        (["--help"], None, {"COLUMNS": "60"}),
    ],
    ids=["a text", "rows", "an error", "the environment", "help"],
)
def test_a_forked_process_does_what_a_fresh_one_does(arguments, data, env):
    forked, own = (program(*arguments, data=data, env=env) for program in (run, fresh))
    times = re.compile(r"(?m)^.*(tok/s|peak memory|loaded in| s$).*$")
    assert [times.sub("", str(each)) for each in forked] == [times.sub("", str(each)) for each in own]


# What is executed


@pytest.mark.parametrize(
    "command", ["onebuf", "-P -m pipeline.run", "-m pipeline.run", "-m pipeline", "-Bmpipeline.run"]
)
def test_modules_of_the_current_folder_do_not_run(tmp_path, command):
    """The command `onebuf` is a script: its folder comes first, not the current one. `python -m` begins with the
    current one, which the package takes out before it loads anything."""
    for name in ("token", "numpy", "tokenizers", "rich", "json", "jinja2"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r})")
    script = tmp_path / "bin" / "onebuf"
    script.parent.mkdir()
    script.write_text("import sys\nfrom pipeline.run import main\nsys.exit(main())\n")
    start = [str(script)] if command == "onebuf" else command.split()
    done = subprocess.run(
        [sys.executable, *start, "--prompt", "The fox", "--max-tokens", "2", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not (tmp_path / "executed").exists(), done.stderr


def test_others_keep_the_current_folder(tmp_path):
    """Only a program of the package gives it up: a program of somebody's own, which imports the package, does not."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import pipeline")
    (tmp_path / "mine" / "__main__.py").write_text("import other")
    (tmp_path / "other.py").write_text("print('here')")
    for start in (["-m", "mine"], ["-c", "import pipeline, other"], ["-m", "mine", "-m", "pipeline"]):
        done = subprocess.run(
            [sys.executable, *start],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.stdout == "here\n", done.stderr


def test_every_program_is_a_command():
    """All that `python -m` starts, but for what the package starts for itself."""
    assert 'onebuf = "pipeline.commands:main"' in (ROOT / "pyproject.toml").read_text()
    programs = {
        file.stem for file in (ROOT / "pipeline").glob("*.py") if 'if __name__ == "__main__"' in file.read_text()
    }
    assert programs - {"__main__", "commands", "isolated"} == set(COMMANDS)
