"""Starts a program of this package as ``python -I isolated.py metalc ARGUMENTS``, wherever that is run.

With -I Python looks neither in the current folder nor in PYTHONPATH for modules. The package is then the one that this
file belongs to, and no folder of the same name takes its place.
"""

import importlib.util
import runpy
import sys
from pathlib import Path


def command(program: str) -> list[str]:
    """The words that start `program`, such as "metalc", with the interpreter that runs now."""
    return [sys.executable or "python3", "-I", str(Path(__file__).resolve()), program]


def main() -> None:
    package = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        package.name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None and spec.loader is not None  # a source file has both
    module = sys.modules[package.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    runpy.run_module(f"{package.name}.{sys.argv.pop(1)}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
