"""A process of tests/fuzz/gpu_failures.py: command buffers on a GPU, good ones and ones that fail, one JSON line per
outcome: [what was tried, the error's message or null, seconds]. The library is that of tests/metal."""

import contextlib
import json
import os
import shutil
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.device.core import _core
from pipeline.errors import OnebufError

GROUPS = 16  # threadgroups of `step`, which writes a number each
ADDRESSES = {"null": 0, "unmapped": 1 << 45, "not an address": 0x5A5A_5A5A_5A5A_5A50, "misaligned": 2}
POINTERS = "QQQI4x"  # the argument of the library's visit_pointers: from, two to, value
ENDLESS = 30_000_000  # microseconds: so long that no deadline waits for it, and a machine survives it all the same
TRIES = 250  # command buffers that find no memory for their graph, in each process
STAGES = 4 << 16  # bytes that the core may keep for copies to the GPU: see objc/core/OBTransfers.m
SLACK = 4 << 20  # bytes that the driver may keep for itself


def tell(what, message, seconds=0.0):
    print(json.dumps([what, message, seconds]), flush=True)


@contextlib.contextmanager
def attempt(what):
    """Tells how it ended."""
    begin, message = time.monotonic(), None
    try:
        yield
    except OnebufError as error:
        message = f"{type(error).__name__}: {error}"
    tell(what, message, time.monotonic() - begin)


class Gpu:
    """A device with the library's kernels and memory for `step`."""

    def __init__(self, library, name):
        self.device = _core.open_device(name)
        self.library = self.device.open_library(library)
        self.step = self.library.kernel("step")
        self.start = self.device.buffer(4 * GROUPS, private=True)
        self.device.write([(self.start, 0, np.full(GROUPS, 7, np.uint32))])
        self.between, self.end, self.spare = (self.device.buffer(4 * GROUPS) for _ in range(3))

    def dispatch(self, source, target, value, label):
        size = 4 * GROUPS
        constants = (2, struct.pack("I", value))
        return _core.Dispatch(
            self.step, [(0, source, 0, size), (1, target, 0, size)], constants, (GROUPS, 1, 1), label=label
        )

    def chain(self, value, middle=None):
        """Two steps that add up to 7 + 2 · value, and what is to go wrong between them."""
        first = self.dispatch(self.start, self.between, value, "first step")
        last = self.dispatch(self.between, self.end, value, "last step")
        return self.device.chain([first, *([middle] if middle else []), last], f"chain {value}")

    def result(self, value):
        """Raises where the last chain did not add up."""
        if (np.frombuffer(self.end, np.uint32) != 7 + 2 * value).any():
            raise OnebufError("WRONG RESULT")

    def good(self, value, what="good"):
        with attempt(what), self.chain(value) as chain:
            chain.run()
            self.result(value)

    def stray(self, value, address, again):
        """Writes to an address in the middle. `again`: the chain has run before, when the address was a good one."""
        kernel, size = self.library.kernel("visit_pointers"), struct.calcsize(POINTERS)
        good, bad = (struct.pack(POINTERS, self.start.address, each, each, 1) for each in (self.spare.address, address))
        pointers = self.device.buffer(size)
        memoryview(pointers).cast("B")[:] = good if again else bad
        uses = [(self.between, True), (self.spare, True)]
        middle = _core.Dispatch(kernel, [(0, pointers, 0, size)], threadgroups=(1, 1, 1), label="stray step", uses=uses)
        chain = self.chain(value, middle)
        if again:
            chain.run()
            self.result(value)
            memoryview(pointers).cast("B")[:] = bad
        return chain

    def endless(self, value):
        kernel, microseconds = self.library.kernel("spin"), struct.pack("I", ENDLESS)
        middle = _core.Dispatch(kernel, [(0, self.between, 0, 4)], (1, microseconds), (1, 1, 1), label="endless step")
        return self.chain(value, middle)

    def free(self):
        """Bytes of the GPU's memory that nobody uses, as the driver says."""
        return self.device.working_set - self.device.allocated

    def close(self):
        for each in (self.start, self.between, self.end, self.spare, self.step, self.library, self.device):
            each.close()


def run_behind(gpu, chain, what, behind):
    """Runs it with two good command buffers in flight behind it."""
    others = [gpu.chain(100 + i) for i in range(2)]
    begin = time.monotonic()
    runs = [each.commit() for each in (chain, *others)]
    for run, name in zip(runs, (what, behind, behind)):
        message = None
        try:
            run.wait()
        except OnebufError as error:
            message = f"{type(error).__name__}: {error}"
        tell(name, message, time.monotonic() - begin)
    for each in (*runs, chain, *others):
        with contextlib.suppress(OnebufError):  # a run tells its error again
            each.close()


def addresses(library, device, number):
    """A kernel accesses a bad address: that is the end of GPUs in this process, and of nothing else."""
    names = list(ADDRESSES)
    name, again = names[number % len(names)], number // len(names) % 2 == 1
    gpu = Gpu(library, device)
    for i in range(12):
        gpu.good(i)
    later = gpu.chain(51)
    run_behind(gpu, gpu.stray(50, ADDRESSES[name], again), f"address: {name}", "behind a bad address")
    with attempt("later on a broken GPU"):
        later.run()
    with attempt("buffer on a broken GPU"):
        gpu.device.buffer(64)
    with attempt("another device after a bad address"):
        Gpu(library, device)
    cpu = Gpu(library, "cpu")
    cpu.good(52, "cpu after a bad address")


