"""One line for each test file that is finished, instead of a dot for each test: count of tests, and seconds."""

from collections import Counter, defaultdict

import pytest


class Progress:
    """Counts what each file's tests take, in the process that prints."""

    def __init__(self, config):
        self._config = config
        self._waiting = Counter()
        self._count, self._failed, self._seconds = Counter(), Counter(), defaultdict(float)

    def pytest_collection_finish(self, session):
        self._waiting = Counter(map(_file, (item.nodeid for item in session.items))) or self._waiting

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids):
        self._waiting = self._waiting or Counter(map(_file, ids))

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report):
        """No letter for a test that passes or is skipped; it counts all the same."""
        if report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            return "passed", "", ""
        if report.skipped and not hasattr(report, "wasxfail"):
            return "skipped", "", ""
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report):
        file = _file(report.nodeid)
        self._seconds[file] += report.duration
        self._failed[file] += report.failed
        if report.when != "teardown":
            return
        self._count[file] += 1
        self._waiting[file] -= 1
        if not self._waiting[file]:
            failed = f", {self._failed[file]} failed" if self._failed[file] else ""
            terminal = self._config.pluginmanager.get_plugin("terminalreporter")
            terminal.ensure_newline()
            terminal.write_line(f"{self._seconds[file]:7.1f} s  {self._count[file]:4d} tests  {file}{failed}")


def _file(nodeid):
    return nodeid.partition("::")[0]
