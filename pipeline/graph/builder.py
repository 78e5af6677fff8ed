"""Composes steps into a pipeline: shapes and dtypes are checked as each step is added."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from ..device.choices import Choices
from ..device.device import Device, as_device
from ..errors import BuildError
from .chain import Chain
from .fusing import fuse
from .plan import Dispatch, Plan, lay_out
from .steps import Steps
from .tensors import Storage, Tensor


class Pipeline(Steps):
    """A list of steps over `rows` rows, built into one chain: one command buffer per run.

    Rows are whatever goes through together: the tokens of a prompt, the sequences of a batch. Steps
    (`pipeline.graph.steps.Steps`) return tensors; weights are NumPy arrays, Storages or Quantized.
    Nothing reaches a device before `build`. shows_status: whether the host looks at the status of rows after
    a run, as `pipeline.Chain.run` does; where it does not, the status may be where only the device sees it. own_slots:
    each row has a slot of the KV cache of its own, as rows that decode have and the tokens of a prompt have not; a GPU
    then needs fewer dispatches.

    Threads: a pipeline is built by one thread at a time; the order of its steps is the order of the calls.
    """

    def __init__(
        self,
        device: str | Device = "auto",
        *,
        rows: int = 1,
        threads: int = 0,
        label: str = "pipeline",
        shows_status: bool = True,
        own_slots: bool = False,
    ) -> None:
        super().__init__(rows, shows_status=shows_status)
        self._own_slots = own_slots
        self._all_rows = rows
        self.device = device
        self.threads = threads
        self.label = label
        self._inputs: dict[str, Tensor] = {}

    def input(self, name: str, shape: Sequence[int], dtype: str = "f32") -> Tensor:
        """A value that each run is given, as a keyword argument of its name."""
        if name in self._inputs:
            raise BuildError(f"there is an input called {name} already")
        storage = Storage.empty(shape, dtype, shared=True)
        self._inputs[name] = Tensor(name, storage.shape, dtype, storage, "input")
        return self._inputs[name]

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefixes the names of steps added within: ``with pipe.scope("layers.3"):``."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    @property
    def simd_width(self) -> int:
        return self.device.simd_width if isinstance(self.device, Device) else 1

    @property
    def tensor_cores(self) -> bool:
        return isinstance(self.device, Device) and self.device.tensor_cores

    @property
    def cores(self) -> int:
        """Cores of the GPU; 0 where it is not known."""
        return self.device.cores if isinstance(self.device, Device) else 0

    @property
    def choices(self) -> Choices:
        return self.device.choices if isinstance(self.device, Device) else super().choices

    @property
    def own_slots(self) -> bool:
        return self._own_slots or super().own_slots

    @property
    def dispatches(self) -> tuple[Dispatch, ...]:
        """The dispatches of the steps so far, in order."""
        self._release()
        return tuple(self._dispatches)

    def plan(self, outputs: Tensor | Iterable[Tensor]) -> Plan:
        """The dispatches with barriers and memory, for printing and tests. Needs no device."""
        single = isinstance(outputs, Tensor)
        given = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        self._release()
        if not self._dispatches:
            raise BuildError(f"{self.label} has no steps")
        made = {id(tensor) for dispatch in self._dispatches for tensor in dispatch.writes}
        for tensor in given:
            if id(tensor) not in made and tensor.storage is None:
                raise BuildError(f"the output {tensor.name} is made by no step of this pipeline")
        dispatches = (
            fuse(self._dispatches, given, self._all_rows, self.cores) if self.tensor_cores else self._dispatches
        )
        barriers, layout = lay_out(dispatches, given)
        return Plan(
            self.label,
            self._all_rows,
            tuple(dispatches),
            dict(self._inputs),
            given,
            single,
            tuple(self._failures),
            self._status,
            tuple(barriers),
            layout,
        )

    def build(self, outputs: Tensor | Iterable[Tensor], copies: int = 1) -> Chain:
        """A `pipeline.Chain` that gives `outputs` (a tensor or several) at each run, each of
        `copies` in memory of its own.

        Raises BuildError when an output is made by no step, DeviceError when the device is unknown.
        """
        plan = self.plan(outputs)
        self.device = as_device(self.device, self.threads)
        return Chain(plan, self.device, copies)
