"""Every example runs with the built-in model, and says something."""

import contextlib
import io
import runpy
import sys

import pytest
from support.paths import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.stem for file in EXAMPLES])
def test_example_runs(file, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(file)])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(file), run_name="__main__")
    assert len(out.getvalue()) > 20


def test_the_page_lists_them():
    page = (ROOT / "docs" / "python.md").read_text()
    assert len(EXAMPLES) >= 10
    assert [file.name for file in EXAMPLES if f"`{file.name}`" not in page] == []
