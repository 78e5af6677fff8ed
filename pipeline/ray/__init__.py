"""Ray: the rows of a run on many machines, and a stage for Ray Data.

front end (cli) ─▶ requests ─▶ crew: orders to actors, answers back ─▶ events ─▶ rows
                               worker: one model, one scheduler, in an actor of its own
"""

from .._lazy import lazy

_HOMES = {"Generate": ".data"}

__getattr__, __dir__, __all__ = lazy(__name__, _HOMES)
