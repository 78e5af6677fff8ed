"""The promises of docstrings about threads: refused, or right."""

import importlib
import inspect
import re
import threading
import time

import numpy as np
import pytest
from support.paths import ROOT

import pipeline as p
from pipeline.checkpoints import Chat, builtin_model
from pipeline.errors import RunError, UsageError

pytestmark = pytest.mark.one_processor  # threads that call, not those of the device


def test_a_chain_refuses_a_second_thread(device, monkeypatch):
    pipe = p.Pipeline(device, rows=2, label="doubled")
    x = pipe.input("x", (2, 4))
    chain = pipe.build(pipe.rms_norm(x))
    ones, entered, leave = np.ones((2, 4), np.float32), threading.Event(), threading.Event()
    results, commit = [], chain.commit

    def slow(rows):
        entered.set()
        assert leave.wait(10)
        return commit(rows)

    monkeypatch.setattr(chain, "commit", slow)
    first = threading.Thread(target=lambda: results.append(chain.run(x=ones)))
    first.start()
    assert entered.wait(10)
    with pytest.raises(
        RunError, match="^doubled runs in another thread already; build a chain for each thread, or lock$"
    ):
        chain.run(x=2 * ones)
    leave.set()
    first.join()
    np.testing.assert_array_equal(results[0], chain.run(x=ones))  # undisturbed, and free again


def test_a_chain_that_failed_is_free_again(device):
    pipe = p.Pipeline(device, rows=1)
    chain = pipe.build(pipe.fused_moe_routing(pipe.input("logits", (1, 4)), 2))
    for _ in range(2):
        with pytest.raises(RunError, match="had nothing to choose from"):
            chain.run(logits=np.full((1, 4), np.nan, np.float32))


def test_a_storage_has_one_memory_for_all_threads(device, monkeypatch):
    allocate, made = p.Storage._allocate, []

    def slow(self, on):
        time.sleep(0.01)
        made.append(allocate(self, on))
        return made[-1]

    monkeypatch.setattr(p.Storage, "_allocate", slow)
    storage, found = p.Storage.zeros((4,)), []
    threads = [threading.Thread(target=lambda: found.append(storage.on(device))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(made) == 1 and found == made * 8


class SlowChain:
    """A chain of the core, in the place of its device too, that runs until it is let go."""

    label = "slow"

    def __init__(self):
        self.entered, self.leave = threading.Event(), threading.Event()

    def chain(self, dispatches, label):
        return self

    def run(self):
        self.entered.set()
        assert self.leave.wait(10)


def test_a_chain_of_own_kernels_refuses_a_second_thread():
    core = SlowChain()
    chain = p.DispatchChain(core, [], "slow")
    first = threading.Thread(target=chain.run)
    first.start()
    assert core.entered.wait(10)
    with pytest.raises(
        RunError, match="^slow runs in another thread already; make a chain and buffers for each thread"
    ):
        chain.run()
    core.leave.set()
    first.join()
    chain.run()


def test_a_generator_refuses_a_second_run_at_once():
    """In one thread, and where many threads begin at the same moment: one gets all its tokens, the others the error."""
    model = p.load_model(p.open_checkpoint(builtin_model()), device="cpu")
    request = p.Request(0, (0, 819, 779, 259), max_tokens=20)
    alone, generator = list(p.Generator(model).run([request])), p.Generator(model)
    first = generator.run([request])
    begun = [next(first)]
    with pytest.raises(UsageError, match="^this Generator runs already; end or close that run first"):
        next(generator.run([request]))
    assert begun + list(first) == alone
    barrier, found = threading.Barrier(8), []

    def work():
        barrier.wait()
        try:
            found.append(list(generator.run([request])))
        except UsageError:
            found.append(None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 8 and any(found) and all(events in (None, alone) for events in found)
    assert list(generator.run([request])) == alone


def test_conversations_of_several_threads_do_not_mix():
    template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    with Chat("test", {"default": template}, {}) as chat:
        found = {}

        def work(i):
            found[i] = [chat.render([{"role": "user", "content": f"{i}.{j}"}]) for j in range(20)]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert found == {i: [f"<{i}.{j}>" for j in range(20)] for i in range(4)}


PACKAGES = ("", ".device", ".checkpoints", ".graph", ".models", ".generation", ".language", ".ops")


def test_the_page_has_every_public_class():
    packages = [importlib.import_module("pipeline" + name) for name in PACKAGES]
    classes = {name for each in packages for name in each.__all__ if inspect.isclass(getattr(each, name))}
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs" / "threads.md").read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert set(named) - {"load_model"} == classes and len(named) == len(set(named))
