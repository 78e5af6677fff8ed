"""The promises of docstrings about threads: refused, or right."""

import threading
import time

import numpy as np
import pytest

import pipeline as p
from pipeline.errors import RunError

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
