"""Where things lie in the source tree."""

import json
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
DATA = TESTS / "data"
SHADERS = ROOT / "shaders"


def golden(name):
    """What tests/data/NAME.json keeps."""
    return json.loads((DATA / f"{name}.json").read_text())
