"""A Ray of two machines, which are both this one, for tests: two processes of `ray start`, and nothing of any other."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from support.paths import ROOT

SECONDS = 60  # in which a machine is there
MARK = "ONEBUF_TEST_RAY"  # in the environment of what belongs to a Ray of these tests


def environment(folder):
    """That of everything of this Ray, and of programs that use it."""
    own = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(folder), MARK: str(folder)}
    return own | {"PYTHONPATH": str(ROOT)}


def _free_port():
    with socket.socket() as listening:
        listening.bind(("", 0))
        return listening.getsockname()[1]


@contextmanager
def _node(folder, name, *arguments):
    options = ["--block", "--num-cpus", "1", "--object-store-memory", "80000000", "--disable-usage-stats"]
    log = folder / f"{name}.log"
    with open(log, "wb") as out:
        command = [str(Path(sys.executable).with_name("ray")), "start", *options, *arguments]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | environment(folder))
    try:
        end = time.monotonic() + SECONDS
        while b"block forever" not in log.read_bytes():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def machines(folder):
    """The address of a Ray of two machines, with a core each."""
    port, host = _free_port(), socket.gethostbyname(socket.gethostname())
    with ExitStack() as stack:
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
        stack.callback(lambda: [kill(process) for process in _processes(folder)])  # they would take their time
        stack.enter_context(_node(folder, "head", *head))
        address = _address(folder) or f"{host}:{port}"
        stack.enter_context(_node(folder, "other", f"--address={address}"))
        yield address


def _address(folder):
    """Where the head listens, as it says itself."""
    words = [word.strip("'\",") for word in (folder / "head.log").read_text().split()]
    found = [word.partition("--address=")[2].strip("'\"") for word in words if word.startswith("--address=")]
    return found[0] if found else None


def workers(folder):
    """The processes of this Ray's actors."""
    return _processes(folder, b"ray::Worker")


def _processes(folder, name=b""):
    """Those of this Ray whose command begins so, without this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cmdline").read_bytes().startswith(name):
                if f"{MARK}={folder}\0".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return found


def ticks(process):
    """The processor's time that a process had."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[11])


def kill(process):
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
