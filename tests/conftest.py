"""What every test file shares: the devices of this machine."""

import functools
import gc
import os
import sys

# Python's bytecode is kept, also where the environment says otherwise: each of the many processes that tests start
# would spend half of its time on compiling the same modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Before NumPy is imported: its threads would wait busily for cores that the device's threads need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["OB_TUNING"] = "0"  # no test reads the table of a user

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from support.processors import CHECKERS, PROCESSORS, SHADERS_ALONE  # noqa: E402
from support.progress import Progress  # noqa: E402

# The same examples every time, and no limit on the time of one: the machine may be busy.
hypothesis.settings.register_profile(
    "onebuf",
    deadline=None,
    derandomize=True,
    max_examples=30,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("onebuf")
ON_CHECKER = 10  # examples there, where one takes a hundred times longer; the other devices have all of them


def _param(item, fixture):
    return item.callspec.params.get(fixture) if hasattr(item, "callspec") else None


def _device_of(item):
    return _param(item, "opened")


def _id(each):
    return f"{each[0]}{each[1] if each[0] == 'cpu' else ''}"


def pytest_addoption(parser):
    parser.addoption(
        "--schedules",
        type=int,
        metavar="N",
        help="orders of threads that the checker tries for each dispatch (default: 3, and 8 with -m exhaustive)",
    )


def pytest_configure(config):
    if not hasattr(config, "workerinput") and config.option.verbose <= 0:
        config.pluginmanager.register(Progress(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fewer examples run on the checker. A decorated test keeps its settings, so they are changed where it keeps
    them."""
    name = "_hypothesis_internal_use_settings"
    own = getattr(getattr(item, "obj", None), name, None)
    if own is None or _device_of(item) not in CHECKERS or item.config.option.markexpr == "exhaustive":
        return (yield)
    setattr(item.obj, name, hypothesis.settings(own, max_examples=min(own.max_examples, ON_CHECKER)))
    try:
        return (yield)
    finally:
        setattr(item.obj, name, own)


@pytest.hookimpl(tryfirst=True)  # before the parameters become tests
def pytest_generate_tests(metafunc):
    """Makes no tests of the products that a daily run leaves out: they are twice as many as those that it takes."""
    if metafunc.config.option.markexpr != "not exhaustive":
        return
    marks = metafunc.definition.own_markers
    for place, mark in enumerate(marks):
        if mark.name == "parametrize":
            names, values, *more = mark.args
            daily = [value for value in values if not _is_exhaustive(value)]
            if daily and len(daily) < len(values):
                marks[place] = pytest.mark.parametrize(names, daily, *more, **mark.kwargs).mark


def _is_exhaustive(value):
    return any(mark.name == "exhaustive" for mark in getattr(value, "marks", ()))


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Leaves cases to -m exhaustive where another device finds the same mistakes.

    One thread runs the shaders that the checker runs, so it takes the cases that the checker takes. A step without
    native kernels runs the same code with one thread and with two."""
    for item in items:
        off_checker, one_processor, on_cpu1 = map(
            item.get_closest_marker, ("off_checker", "one_processor", "all_on_cpu1")
        )
        device = _device_of(item)
        left = off_checker and (device in CHECKERS or (device == SHADERS_ALONE and not on_cpu1))
        if left or (one_processor and SHADERS_ALONE in (device, _param(item, "processor"))):
            item.add_marker("exhaustive")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """The tests themselves stay to the end: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


@functools.cache
def _open(param, **settings):
    import pipeline

    name, threads = param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OB_NATIVE", "0" if param == SHADERS_ALONE else "1")
        return pipeline.open_device(name, threads=threads, **settings)


# Scopes are modules, so that tests stay in the order of their files; a process opens each device once all the same.


@pytest.fixture(scope="module", params=PROCESSORS, ids=_id)
def processor(request):
    """A device that runs kernels at speed: for thousands of rows, and for what is not about kernels."""
    return _open(request.param)


@pytest.fixture(scope="module", params=PROCESSORS + CHECKERS, ids=_id)
def opened(request):
    """Any device, for fixtures that keep what they make of it."""
    # The first three are one by chance, the first thread first and the last first. Races are seen in any of them.
    few = 8 if request.config.option.markexpr == "exhaustive" else 3
    schedules = request.config.getoption("schedules") or few if request.param in CHECKERS else 0
    return _open(request.param, schedules=schedules)


@pytest.fixture
def device(opened):
    """Any device. On the checker a test also fails for what is found in its kernels."""
    opened.clear_findings()
    yield opened
    found = opened.findings
    opened.clear_findings()
    if found:
        pytest.fail("\n\n".join(map(str, found)), pytrace=False)
