"""The code that docs/adding-a-family.md and docs/adding-a-kernel.md show is in the file that they name."""

import re

from support.paths import ROOT

SECTION = re.compile(r"^## \d+\. [^`\n]*`([\w./]+)`\n(.*?)(?=^## |\Z)", re.M | re.S)
CODE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def shown() -> list:
    found = []
    for page in ("adding-a-family.md", "adding-a-kernel.md"):
        for path, text in SECTION.findall((ROOT / "docs" / page).read_text()):
            for _, code in CODE.findall(text):
                if (ROOT / path).is_file():
                    found.append((path, code))
    return found


def flat(text: str) -> str:
    """Without what a formatter makes different: blanks, line breaks, and commas before a closing bracket."""
    return re.sub(r",(?=[)\]}])", "", "".join(text.split()))


def test_it_is_there():
    pieces = shown()
    assert len(pieces) >= 9
    assert [f"{path}:\n{code}" for path, code in pieces if flat(code) not in flat((ROOT / path).read_text())] == []


def test_named_files_are_there():
    """Each file that the table of what families vary names is there."""
    text = (ROOT / "docs/adding-a-family.md").read_text()
    named = set(re.findall(r"`(\w+\.py)`", text))
    assert len(named) > 10
    for name in named:
        assert list((ROOT / "pipeline").rglob(name)), name
