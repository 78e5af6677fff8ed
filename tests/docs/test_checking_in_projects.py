"""docs/checking-in-projects.md and what it describes: the example, the settings, the action, the container file."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from support.paths import ROOT

from pipeline import check, pytest_plugin

PAGE = (ROOT / "docs" / "checking-in-projects.md").read_text()
BLOCKS = dict(re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S))  # the last of each kind
SHADER = BLOCKS["metal"]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def test_the_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doubled.metal").write_text(SHADER)
    assert check.main(["--cases", "doubled.metal"]) == 0
    assert capsys.readouterr().out.count("nothing found") == 2
    (tmp_path / "doubled.metal").write_text(SHADER.replace("2 * x", "3 * x"))
    assert check.main(["--cases", "doubled.metal"]) == 1
    assert "buffer 1: 4 of 4 values differ" in capsys.readouterr().out


def test_settings_exist():
    class Parser:
        names = set()

        def addini(self, name, *_, **__):
            self.names.add(name)

        def getgroup(self, name):
            return self

        def addoption(self, name, **_):
            self.names.add(name)

    pytest_plugin.pytest_addoption(Parser())
    assert set(re.findall(r"^(onebuf_\w+) =", BLOCKS["toml"], re.M)) == {n for n in Parser.names if n[0] != "-"}
    assert "--onebuf-check" in PAGE and "`onebuf_checker`" in PAGE


@pytest.mark.parametrize("kind", ["cmake", "swift", "rust", "yaml"])
def test_every_language_calls_the_cases(kind):
    assert "onebuf" in BLOCKS[kind] and ("--cases" in BLOCKS[kind] or kind == "yaml")


def test_the_action_has_the_inputs_that_the_page_gives():
    steps = yaml.safe_load(BLOCKS["yaml"])["jobs"]["shaders"]["steps"]
    (given,) = [step["with"] for step in steps if "onebuf" in step["uses"]]
    assert given.keys() <= ACTION["inputs"].keys()
    (upload,) = [step["with"]["sarif_file"] for step in steps if "upload-sarif" in step["uses"]]
    assert upload == ACTION["inputs"]["sarif"]["default"]


@pytest.mark.parametrize("files, code", [("shaders/**/*.metal", 0), ("shaders/deep/bad.metal", 1), ("none/*.metal", 2)])
def test_the_action_checks(tmp_path, files, code):
    """Its step as GitHub runs it, with this package as what was installed."""
    (tmp_path / "shaders" / "deep").mkdir(parents=True)
    (tmp_path / "shaders" / "good.metal").write_text(SHADER)
    bad = SHADER.replace("2 * x[i]", "3 * x[i]")
    if code == 1:
        (tmp_path / "shaders" / "deep" / "bad.metal").write_text(bad)
    bin_ = tmp_path / "onebuf" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "onebuf").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pipeline.commands "$@"\n')
    (bin_ / "onebuf").chmod(0o755)
    (step,) = [step for step in ACTION["runs"]["steps"] if step.get("id") == "check"]
    inputs = {name: each.get("default", "") for name, each in ACTION["inputs"].items()} | {"files": files}
    env = {name: inputs[re.search(r"inputs\.(\w+)", text)[1]] for name, text in step["env"].items()}
    env |= {"RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "output"), "PYTHONPATH": str(ROOT)}
    command = ["bash", "-e", "-o", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    if code < 2:
        assert (tmp_path / "output").read_text() == f"exit-code={code}\n"
        assert ("run/difference" in (tmp_path / inputs["sarif"]).read_text()) == (code == 1)
        assert (tmp_path / inputs["junit"]).exists()


def test_the_container_file_installs_what_the_build_asks_for():
    text = (ROOT / "Dockerfile").read_text()
    for package in ("g++", "gobjc", "python3-dev"):
        assert package in text and f"`{package}`" in PAGE
        assert any(package in step["run"] for step in ACTION["runs"]["steps"])
    assert "OB_ISAS=none" in text and 'ENTRYPOINT ["onebuf", "check"]' in text
