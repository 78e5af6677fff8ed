"""What every test file shares: the devices of this machine."""

import os
import sys

# Before NumPy is imported: its threads would wait busily for cores that the device's threads need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# The same examples every time, and no limit on the time of one: the machine may be busy.
hypothesis.settings.register_profile("onebuf", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("onebuf")


def _devices():
    """(name, threads) of every device present; the CPU alone and with two workers."""
    return [("metal", 0)] if sys.platform == "darwin" else [("cpu", 1), ("cpu", 2)]


@pytest.fixture(scope="session", params=_devices(), ids=lambda each: f"{each[0]}{each[1] or ''}")
def device(request):
    import pipeline

    name, threads = request.param
    return pipeline.open_device(name, threads=threads)
