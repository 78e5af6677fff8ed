"""The report for the first people with a Mac: tried on the processor, and with parts that fail."""

import json

import pytest
from support.paths import ROOT


@pytest.fixture
def mac_report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import mac_report

    return mac_report


def test_the_parts_say_what_is_right(mac_report, monkeypatch):
    monkeypatch.setenv("OB_LIMITS", "macOS=15")
    parts = {name: mac_report.PARTS[name] for name in ("system", "limits", "starts", "story", "others")}
    parts["kernels"] = lambda device: mac_report.kernels(device, "tests/kernels/test_norm.py -x --maxfail=1")
    found = json.loads(json.dumps(mac_report.report("cpu", parts)))
    assert found["limits"]["name"] == "cpu" and found["limits"]["max_buffer"] > 1 << 20
    assert found["story"]["texts"] == found["story"]["equal"] > 3
    assert found["others"]["cpu"]["equal"] == found["story"]["equal"]
    assert found["others"]["checker"] == ["race, line 4"]
    first, second, without = (found["starts"][name] for name in ("first", "second", "without archive"))
    assert first["compiled"] == second["from the archive"] > 5
    assert first["from the archive"] == second["compiled"] == without["compiled"] == without["from the archive"] == 0
    assert all(each["resident bytes"] > 1 << 20 and each["ready in s"] > 0 for each in (first, second, without))
    kernels = found["kernels"]
    assert kernels["tests"] > kernels["skipped"] and kernels["failures"] == kernels["errors"] == 0
    assert all(part["seconds"] >= 0 and "error" not in part for part in map(found.get, parts))


def test_a_part_that_fails_does_not_end_the_report(mac_report, capsys):
    def broken(device):
        raise RuntimeError(f"{ROOT}/x broke on {device}")

    found = mac_report.report("metal", {"kernels": broken, "system": mac_report.system})
    assert found["kernels"]["error"] == "RuntimeError: ./x broke on metal"
    assert found["system"]["machine"]


def test_a_text_that_differs_says_where(mac_report, monkeypatch, tmp_path):
    wanted = json.loads(mac_report.GOLDEN.read_text())
    wanted["4bit"] = wanted["4bit"][:2]
    wanted["4bit"][1]["tokens"][3] += 1
    monkeypatch.setattr(mac_report, "GOLDEN", tmp_path / "golden.json")
    mac_report.GOLDEN.write_text(json.dumps(wanted))
    assert mac_report.story("cpu") | {"seconds": 0} == {
        "texts": 2,
        "equal": 1,
        "first difference": [None, 3],
        "seconds": 0,
    }
