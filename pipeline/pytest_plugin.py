"""The pytest plugin `onebuf-check`: tests of Metal shaders, as docs/checking-in-projects.md shows them.

    [tool.pytest.ini_options]
    onebuf_check = ["shaders"]

pytest loads this module in every run where the package is installed, so it imports nothing else: a shader, or a test
that has the fixture, brings along what checks it.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .errors import UsageError

if TYPE_CHECKING:
    from .checking.checkers import Checkers
    from .device.device import Device

SUFFIX, FIXTURE = ".metal", "onebuf_checker"
MARKER = "onebuf_check(schedules=8, allow=()): settings of the fixture onebuf_checker"
_CHOSEN = pytest.StashKey[set[Path]]()
_CHECKERS = pytest.StashKey["Checkers"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("onebuf_check", "shaders to check: folders, files, and patterns such as src/**/*.metal", type="args")
    parser.addini("onebuf_check_options", "options of onebuf-check for all of them, such as -I include", type="args")
    parser.getgroup("onebuf-check").addoption(
        "--onebuf-check", action="store_true", help="check every .metal file in the folders that are collected"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Refuses settings before anything is collected: there, an error is one line."""
    _chosen(session.config)
    if session.config.getini("onebuf_check_options"):
        _case_words(session.config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A shader is collected where a setting or --onebuf-check asks for it, or where its path is an argument."""
    if file_path.suffix != SUFFIX:
        return None
    config = parent.config
    asked = config.getoption("--onebuf-check") or parent.session.isinitpath(file_path)
    if not asked and file_path not in _chosen(config):
        return None
    from .checking.pytest_items import ShaderFile  # NumPy and the core, which other tests need not wait for

    return ShaderFile.from_parent(parent, path=file_path, checkers=_checkers(config))


def _chosen(config: pytest.Config) -> set[Path]:
    """The shaders that the setting names, looked for once."""
    if _CHOSEN not in config.stash:
        found = config.stash[_CHOSEN] = set()
        for pattern in config.getini("onebuf_check"):
            paths = [config.rootpath] if pattern == "." else sorted(config.rootpath.glob(pattern))
            if not paths:
                where = f"there is nothing of that name in {config.rootpath}"
                raise pytest.UsageError(f"onebuf_check: {pattern}: {where}")
            for path in paths:
                found.update(path.rglob(f"*{SUFFIX}") if path.is_dir() else [path])
    return config.stash[_CHOSEN]


def _checkers(config: pytest.Config) -> Checkers:
    """What was compiled and opened in this run of pytest."""
    if _CHECKERS not in config.stash:
        from .checking.checkers import Checkers  # NumPy and the core, which other tests need not wait for

        config.stash[_CHECKERS] = Checkers(_case_words(config))
        config.add_cleanup(config.stash[_CHECKERS].close)
    return config.stash[_CHECKERS]


def _case_words(config: pytest.Config) -> list[str]:
    """Options for each run that a file states. Paths go from the root folder."""
    from .checking.options import parse_case_words  # which other tests need not wait for

    try:
        words = [word for text in config.getini("onebuf_check_options") for word in shlex.split(text)]
        with contextlib.chdir(config.rootpath):
            return parse_case_words(words)
    except (UsageError, ValueError) as error:
        raise pytest.UsageError(f"onebuf_check_options: {error}") from None


@pytest.fixture
def onebuf_checker(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The checker device. The test fails where the checker finds something in its kernels, unless the mark
    `onebuf_check(allow=["KERNEL:LINE=REASON"])` or the setting onebuf_check_options allows it."""
    checkers = _checkers(request.config)
    yield checkers.device(**_marked(request.node))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if FIXTURE not in getattr(item, "fixturenames", ()):
        return (yield)
    with _checkers(item.config).judged(**_marked(item)):
        return (yield)


def _marked(item: pytest.Item) -> dict[str, Any]:
    """The settings of a test's mark."""
    marks = [mark for mark in item.iter_markers("onebuf_check")]
    for mark in marks:
        if mark.args or mark.kwargs.keys() - {"schedules", "allow"}:
            raise pytest.UsageError(f"{item.nodeid}: the mark is {MARKER}")
    return {key: value for mark in reversed(marks) for key, value in mark.kwargs.items()}
