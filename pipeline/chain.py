"""A plan on a device: buffers in place, constants packed, ready to run."""

from __future__ import annotations

import math

from .errors import BuildError, DTypeError, RunError, ShapeError
from .native import _core
from .plan import Plan
from .tensors import Tensor, dtype_of, view_dtype


class Chain:
    """What :meth:`Pipeline.build` gives. Each run is one command buffer: one commit, one wait.

    ``print(chain)`` shows every dispatch with its reads, writes and barrier.
    """

    def __init__(self, plan: Plan, device):
        self.plan = plan
        self.device = device
        self._arena = device.core.buffer(max(plan.layout.nbytes, 16))
        self.core = device.core.chain([self._dispatch(dispatch) for dispatch in plan.dispatches], plan.label)
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

    def commit(self, rows: int = 0):
        """Commit without waiting; returns the Run. Inputs and outputs are then the caller's to time."""
        if not 0 <= rows <= self.plan.rows:
            raise ShapeError(f"{self.plan.label} has {self.plan.rows} rows, not {rows}")
        return self.core.commit(rows)

    def view(self, tensor: Tensor):
        """A tensor's memory as a NumPy array, without a copy. Scratch holds it only if it is an output."""
        return self._view(tensor)

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

    def _place(self, tensor: Tensor):
        if tensor.storage is not None:
            return tensor.storage.on(self.device)
        return self._arena, self.plan.layout.offsets[id(tensor)]

    def _view(self, tensor: Tensor):
        import numpy as np

        buffer, offset = self._place(tensor)
        return np.frombuffer(buffer, view_dtype(tensor.dtype), math.prod(tensor.shape), offset).reshape(tensor.shape)

    def _dispatch(self, dispatch):
        kernel = self.device.kernel(dispatch.kernel)
        buffers = [argument for argument in kernel.arguments if not argument.threadgroup]
        expected = len(dispatch.arguments) + bool(dispatch.constants)
        if len(buffers) != expected:
            raise BuildError(f"{dispatch.step}: kernel {kernel.name} takes {len(buffers)} buffers, the step gives {expected}")
        bindings = []
        for slot, (tensor, written) in enumerate(dispatch.arguments):
            argument = next(argument for argument in buffers if argument.index == slot)
            if argument.writes != written:
                does = "writes" if argument.writes else "only reads"
                raise BuildError(f"{dispatch.step}: kernel {kernel.name} {does} {argument.name}, unlike the step")
            bindings.append((slot, *self._place(tensor), tensor.nbytes))
        constants = None
        if dispatch.constants:
            constants = (len(dispatch.arguments), kernel.pack("args", dispatch.constants))
        return _core.Dispatch(kernel, bindings, constants, dispatch.threadgroups, dispatch.rows_per_threadgroup,
                              dispatch.step, rows_member="rows" if "rows" in dispatch.constants else None)

    def _give(self, inputs) -> None:
        import numpy as np

        if set(inputs) != set(self._inputs):
            raise BuildError(f"{self.plan.label} takes the inputs {', '.join(self._inputs) or 'none'}, "
                             f"got {', '.join(inputs) or 'none'}")
        for name, value in inputs.items():
            value, tensor = np.asarray(value), self.plan.inputs[name]
            if value.shape != tensor.shape:
                raise ShapeError(f"input {name} has shape {value.shape}, expected {tensor.shape}")
            bits = value.dtype == view_dtype(tensor.dtype)   # bf16 as uint16
            if not bits and dtype_of(value) != tensor.dtype:
                raise DTypeError(f"input {name} is {value.dtype}, expected {tensor.dtype}")
            np.copyto(self._inputs[name], value.view(view_dtype(tensor.dtype)))
