"""A plugin of pytest for runs in which each kernel costs much: few examples of hypothesis; and a list of the built-in
kernels that each test asks the GPU for.

    python -m pytest -p support.sampled [--kernels-to FILE] ...

Each line of FILE is the name of a test, a tab, and its kernels.
"""

import hypothesis
import pytest

EXAMPLES = 2


def pytest_addoption(parser):
    parser.addoption("--kernels-to", metavar="FILE", help="add a line per test with its kernels on the GPU to FILE")


@pytest.hookimpl(trylast=True)  # after the profile of all tests
def pytest_configure(config):
    hypothesis.settings.register_profile(
        "sampled",
        hypothesis.settings.get_profile("onebuf"),
        max_examples=EXAMPLES,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    hypothesis.settings.load_profile("sampled")
    if config.option.kernels_to:
        config.pluginmanager.register(Kernels(config.option.kernels_to))


class Kernels:
    def __init__(self, path):
        from pipeline.device import device

        self._path, self._names, own = path, set(), device.Device.kernel

        def kernel(given, name):
            if given.tensor_cores:  # a GPU
                self._names.add(name)
            return own(given, name)

        device.Device.kernel = kernel

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        self._names.clear()
        try:
            return (yield)
        finally:
            if self._names:
                with open(self._path, "a") as file:
                    file.write(f"{item.nodeid}\t{' '.join(sorted(self._names))}\n")
