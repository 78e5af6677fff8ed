"""A plan on a device: buffers in place, constants packed, ready to run."""

from __future__ import annotations

import math

from ..device.core import _core
from ..errors import BuildError, DTypeError, RunError, ShapeError
from .formats import dtype_of, view_dtype
from .plan import Plan
from .tensors import Tensor, view_shape


class Chain:
    """What :meth:`Pipeline.build` gives. Each run is one command buffer: one commit, one wait.

    ``print(chain)`` shows every dispatch with its reads, writes and barrier.

    copies: each with outputs of its own, and all else in common. A run of one copy leaves alone what the
    host still reads of another, so that runs may be committed ahead: they execute in commit order.
    """

    def __init__(self, plan: Plan, device, copies: int = 1):
        self.plan = plan
        self.device = device
        self._arena = device.core.buffer(max(plan.layout.nbytes, 16))
        self._apart = [self._outputs_apart() if copies > 1 else {} for _ in range(copies)]
        self._cores = [device.core.chain(dispatches, plan.label) for dispatches in self._dispatches(copies)]
        self.core = self._cores[0]
        self._inputs = {name: tensor.storage.numpy(device) for name, tensor in plan.inputs.items()}
        self._outputs = [self._view(tensor) for tensor in plan.outputs]
        self._status = self._view(plan.status) if plan.status else None

    def __str__(self):
        return str(self.plan)

    def __len__(self):
        return len(self.plan.dispatches)

    def run(self, *, rows: int = 0, **inputs):
        """Give the inputs, run, wait; returns copies of the outputs (one alone, several as a tuple).

        `rows` runs the first that many rows only; outputs keep their full shape. Raises ShapeError or
        DTypeError for an input that does not fit, RunError when a row failed (naming row and step) or
        the command buffer did.
        """
        self._give(inputs)
        self.commit(rows).wait()
        self.check_status(rows)
        outputs = tuple(view.copy() for view in self._outputs)
        return outputs[0] if self.plan.single else outputs

    def commit(self, rows: int = 0, copy: int = 0):
        """Commit without waiting; returns the Run. Inputs and outputs are then the caller's to time."""
        if not 0 <= rows <= self.plan.rows:
            raise ShapeError(f"{self.plan.label} has {self.plan.rows} rows, not {rows}")
        return self._cores[copy].commit(rows)

    def view(self, tensor: Tensor, copy: int = 0):
        """A tensor's memory as a NumPy array, without a copy. Scratch holds it only if it is an output."""
        return self._view(tensor, copy)

    def check_status(self, rows: int = 0) -> None:
        """RunError for the first row that failed in the last run."""
        if self._status is None:
            return
        for row, code in enumerate(self._status[: rows or self.plan.rows].tolist()):
            if code:
                raise RunError(f"{self.plan.label}, row {row}: {self.failure(code)}")

    def failure(self, code: int) -> str:
        """What a row's status number says."""
        step = self.plan.steps[code - 1] if 0 < code <= len(self.plan.steps) else f"step {code}"
        return f"{step} had nothing to choose from: its input holds no number, or an id that is no expert"

    def _outputs_apart(self) -> dict:
        """A buffer for each output, by the tensor's id: other values have no part of it."""
        return {
            id(tensor): (self.device.core.buffer(max(tensor.nbytes, 16)), 0)
            for tensor in self.plan.outputs
            if tensor.storage is None
        }

    def _place(self, tensor: Tensor, copy: int = 0):
        if tensor.storage is not None:
            return tensor.storage.on(self.device)
        return self._apart[copy].get(id(tensor)) or (self._arena, self.plan.layout.offsets[id(tensor)])

    def _view(self, tensor: Tensor, copy: int = 0):
        import numpy as np

        buffer, offset = self._place(tensor, copy)
        shape = view_shape(tensor.shape, tensor.dtype)
        return np.frombuffer(buffer, view_dtype(tensor.dtype), math.prod(shape), offset).reshape(shape)

    def _dispatches(self, copies: int) -> list[list]:
        """Of each copy; they differ where an output is bound."""
        first = [self._dispatch(dispatch, 0) for dispatch in self.plan.dispatches]
        return [first] + [
            [
                self._dispatch(dispatch, copy)
                if self._apart[copy].keys() & {id(tensor) for tensor, _ in dispatch.arguments}
                else done
                for dispatch, done in zip(self.plan.dispatches, first)
            ]
            for copy in range(1, copies)
        ]

    def _dispatch(self, dispatch, copy: int):
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
            bindings.append((slot, *self._place(tensor, copy), tensor.nbytes))
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
        )

    def _give(self, inputs) -> None:
        import numpy as np

        if set(inputs) != set(self._inputs):
            raise BuildError(
                f"{self.plan.label} takes the inputs {', '.join(self._inputs) or 'none'}, "
                f"got {', '.join(inputs) or 'none'}"
            )
        for name, value in inputs.items():
            value, tensor = np.asarray(value), self.plan.inputs[name]
            if value.shape != tensor.shape:
                raise ShapeError(f"input {name} has shape {value.shape}, expected {tensor.shape}")
            bits = value.dtype == view_dtype(tensor.dtype)  # bf16 as uint16
            if not bits and dtype_of(value) != tensor.dtype:
                raise DTypeError(f"input {name} is {value.dtype}, expected {tensor.dtype}")
            np.copyto(self._inputs[name], value.view(view_dtype(tensor.dtype)))
