"""Ray itself: a connection to its machines, and the actors on them. Nothing else of the package uses Ray."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from ..cli.on_ray import AUTO, LOCAL
from ..errors import UsageError
from ..host import CUDA
from .orders import Setup
from .worker import Worker

__all__ = ["Actor", "Cluster", "Place", "places"]

CONNECT_SECONDS = 5.0  # in which the head of a cluster must be heard
MOST_CALLS = 100_000  # at the same time in an actor: the crew says how many there are
# Ray writes messages of its own machines to standard output, where rows may go. The pattern drops every line of them;
# what matters of them is said by the crew.
_QUIET = {"RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "^", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Place:
    """Where an actor runs: a machine of Ray, and what it takes of it."""

    node: str
    name: str  # of the machine, for people
    cpus: float
    gpus: int = 0


def places(nodes: list[dict[str, Any]], device: str, per_machine: int | None) -> list[Place]:
    """The places of a cluster's actors: each GPU, where there are any or they are asked for; else on each machine one,
    or as many as are asked for, which share its cores. UsageError where there is none."""
    alive = [node for node in nodes if node["Alive"]]
    found = [place for node in alive for place in _gpu_places(node)] if device in (AUTO, CUDA) else []
    if not found and device != CUDA:
        found = [place for node in alive for place in _cpu_places(node, per_machine or 1)]
    if not found:
        what = "GPU" if device == CUDA else "CPU"
        raise UsageError(f"--ray: no machine of this Ray offers a {what}; `ray status` shows what it has")
    return found


def _gpu_places(node: dict[str, Any]) -> Iterator[Place]:
    resources = node["Resources"]
    gpus = int(resources.get("GPU", 0))
    for _ in range(gpus):  # each has a core to itself where there are enough
        yield Place(node["NodeID"], node["NodeManagerAddress"], 1.0 if resources.get("CPU", 0) >= gpus else 0.0, 1)


def _cpu_places(node: dict[str, Any], count: int) -> Iterator[Place]:
    cores = int(node["Resources"].get("CPU", 0))
    for _ in range(min(count, cores)):
        yield Place(node["NodeID"], node["NodeManagerAddress"], cores // min(count, cores))


class Cluster:
    """A connection to Ray. UsageError where there is none to be had.

    Its end takes the actors away, and a Ray that it has started itself."""

    def __init__(self, address: str) -> None:
        self._ray = _package()
        self._connect(address)

    def places(self, device: str, per_machine: int | None) -> list[Place]:
        return places(self._ray.nodes(), device, per_machine)

    def actor(self, place: Place, setup: Setup) -> Actor:
        """A worker at a place. Ray begins it anew when it dies, elsewhere if that machine is gone."""
        where = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.node, soft=True)
        on_gpu = {"device": CUDA} if place.gpus else {"cpus": int(place.cpus)}
        made = self._ray.remote(Worker).options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            max_restarts=-1,
            max_concurrency=MOST_CALLS,
            scheduling_strategy=where,
        )
        return Actor(self._ray, made.remote(replace(setup, **on_gpu)))

    def close(self) -> None:
        self._ray.shutdown()

    def _connect(self, address: str) -> None:
        if address not in (AUTO, LOCAL):
            _check_reachable(address)
        quiet = {"log_to_driver": False, "logging_level": "CRITICAL", "include_dashboard": False}
        try:
            with _own_signals(), _silent():
                self._ray.init(address=None if address == AUTO else address, **quiet)
        except Exception as error:  # of many kinds: versions that differ, a head that is no head
            raise UsageError(f"--ray {address}: {_reason(error)}") from error


class Actor:
    """A worker somewhere. Its calls give futures."""

    def __init__(self, ray: Any, handle: Any) -> None:
        self._errors = ray.exceptions
        self._ray = ray
        self._handle = handle

    def call(self, name: str, *arguments: object) -> Future[Any]:
        future: Future[Any] = getattr(self._handle, name).remote(*arguments).future()
        return future

    def has_died(self, error: BaseException) -> bool:
        """Whether an error says that the worker's process is not there; Ray may begin it anew."""
        return isinstance(error, self._errors.RayActorError)

    def is_gone(self, error: BaseException) -> bool:
        """Whether it says that the worker will not be begun anew."""
        return isinstance(error, self._errors.ActorDiedError)

    @staticmethod
    def reason(error: BaseException) -> str:
        """The error in a line; of one that the worker's code raised, that one."""
        cause = getattr(error, "cause", None)
        return _line(cause if isinstance(cause, BaseException) else error)

    def kill(self) -> None:
        with contextlib.suppress(Exception):  # it may be gone
            self._ray.kill(self._handle)


def _package() -> Any:
    os.environ.update(_QUIET)
    try:
        import ray  # an extra, which runs on one machine do not need
    except ImportError:
        raise UsageError("--ray: needs the package ray: pip install onebuf[ray]") from None
    return ray


def _check_reachable(address: str) -> None:
    """Raises UsageError where nobody listens: Ray would try for a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--ray {address}: cannot be reached: {reason}; see `ray status` on its head") from None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps what signals do here: Ray ends a process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drops what Ray's native code writes to standard error while it tries: the exception says why it failed."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _reason(error: BaseException) -> str:
    """Why there is no connection."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < 10:
        causes.append(cause)
    if any(type(cause).__name__ == "AuthenticationError" or "AuthToken" in str(cause) for cause in causes):
        return "asks for a token; set RAY_AUTH_MODE=token, and give the token as Ray's documentation says"
    return _line(error)


def _line(error: object) -> str:
    """The first line of a message."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