def endless(library, device, number):
    """A kernel does not end: the device is lost, another one of this process works beside it."""
    gpu = Gpu(library, device)
    for i in range(3):
        gpu.good(i)
    later = gpu.chain(51)
    run_behind(gpu, gpu.endless(50), "endless kernel", "behind an endless kernel")
    with attempt("later on a lost device"):
        later.run()
    with attempt("buffer on a lost device"):
        gpu.device.buffer(64)
    again = Gpu(library, device)
    for i in range(12):
        again.good(i, "good beside an endless kernel")
    again.close()


def memory(library, device, number):
    """The driver has no memory for a command buffer, every second time; `number` chose where."""
    gpu = Gpu(library, device)
    allocated = free = None
    for i in range(TRIES):
        if i == 4:  # what is kept for later is there by now
            allocated, free = gpu.device.allocated, gpu.free()
        with gpu.chain(i) as chain:
            with attempt("no memory for a graph"):
                chain.run()
            with attempt("good"):
                chain.run()
                gpu.result(i)
    kept(gpu, allocated, free)
    gpu.close()


def buffers(library, device, number):
    """The driver has no memory for a buffer, every second time."""
    gpu = Gpu(library, device)
    allocated, free = gpu.device.allocated, gpu.free()
    for i in range(20):
        for what in ("no memory for a buffer", "another buffer"):
            with attempt(what):
                gpu.device.buffer(1 << 20, private=True).close()
        gpu.good(i)
    kept(gpu, allocated, free)
    gpu.close()


def full(library, device, number):
    """All of the GPU's memory is used; command buffers that need no more go on."""
    gpu = Gpu(library, device)
    gpu.good(0)
    allocated, free = gpu.device.allocated, gpu.free()
    chain, hoard, size = gpu.chain(1), [], gpu.device.memory
    chain.run()
    while size >= 1 << 20:
        try:
            hoard.append(gpu.device.buffer(size, private=True))
        except OnebufError as error:
            message = f"{type(error).__name__}: {error}"
            size //= 2
    tell("buffer on a full GPU", message)
    for _ in range(20):
        with attempt("good on a full GPU"):
            chain.run()
            gpu.result(1)
        with attempt("buffer on a full GPU"):
            gpu.device.buffer(1 << 30, private=True).close()
    for i in range(20):  # whether the driver keeps memory for these is its own
        with attempt("new graph on a full GPU"), gpu.chain(i) as new:
            new.run()
            gpu.result(i)
    for buffer in hoard:
        buffer.close()
    for i in range(20):
        gpu.good(i)
    chain.close()
    kept(gpu, allocated, free)
    gpu.close()


def kept(gpu, allocated, free):
    """Tells whether memory came back; what the last command buffer held may come a moment after its end."""
    end, message = time.monotonic() + 2, ""
    while message is not None and time.monotonic() < end:
        lost = gpu.device.allocated - allocated, free - gpu.free()
        leaks = lost[0] > STAGES or lost[1] > SLACK
        message = f"{lost[0]} bytes of buffers, {lost[1]} of the driver" if leaks else None
        time.sleep(0.02 if message else 0)
    tell("memory of a process", message)


def cache(library, device, number):
    """The cache of machine code is removed, is a file, is damaged; the library's text is removed."""
    with tempfile.TemporaryDirectory() as folder:
        bundle, place = Path(folder, "library.metallib"), Path(os.environ["OB_CACHE"])
        shutil.copytree(library, bundle)
        gpu = Gpu(bundle, device)
        before = gpu.chain(1000)
        before.run()

        def codes():
            return list(place.glob("cuda/*/*.cubin"))

        def opened(value, what):
            with attempt(what), gpu.device.open_library(bundle) as again:
                gpu.step, old = again.kernel("step"), gpu.step
                try:
                    with gpu.chain(value) as chain:
                        chain.run()
                        gpu.result(value)
                finally:
                    gpu.step.close()
                    gpu.step = old

        for i in range(9):
            shutil.rmtree(place)
            opened(i, "cache removed")
            tell("cache is back", None if codes() else "WRONG: nothing is kept")
            for code in codes():
                code.write_bytes(b"no machine code\n")
            opened(i, "cache damaged")
            shutil.rmtree(place)
            place.write_text("a file")
            opened(i, "cache is a file")
            shutil.rmtree(place, ignore_errors=True)
            place.unlink()
            os.rename(bundle / "cuda", bundle / "moved")
            opened(i, "text of kernels removed")
            os.rename(bundle / "moved", bundle / "cuda")
            with attempt("good"):  # what was made before goes on
                before.run()
                gpu.result(1000)
            place.mkdir(mode=0o700, exist_ok=True)
        before.close()
        gpu.close()


def compiler(library, device, number):
    """The cache is removed, and there is no compiler."""
    gpu = _core.open_device(device)
    for _ in range(10):
        shutil.rmtree(os.environ["OB_CACHE"], ignore_errors=True)
        with attempt("cache and compiler removed"), gpu.open_library(library) as again:
            again.kernel("step")
    gpu.close()


def free(library, device, number):
    """How many bytes nobody uses."""
    gpu = _core.open_device(device)
    tell("free", str(gpu.working_set - gpu.allocated))
    gpu.close()


KINDS = {each.__name__: each for each in (addresses, endless, memory, buffers, full, cache, compiler, free)}

if __name__ == "__main__":
    KINDS[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
    print("done", flush=True)
