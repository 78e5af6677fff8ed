"""Composes steps into a pipeline: shapes and dtypes are checked as each step is added."""

from __future__ import annotations

import contextlib

from ..errors import BuildError, DTypeError, ShapeError
from .plan import Dispatch, Plan, lay_out
from .steps import Steps
from .tensors import Storage, Tensor, as_storage
from .weights import Weight, as_weight


class Pipeline(Steps):
    """A list of steps over `rows` rows, built into one chain: one command buffer a run.

    Rows are whatever goes through together: the tokens of a prompt, the sequences of a batch. Steps
    (:class:`pipeline.graph.steps.Steps`) return tensors; weights are NumPy arrays, Storages or Quantized.
    Nothing reaches a device before :meth:`build`.
    """

    def __init__(self, device="auto", *, rows: int = 1, threads: int = 0, label: str = "pipeline"):
        if rows < 1:
            raise ShapeError(f"a pipeline has at least 1 row, not {rows}")
        self.device = device
        self.threads = threads
        self.rows = rows
        self.label = label
        self._dispatches: list[Dispatch] = []
        self._inputs: dict[str, Tensor] = {}
        self._steps: list[str] = []
        self._scope: list[str] = []
        self._status: Tensor | None = None

    # Values

    def input(self, name: str, shape, dtype: str = "f32") -> Tensor:
        """A value given at each run, as a keyword argument of its name."""
        if name in self._inputs:
            raise BuildError(f"there is an input called {name} already")
        storage = Storage.empty(shape, dtype)
        self._inputs[name] = Tensor(name, storage.shape, dtype, storage, "input")
        return self._inputs[name]

    def state(self, name: str, storage: Storage) -> Tensor:
        """Memory that outlives the run, such as a KV cache; chains may share its Storage."""
        return Tensor(name, storage.shape, storage.dtype, storage, "state")

    def vector(self, value, name: str) -> Tensor:
        """A weight vector as a tensor, from an array, a Storage or a Tensor."""
        if isinstance(value, Tensor):
            return value
        storage = as_storage(value)
        return Tensor(name, storage.shape, storage.dtype, storage, "weight")

    @contextlib.contextmanager
    def scope(self, name: str):
        """Prefixes the names of steps added within: ``with pipe.scope("layers.3"):``."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    @property
    def dispatches(self) -> tuple[Dispatch, ...]:
        """What the steps so far will run, in order."""
        return tuple(self._dispatches)

    # For the steps

    def weight(self, value, name: str) -> Weight:
        return as_weight(value, self.named(name))

    def named(self, name: str) -> str:
        return ".".join((*self._scope, name))

    def scratch(self, name: str, shape, dtype: str = "f32") -> Tensor:
        return Tensor(self.named(name), tuple(shape), dtype)

    def status(self) -> Tensor:
        """Per row: 0, or 1 + the index of the step that failed. Cleared first in every run."""
        if self._status is None:
            self._status = self.state("status", Storage.zeros((self.rows,), "u32"))
            self._dispatches.insert(
                0,
                Dispatch(
                    "clear_status", "clear_status", ((self._status, True),), {"rows": self.rows}, (1, self.rows, 1), 1
                ),
            )
        return self._status

    def failing_step(self, name: str) -> int:
        """The number by which a row reports that the step `name` failed."""
        self._steps.append(self.named(name))
        return len(self._steps)

    def add(
        self,
        name: str,
        kernel: str,
        reads,
        writes,
        constants,
        *,
        columns: int = 1,
        row_tile: int = 1,
        depth: int = 1,
        height: int = 0,
    ) -> None:
        """One dispatch: `columns` threadgroups across, one down for each `row_tile` rows, `depth` deep; with
        `height` that many down, however many rows run.

        `constants` fill the struct argument. Its `rows` are the pipeline's; a run of fewer puts its own there.
        """
        arguments = tuple((tensor, False) for tensor in reads) + tuple((tensor, True) for tensor in writes)
        self._dispatches.append(
            Dispatch(
                self.named(name),
                kernel,
                arguments,
                dict(constants),
                (columns, height or -(-self.rows // row_tile), depth),
                0 if height else row_tile,
            )
        )

    def check_rows(self, tensor: Tensor, what: str, *shape: int, dtype: str = "f32") -> None:
        """Demands [rows, *shape] and the dtype, naming the step and both shapes."""
        if tensor.dtype != dtype:
            raise DTypeError(f"{self.named(what)}: {tensor.name} is {tensor.dtype}, expected {dtype}")
        self.check_shape(tensor, what, self.rows, *shape)

    def check_shape(self, tensor, what: str, *shape: int) -> None:
        if tuple(tensor.shape) != shape:
            raise ShapeError(f"{self.named(what)}: {tensor.name} has shape {tuple(tensor.shape)}, expected {shape}")

    # Building

    def plan(self, outputs) -> Plan:
        """The dispatches with barriers and memory, for printing and tests. Needs no device."""
        single = isinstance(outputs, Tensor)
        outputs = (outputs,) if single else tuple(outputs)
        if not self._dispatches:
            raise BuildError(f"{self.label} has no steps")
        made = {id(tensor) for dispatch in self._dispatches for tensor in dispatch.writes}
        for tensor in outputs:
            if id(tensor) not in made and tensor.storage is None:
                raise BuildError(f"the output {tensor.name} is made by no step of this pipeline")
        barriers, layout = lay_out(self._dispatches, outputs)
        return Plan(
            self.label,
            self.rows,
            tuple(self._dispatches),
            dict(self._inputs),
            outputs,
            single,
            tuple(self._steps),
            self._status,
            tuple(barriers),
            layout,
        )

    def build(self, outputs, copies: int = 1):
        """A :class:`pipeline.graph.chain.Chain` that gives `outputs` (a tensor or several) at each run, each of
        `copies` in memory of its own.

        Raises BuildError when an output is made by no step, DeviceError when the device is unknown.
        """
        from ..device.device import as_device
        from .chain import Chain

        plan = self.plan(outputs)
        self.device = as_device(self.device, self.threads)
        return Chain(plan, self.device, copies)
