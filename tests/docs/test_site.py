"""The site of the documents builds without a warning, and has a page for every public name and every example."""

import html
import importlib
import re
import subprocess
import sys

import pytest
from support.paths import ROOT

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings_handlers.python")


def shown(page) -> str:
    """The words of a page."""
    text = page.read_text()
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text[text.index("<h1") :])).split())


def test_it_builds_strictly_with_every_public_name(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    site = tmp_path / "site"
    for package in ("pipeline", "pipeline.ops", "pipeline.ray"):
        module = importlib.import_module(package)
        for name in module.__all__:
            page = shown(site / "api" / f"{package}.{name}" / "index.html")
            words = re.findall(r"\w+", (getattr(module, name).__doc__ or "").strip().partition("\n")[0])
            assert words and " ".join(words[:4]) in " ".join(re.findall(r"\w+", page)), f"{package}.{name}"
    examples = shown(site / "examples" / "index.html")
    assert all(file.name in examples for file in (ROOT / "examples").glob("*.py"))
    assert {file.stem for file in (ROOT / "docs").glob("*.md")} <= {page.name for page in site.iterdir()}
