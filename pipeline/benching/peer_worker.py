"""The process of a peer, which peer_process.py starts. It reads requests from standard input, one line of JSON each,
and answers each with one line.

What the peer itself prints goes to standard error. It ends when standard input does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ..errors import OnebufError, RunError, UsageError
from .llama_cpp import LlamaCpp
from .peer import LLAMA_CPP
from .torch_peer import TorchPeer
from .workloads import Workload

__all__ = ["main"]


class Worker:
    """Answers requests for one peer."""

    def __init__(self) -> None:
        self._peer: LlamaCpp | TorchPeer | None = None

    def answer(self, verb: str, given: dict[str, Any]) -> object:
        """The result of one request."""
        if verb == "start":
            kind = LlamaCpp if given["peer"] == LLAMA_CPP else TorchPeer
            self._peer = kind(given["threads"], gpu=given["gpu"])
            return self._peer.engine
        if self._peer is None:
            raise RunError(f"{verb}: nothing was started")
        if verb == "load":
            self._peer.load(Path(given["model"]), given["kv_cache"])
            return self._peer.engine
        work = Workload(**given["work"])
        if verb == "prepare":
            self._peer.prepare(work)
            return self._peer.engine
        return self._peer.measure(work, given["prompts"])

    def close(self) -> None:
        if self._peer is not None:
            self._peer.close()


def main() -> None:
    """Answers until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes, and the other one ends this one
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: dict[str, object] = {"result": worker.answer(request.pop("verb"), request)}
        except OnebufError as error:
            answer = {"error": str(error), "usage": isinstance(error, UsageError)}
        except Exception as error:  # the peer's own, of whatever kind
            text = " ".join(str(error).split())[:400]
            answer = {"error": f"{type(error).__name__}: {text}", "usage": False}
        print(json.dumps(answer), file=answers, flush=True)
    worker.close()


if __name__ == "__main__":
    main()
