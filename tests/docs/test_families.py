"""docs/families.md names every family and architecture, and commands that are there."""

import re

from support.config_classes import LIKE
from support.families.cases import ALL, CASES
from support.families.gguf_layout import ARCHITECTURES
from support.paths import ROOT

from pipeline.checkpoints.gguf.families import FAMILIES as GGUF
from pipeline.models import FAMILIES

PAGE = (ROOT / "docs" / "families.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]


def test_every_family_has_a_row():
    rows = {row[1].strip("`"): row for row in ROWS if len(row) == 10 and row[1].startswith("`") and row[0] != "Family"}
    assert set(rows) == set(CASES)
    for name, row in rows.items():
        assert row[2].strip("`") == ARCHITECTURES.get(name, "").replace("mixtral", "llama")
        assert all(float(cell) < 5e-3 for cell in row[4:9] if cell) and row[7:9].count("") in (0, 2)


def test_every_family_is_in_one_of_the_tables():
    """Those of the second table have a model that is tested, too."""
    rows = {row[0].strip("`"): row for row in ROWS if len(row) == 6 and row[1].endswith(".py`")}
    assert not set(rows) & set(CASES) and set(rows) | set(CASES) == set(FAMILIES)
    assert {name: row[1].strip("`") for name, row in rows.items()} == {
        name: FAMILIES[name].split(".")[0] + ".py" for name in rows
    }
    models = {case.text_type for case in ALL.values()} | set(LIKE)
    assert set(rows) <= models
    architectures = {family.model_type: name for name, family in GGUF.items()}
    of_file = {name: row[4].strip("`") for name, row in rows.items() if row[4]}
    assert of_file == {name: architectures[name] for name in rows if name in architectures} | {"olmo3": "olmo2"}
    assert all(float(row[5]) < 1e-5 for row in rows.values() if row[4])


def test_the_peers_table_has_the_same_families():
    names = [row[0] for row in ROWS if len(row) == 10 and row[0] not in ("Family", "---")]
    assert [row[0] for row in ROWS if len(row) == 5 and row[0] not in ("Family", "---")] == names


def test_commands_are_there():
    commands = re.findall(r"^python (tests/\S+)", PAGE, re.M)
    assert len(commands) == 2 and all((ROOT / command).is_file() for command in commands)
