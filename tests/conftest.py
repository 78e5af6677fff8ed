"""What every test file shares: the devices of this machine."""

import os
import sys

# Before NumPy is imported: its threads would wait busily for cores that the device's threads need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# The same examples every time, and no limit on the time of one: the machine may be busy.
hypothesis.settings.register_profile("onebuf", deadline=None, derandomize=True, max_examples=30,
                                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
hypothesis.settings.load_profile("onebuf")


def _devices():
    """(name, threads) of every device present: the CPU alone and with two workers, and the checker with
    threadgroups of three simdgroups, which is no power of two."""
    return [("metal", 0)] if sys.platform == "darwin" else [("cpu", 1), ("cpu", 2), ("checker", 96)]


def pytest_addoption(parser):
    parser.addoption("--schedules", type=int, default=8, metavar="N",
                     help="orders of threads that the checker tries for each dispatch (default: 8)")


@pytest.fixture(scope="session", params=_devices(), ids=lambda each: f"{each[0]}{each[1] if each[0] == 'cpu' else ''}")
def opened(request):
    """A device of this machine, for fixtures that keep what they make of it."""
    import pipeline

    name, threads = request.param
    schedules = request.config.getoption("schedules") if name == "checker" else 0
    return pipeline.open_device(name, threads=threads, schedules=schedules)


@pytest.fixture
def device(opened, request):
    """A device of this machine. On the checker a test also fails for what is found in its kernels."""
    if opened.name == "checker" and request.node.get_closest_marker("many_rows"):
        pytest.skip("too many rows to run thread by thread")
    opened.clear_findings()
    yield opened
    found = opened.findings
    opened.clear_findings()
    if found:
        pytest.fail("\n\n".join(map(str, found)), pytrace=False)
