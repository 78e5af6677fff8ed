"""The code that docs/adding-a-family.md and docs/adding-a-kernel.md show is in the file that they name."""

import re

from support.paths import ROOT

SECTION = re.compile(r"^## \d+\. [^`\n]*`([\w./]+)`\n(.*?)(?=^## |\Z)", re.M | re.S)
CODE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


FILE = re.compile(r"`(\w+\.\w+)`")


def shown() -> list:
    """(the file that the section's title names, and files beside it that its text names; a piece of code)."""
    found = []
    for page in ("adding-a-family.md", "adding-a-kernel.md"):
        for path, text in SECTION.findall((ROOT / "docs" / page).read_text()):
            named = [path, *(f"{path.rpartition('/')[0]}/{name}" for name in FILE.findall(text))]
            files = [file for file in dict.fromkeys(named) if (ROOT / file).is_file()]
            found += [(files, code) for _, code in CODE.findall(text) if files]
    return found


def flat(text: str) -> str:
    """Without what a formatter makes different: blanks, line breaks, and commas before a closing bracket."""
    return re.sub(r",(?=[)\]}])", "", "".join(text.split()))


def test_it_is_there():
    pieces = shown()
    assert len(pieces) >= 9
    texts = [(files, code, [flat((ROOT / file).read_text()) for file in files]) for files, code in pieces]
    assert [f"{files}:\n{code}" for files, code, found in texts if not any(flat(code) in text for text in found)] == []


def test_named_files_are_there():
    """Each file that the table of what families vary names is there."""
    text = (ROOT / "docs/adding-a-family.md").read_text()
    named = set(re.findall(r"`(\w+\.py)`", text))
    assert len(named) > 10
    for name in named:
        assert list((ROOT / "pipeline").rglob(name)), name
