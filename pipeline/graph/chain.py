"""A plan on a device: buffers in place, constants packed, ready to run."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import ArrayLike

from ..device.buffers import host_array
from ..device.core import _core
from ..device.device import Device
from ..errors import BuildError, DTypeError, RunError, ShapeError
from .formats import dtype_of, view_dtype
from .plan import Dispatch, Plan
from .tensors import Tensor, as_array, read_memory
from .transfers import Memory


class Chain:
    """The result of `Pipeline.build`. Each run is one command buffer: one commit, one wait.

    ``print(chain)`` shows every dispatch with its reads, writes and barrier.

    copies: each with outputs of its own, and all else in common. A run of one copy leaves alone what the
    host still reads of another, so that runs may be committed ahead: they execute in commit order.

    Threads: the inputs, the scratch memory and the outputs of a chain exist once (outputs once per copy), so it
    serves one caller at a time. `run` raises RunError where another thread is in it. `commit` and
    `view` do not look: their caller keeps other threads away until it has read the outputs. Different chains
    may run in different threads, also where they share weights; where they share state, such as a KV cache, their
    runs execute in commit order.
    """

    def __init__(self, plan: Plan, device: Device, copies: int = 1) -> None:
        self.plan = plan
        self.device = device
        self._busy = threading.Lock()
        self._arena = device.core.buffer(max(plan.layout.nbytes, 16), private=True)
        apart = copies > 1 or self._arena.private  # outputs of every copy are where the host sees them
        self._outputs_of = [self._own_outputs() if apart else {} for _ in range(copies)]
        device.prepare(dispatch.kernel for dispatch in plan.dispatches)
        self._cores = [device.core.chain(dispatches, plan.label) for dispatches in self._dispatches(copies)]
        self.core = self._cores[0]
        self._inputs = {name: self._view(tensor) for name, tensor in plan.inputs.items()}
        self._outputs = [(tensor, self._seen(tensor)) for tensor in plan.outputs]
        self._status = self._seen(plan.status) if plan.status else None

    def __str__(self) -> str:
        return str(self.plan)

    def __len__(self) -> int:
        return len(self.plan.dispatches)

    def run(self, *, rows: int = 0, **inputs: ArrayLike) -> np.ndarray | tuple[np.ndarray, ...]:
        """Takes the inputs, runs, waits; returns copies of the outputs (one alone, several as a tuple).

        `rows` runs the first that many rows only; outputs keep their full shape. Raises ShapeError or
        DTypeError for an input that does not fit, RunError when a row failed (naming row and step) or
        the command buffer did, or when another thread is running this chain.
        """
        if not self._busy.acquire(blocking=False):
            raise RunError(f"{self.plan.label} runs in another thread already; build a chain for each thread, or lock")
        try:
            self._give(inputs)
            self.commit(rows).wait()
            self.check_status(rows)
            outputs = tuple(self.read(tensor) if seen is None else seen.copy() for tensor, seen in self._outputs)
        finally:
            self._busy.release()
        return outputs[0] if self.plan.single else outputs

    def commit(self, rows: int = 0, copy: int = 0, leading: int = 0) -> _core.Run:
        """Commits without waiting; returns the Run. The caller then decides when to write inputs and read outputs.

        leading: how many rows the steps behind `Pipeline.lead` run; 0 for as many as `rows`."""
        if not 0 <= rows <= self.plan.rows:
            raise ShapeError(f"{self.plan.label} has {self.plan.rows} rows, not {rows}")
        if leading > (rows or self.plan.rows):
            raise ShapeError(f"{self.plan.label}: {leading} rows cannot lead {rows or self.plan.rows}")
        return self._cores[copy].commit(rows, leading)

    def view(self, tensor: Tensor, copy: int = 0) -> np.ndarray:
        """A tensor's memory as a NumPy array, without a copy. Scratch holds it only if it is an output. On a device
        that has memory of its own, the host sees inputs and outputs only; `read` copies any other tensor."""
        return self._view(tensor, copy)

    def read(self, tensor: Tensor, copy: int = 0) -> np.ndarray:
        """A copy of a tensor's memory."""
        return read_memory(self.device, self._memory(tensor, copy), tensor.shape, tensor.dtype)

    def check_status(self, rows: int = 0) -> None:
        """Raises RunError for the first row that failed in the last run."""
        if self.plan.status is None:
            return
        status = self.read(self.plan.status) if self._status is None else self._status
        for row, code in enumerate(status[: rows or self.plan.rows].tolist()):
            if code:
                raise RunError(f"{self.plan.label}, row {row}: {self.failure(code)}")

    def failure(self, code: int) -> str:
        """The words for a row's status number."""
        return self.plan.failures[code - 1] if 0 < code <= len(self.plan.failures) else f"step {code} failed"

    def _own_outputs(self) -> dict[int, Memory]:
        """A buffer for each output, by the tensor's id, which no other value shares."""
        return {
            id(tensor): (self.device.core.buffer(max(tensor.nbytes, 16)), 0)
            for tensor in self.plan.outputs
            if tensor.storage is None
        }

    def _memory(self, tensor: Tensor, copy: int = 0) -> Memory:
        if tensor.storage is not None:
            return tensor.storage.on(self.device)
        return self._outputs_of[copy].get(id(tensor)) or (self._arena, self.plan.layout.offsets[id(tensor)])

    def _view(self, tensor: Tensor, copy: int = 0) -> np.ndarray:
        return as_array(self._memory(tensor, copy), tensor.shape, tensor.dtype)

    def _seen(self, tensor: Tensor) -> np.ndarray | None:
        """Its memory as an array, None where the host does not see it."""
        return None if self._memory(tensor)[0].private else self._view(tensor)

    def _dispatches(self, copies: int) -> list[list[_core.Dispatch]]:
        """The dispatches of each copy; they differ where an output is bound."""
        first = [self._dispatch(dispatch, 0) for dispatch in self.plan.dispatches]
        return [first] + [
            [
                self._dispatch(dispatch, copy)
                if self._outputs_of[copy].keys() & {id(tensor) for tensor, _ in dispatch.arguments}
                else done
                for dispatch, done in zip(self.plan.dispatches, first)
            ]
            for copy in range(1, copies)
        ]

    def _dispatch(self, dispatch: Dispatch, copy: int) -> _core.Dispatch:
        kernel = self.device.kernel(dispatch.kernel)
        buffers = [argument for argument in kernel.arguments if not argument.threadgroup]
        expected = len(dispatch.arguments) + bool(dispatch.constants)
        if len(buffers) != expected:
            raise BuildError(
                f"{dispatch.step}: kernel {kernel.name} takes {len(buffers)} buffers, the step gives {expected}"
            )
        bindings = []
        for slot, (tensor, written) in enumerate(dispatch.arguments):
            argument = next(argument for argument in buffers if argument.index == slot)
            if argument.writes != written:
                does = "writes" if argument.writes else "only reads"
                raise BuildError(f"{dispatch.step}: kernel {kernel.name} {does} {argument.name}, unlike the step")
            bindings.append((slot, *self._memory(tensor, copy), tensor.nbytes))
        constants = None
        if dispatch.constants:
            constants = (len(dispatch.arguments), kernel.pack("args", dispatch.constants))
        return _core.Dispatch(
            kernel,
            bindings,
            constants,
            dispatch.threadgroups,
            dispatch.rows_per_threadgroup,
            dispatch.step,
            rows_member="rows" if "rows" in dispatch.constants else None,
            leading=dispatch.leading,
        )

    def _give(self, inputs: dict[str, ArrayLike]) -> None:
        if set(inputs) != set(self._inputs):
            raise BuildError(
                f"{self.plan.label} takes the inputs {', '.join(self._inputs) or 'none'}, "
                f"got {', '.join(inputs) or 'none'}"
            )
        for name, given in inputs.items():
            value, tensor = host_array(given), self.plan.inputs[name]
            if value.shape != tensor.shape:
                raise ShapeError(f"input {name} has shape {value.shape}, expected {tensor.shape}")
            bits = value.dtype == view_dtype(tensor.dtype)  # bf16 as uint16
            if not bits and dtype_of(value) != tensor.dtype:
                raise DTypeError(f"input {name} is {value.dtype}, expected {tensor.dtype}")
            np.copyto(self._inputs[name], value.view(view_dtype(tensor.dtype)))
