"""The sources are formatted, linted and typed by the tools and settings that pyproject.toml and .clang-format state.

A tool that is not installed skips its test; `pip install -e .[test]` brings all of them.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

CLANG_FORMATTED = ("objc/**/*.h", "objc/**/*.m", "objc/**/*.c", "objc/**/*.cpp", "shaders/**/*.metal", "shaders/**/*.h")
CLANG_FORMATTED += ("pipeline/include/metal_*/*",)  # headers of the shader compiler, most without a suffix


def tool(name):
    """The program `name` beside this interpreter, else on the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e .[test]")
    return found


def passes(*command):
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing():
    passes(tool("ruff"), "check", ".")


def test_python_is_formatted():
    passes(tool("ruff"), "format", "--check", ".")


def test_mypy_finds_nothing():
    """In the whole package; its cache is kept, so that the second run takes a second."""
    passes(tool("mypy"), "--python-executable", sys.executable, "--cache-dir", "build/mypy")


@pytest.mark.parametrize("pattern", CLANG_FORMATTED)
def test_c_and_shaders_are_formatted(pattern):
    """Where this fails, `clang-format -i FILE` mends the file."""
    files = [str(file.relative_to(ROOT)) for file in sorted(ROOT.glob(pattern)) if file.is_file()]
    command = [tool("clang-format"), "--dry-run", "-Werror", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    unformatted = {line.split(":", 1)[0] for line in done.stderr.splitlines() if ": error: " in line}
    assert files
    assert not unformatted
    assert done.returncode == 0, done.stderr


def test_the_tools_come_with_the_tests():
    """Each tool that is run here is in the extra `test`, within bounds: another version may judge otherwise."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    for name in ("ruff", "mypy", "clang-format"):
        assert f'"{name}>=' in pyproject and "<" in pyproject.split(f'"{name}>=')[1].split('"')[0]
