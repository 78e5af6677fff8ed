"""What docs/adding-a-family.md and docs/adding-a-kernel.md show of a file is in that file."""

import re

import pytest
from support.paths import ROOT

SECTION = re.compile(r"^## \d+\. [^`\n]*`([\w./]+)`\n(.*?)(?=^## |\Z)", re.M | re.S)
CODE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def shown() -> list:
    found = []
    for page in ("adding-a-family.md", "adding-a-kernel.md"):
        for path, text in SECTION.findall((ROOT / "docs" / page).read_text()):
            for _, code in CODE.findall(text):
                if (ROOT / path).is_file():
                    found.append(pytest.param(path, code, id=f"{page}-{path}-{code.split()[0]}-{code.split()[1]}"))
    return found


def flat(text: str) -> str:
    """Without what a formatter makes different: blanks, line breaks, and commas before a closing bracket."""
    return re.sub(r",(?=[)\]}])", "", "".join(text.split()))


@pytest.mark.parametrize("path, code", shown())
def test_it_is_there(path, code):
    assert flat(code) in flat((ROOT / path).read_text())


def test_there_is_code():
    assert len(shown()) >= 9


def test_named_files_are_there():
    """Of the table of what families vary."""
    text = (ROOT / "docs/adding-a-family.md").read_text()
    named = set(re.findall(r"`(\w+\.py)`", text))
    assert len(named) > 10
    for name in named:
        assert list((ROOT / "pipeline").rglob(name)), name
