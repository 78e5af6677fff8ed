"""The options of a run on several machines: --ray and --ray-actors."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from ..host import CHECKER, CUDA, LIST

__all__ = ["AUTO", "LOCAL", "check_ray"]

AUTO, LOCAL = "auto", "local"  # instead of an address: the Ray that is there, else one of the run's own; always that
MOST_ACTORS = 256  # of a machine


def check_ray(settings: Any) -> None:
    """Raises UsageError that names what does not go with --ray."""
    if settings.ray is None:
        if settings.ray_actors is not None:
            raise UsageError("--ray-actors: is the number of actors on each machine of Ray; give --ray, too")
        return
    if settings.device == LIST:
        return
    host, colon, port = settings.ray.rpartition(":")
    if settings.ray not in (AUTO, LOCAL) and not (host and colon and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise UsageError(
            f"--ray {settings.ray:.80}: no address; give {AUTO}, {LOCAL}, or HOST:PORT of a head such as 10.0.0.1:6379"
        )
    if "://" in settings.ray:
        raise UsageError(f"--ray {settings.ray:.80}: give HOST:PORT alone, and run this on a machine of that Ray")
    if settings.prompts is None:
        raise UsageError("--ray: spreads the rows of a file over machines; give --prompts FILE")
    for option, given in (("--explain", settings.explain), ("--trace", settings.trace is not None)):
        if given:
            raise UsageError(f"{option}: shows the steps of one machine; leave out --ray")
    if settings.device == CHECKER:
        raise UsageError(f"--device {CHECKER}: reports to the process that it runs in; leave out --ray")
    if settings.device.startswith(f"{CUDA}:"):
        raise UsageError(f"--device {settings.device}: Ray says which actor has which GPU; give --device {CUDA}")
    actors = settings.ray_actors
    if actors is not None and not 1 <= actors <= MOST_ACTORS:
        raise UsageError(f"--ray-actors {actors}: impossible; give 1 to {MOST_ACTORS}")
