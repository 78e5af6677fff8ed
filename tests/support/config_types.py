"""The types that transformers' configuration classes give the keys of config.json; `python
tests/support/config_types.py` writes pipeline/data/config_types.json anew from them."""

from __future__ import annotations

import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
JSON = {"list": "list", "tuple": "list", "dict": "dict", "RopeParameters": "dict", "NoneType": ""}
ORDER = ("bool", "int", "float", "str", "list", "dict")


def class_types() -> dict[str, list[str]]:
    """The kinds of JSON value of each key, of all families together: they agree on nearly all of them."""
    import torch
    from transformers import CONFIG_MAPPING

    from pipeline.models.families import FAMILIES
    from support.config_classes import LIKE, OWN, class_defaults

    found: dict[str, set[str]] = {}
    for name in FAMILIES:
        if name in OWN:  # whose class is not among them
            for key, value in OWN[name].items():
                found.setdefault(key, set()).update({JSON.get(kind := type(value).__name__, kind)} - {""})
            continue
        hints = typing.get_type_hints(CONFIG_MAPPING[LIKE.get(name, name)], localns={"torch": torch})
        for key in class_defaults(name):
            if key in hints:
                found.setdefault(key, set()).update(_kinds(hints[key]))
    return {key: [kind for kind in ORDER if kind in found[key]] for key in sorted(found) if found[key]}


def _kinds(hint: Any) -> set[str]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return {kind for part in typing.get_args(hint) for kind in _kinds(part)}
    if origin is typing.Literal:
        return {type(value).__name__ for value in typing.get_args(hint)}
    name = (origin or hint).__name__
    return {JSON.get(name, name)} - {""}


def main() -> None:
    from pipeline.models.key_types import FILE

    lines = [f'  "{key}": {json.dumps(kinds)}' for key, kinds in class_types().items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.path[:1] = [str(ROOT), str(ROOT / "tests")]  # in place of this folder, whose modules are named as others are
    main()
