"""The list of planted mistakes fits the source, so that tests/seeded/run.py can make each of them."""

import tomllib

from support.paths import ROOT

MISTAKES = tomllib.loads((ROOT / "tests/seeded/mistakes.toml").read_text())["mistake"]


def test_each_mistake_has_its_place():
    assert len(MISTAKES) > 100
    counts = {each["name"]: (ROOT / each["file"]).read_text().count(each["find"]) for each in MISTAKES}
    assert {name: count for name, count in counts.items() if count != 1} == {}
    assert len(counts) == len(MISTAKES)


def test_each_mistake_changes_something_that_tests_see():
    for each in MISTAKES:
        assert each["find"] != each["replace"], each["name"]
        paths = [word for word in each["tests"].split() if word.startswith("tests/")]
        assert paths and all((ROOT / path.partition("::")[0]).exists() for path in paths), each["name"]
