"""docs/checkpoints.md: its examples run, and its tables and lists name what there is."""

import re
import subprocess
import sys

import pytest
from support.paths import ROOT

from pipeline.checkpoints import chat_worker
from pipeline.checkpoints.gguf.families import FAMILIES
from pipeline.checkpoints.gguf.pretokenizers import KINDS

PAGE = (ROOT / "docs" / "checkpoints.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("code", EXAMPLES, ids=["checkpoint", "chat"])
def test_example_runs(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_architectures():
    section = PAGE.split("\n## GGUF\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.M)
    architectures = {name for first, _ in cells for name in re.findall(r"`([^`]+)`", first)}
    families = {name for _, second in cells for name in re.findall(r"`([^`]+)`", second)}
    assert architectures | {"mixtral"} == set(FAMILIES)
    assert {family.model_type for family in FAMILIES.values()} <= families
    further = families - {family.model_type for family in FAMILIES.values()}
    assert further == {"granitemoeshared", "deepseek_v3", "olmo3"}


def test_kinds_of_words():
    sentence = re.search(r"is known for (.*?) and more", PAGE, re.S)[1]
    assert set(re.findall(r"`([^`]+)`", sentence)) <= set(KINDS)


def test_limits_of_templates():
    assert f"After {chat_worker.SECONDS:.0f} seconds" in PAGE and f"{chat_worker.MEMORY >> 20} MB" in PAGE
    assert "16 million characters" in PAGE and chat_worker.CHARACTERS == 1 << 24


def test_fuzzer_is_where_the_page_says():
    for command in re.findall(r"^python (tests/\S+)", PAGE, re.M):
        assert (ROOT / command).is_file()
    assert "python tests/fuzz/headers.py gguf --only 4711" in PAGE
    done = subprocess.run(
        [sys.executable, "tests/fuzz/headers.py", "gguf", "--only", "4711"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and done.stdout.startswith("gguf: "), done.stderr


def test_converting():
    from pipeline import convert
    from pipeline.converting.families import FAMILIES as convertible

    section = PAGE.split("\n## Converting\n")[1].split("\n## ")[0]
    named = re.search(r"The families: (.*?)\.\n", section, re.S)[1]
    assert set(re.findall(r"`(\w+)`", named)) == set(convertible)
    cells = {name.split()[0] for name in re.findall(r"^\| `(.*?)` \|", section, re.M)}
    actions = convert._parser()._actions
    assert cells == {action.option_strings[-1] if action.option_strings else action.metavar for action in actions} - {
        "--help"
    }
