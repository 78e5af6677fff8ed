"""A peer in a process of its own: its memory, its threads and its GPU context stay there, and a crash is one line here.

Requests and answers are lines of JSON over pipes; peer_worker.py is the other end. The peer keeps the time itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..device.device import Device
from ..errors import RunError, UsageError
from ..host import CUDA
from .workloads import Prompts, Workload

__all__ = ["PeerProcess", "gpu_variables"]

PATIENCE = 10  # seconds for the process to end by itself
VISIBLE = "CUDA_VISIBLE_DEVICES"


class PeerProcess:
    """One side of the benchmark. `engine` describes the peer's build, and how it ran what it was given so far."""

    def __init__(self, name: str, device: Device) -> None:
        """Starts the process. UsageError where the peer cannot run on the device, and how to mend that."""
        self.name = name
        self.engine: dict[str, Any] = {}
        self._said = tempfile.TemporaryFile()
        # Modules are looked for where this process looks, and not in the current folder.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        kind = device.name.partition(":")[0]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.benching.peer_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": path} | (gpu_variables(device.name) if kind == CUDA else {}),
            text=True,
        )
        try:
            self.engine = self._ask("start", peer=name, gpu=kind == CUDA, threads=device.threads)
        except BaseException:
            self.close()
            raise

    def load(self, model: Path, kv_cache: str) -> None:
        """Loads the model's file or folder."""
        self.engine |= self._ask("load", model=str(model), kv_cache=kv_cache)

    def prepare(self, work: Workload) -> None:
        """Makes all that the workload needs before it is measured."""
        self.engine |= self._ask("prepare", work=work.fields())

    def measure(self, work: Workload, prompts: Prompts) -> float:
        """Runs the workload; returns the seconds of its timed part."""
        return float(self._ask("measure", work=work.fields(), prompts=prompts))

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._said.close()

    def _ask(self, verb: str, **given: object) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # both are pipes
        line = ""
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps({"verb": verb, **given}) + "\n")
            stdin.flush()
            line = stdout.readline()
        if not line.endswith("\n"):
            raise RunError(f"--peer {self.name}: its process ended with {self._process.wait()} {self._last_line()}")
        answer = json.loads(line)
        if "error" in answer:
            kind = UsageError if answer["usage"] else RunError
            raise kind(f"--peer {self.name}: {answer['error']}")
        return answer["result"]

    def _last_line(self) -> str:
        """What the process said last."""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"({lines[-1].strip()[:200]})" if lines else "and said nothing"


def gpu_variables(device: str) -> dict[str, str]:
    """The environment in which the GPU called `device`, such as "cuda:1", is the only one that CUDA shows."""
    number = int(device.partition(":")[2] or 0)
    shown = [entry for entry in os.environ.get(VISIBLE, "").split(",") if entry.strip()]
    return {VISIBLE: shown[number] if number < len(shown) else str(number)}
