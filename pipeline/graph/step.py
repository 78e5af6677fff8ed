"""The base of all step families: what a step may use to check its arguments and to add its dispatches.

A step, such as `Linear.linear`, is a method of a family in `steps/`; every family derives from `Step`,
and `pipeline.Pipeline` derives from all of them. A step reaches the pipeline through the names here and through
nothing else; a helper that more than one family needs stands here, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ..device.choices import Choices
from ..device.core import _core
from ..errors import BuildError, DTypeError, ShapeError
from .formats import FLOATS, LARGEST_F32, either
from .plan import Constants, Dispatch
from .tensors import Shape, Storage, Tensor, VectorLike, as_storage
from .weights import Weight, WeightLike, as_weight

# Why a row fails where the step says nothing else.
NO_CHOICE = "had nothing to choose from: its input holds no number, or an id that is no expert"


class Shaped(Protocol):
    """A tensor or a weight: whatever has a name and a shape."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Shape: ...


class Step:
    """A list of dispatches over `rows` rows, and the checks of what goes into it."""

    def __init__(self, rows: int, *, shows_status: bool = True) -> None:
        if rows < 1:
            raise ShapeError(f"a pipeline has at least 1 row, not {rows}")
        self.rows = rows
        self._leading = False
        self._dispatches: list[Dispatch] = []
        self._failures: list[str] = []
        self._scope: list[str] = []
        self._status: Tensor | None = None
        self._shows_status = shows_status
        self._held: Dispatch | None = None  # see `add`
        self.made_stages: dict[tuple[Tensor, str], tuple[Tensor, Tensor]] = {}  # see Staging.staged
        self.ordered: dict[tuple[Tensor, Storage], Tensor] = {}  # values whose columns were put in an order

    @property
    def simd_width(self) -> int:
        """Lanes of a simdgroup, by which a step may choose a grid: 1 on a processor, and where the device is not known
        yet. A grid that was chosen for another width gives right results, only later."""
        return 1

    @property
    def tensor_cores(self) -> bool:
        """Whether the device has the kernels that multiply by the tensor cores of NVIDIA's GPUs."""
        return False

    @property
    def choices(self) -> Choices:
        """How work is shared out where no bit depends on it: as the device has it, or as no device is known yet."""
        return Choices()

    @property
    def own_slots(self) -> bool:
        """Whether each row has a slot of its own, so that no row reads what another one writes."""
        return self.rows == 1

    # Rows

    def lead(self, rows: int | None) -> bool:
        """Leaves the first `rows` rows, which lead, to the steps from here on: they take tensors of more rows, too, and
        a run says apart how many of them run. None leaves all rows. Gives whether any are left."""
        if rows is None or rows == 0:
            return rows is None
        if not 0 < rows <= self.rows:
            raise ShapeError(f"{self.rows} rows have no {rows} that lead")
        self.rows, self._leading = rows, True
        return True

    # Values

    def state(self, name: str, storage: Storage) -> Tensor:
        """Memory that outlives the run, such as a KV cache; chains may share its Storage."""
        return Tensor(name, storage.shape, storage.dtype, storage, "state")

    def vector(self, value: VectorLike, name: str) -> Tensor:
        """A weight vector as a tensor, from an array, a Storage or a Tensor."""
        if isinstance(value, Tensor):
            return value
        storage = as_storage(value)
        return Tensor(name, storage.shape, storage.dtype, storage, "weight")

    def weight(self, value: WeightLike, name: str) -> Weight:
        """A matrix or a stack of them in any stored format."""
        return as_weight(value, self.named(name))

    def matrix(self, value: WeightLike, name: str, *, ordered: bool = False) -> Weight:
        """A weight [outputs, inputs] whose rows lie one behind another. ordered: whether its columns may have an order
        of their own."""
        weight = self.weight(value, name + ".weight")
        if len(weight.shape) != 2:
            raise ShapeError(f"{self.named(name)}: weight has shape {weight.shape}, expected [outputs, inputs]")
        if weight.row_step != 1:
            raise BuildError(
                f"{self.named(name)}: the rows of {weight.name} lie {weight.row_step} apart; only experts' may"
            )
        if weight.order is not None and not ordered:
            raise BuildError(f"{self.named(name)}: the columns of {weight.name} have an order; only projections' may")
        return weight

    def bias(self, value: VectorLike | None, name: str, shape: Shape, instead: Tensor) -> tuple[Tensor, int]:
        """A bias and how it is stored; without one, `instead`, which is bound but not read."""
        if value is None:
            return instead, _core.STORED[None]
        bias = self.float_vector(value, "the bias", name + ".bias", (shape,), name)
        return bias, _core.STORED[bias.dtype]

    def float_vector(self, value: VectorLike, what: str, label: str, shapes: Sequence[Shape], name: str) -> Tensor:
        """A vector f32, f16 or bf16 of one of `shapes`; `what` names it in messages of the step `name`."""
        tensor = self.vector(value, self.named(label))
        if tensor.dtype not in FLOATS:
            raise DTypeError(f"{self.named(name)}: {what} is {tensor.dtype}, expected {either(FLOATS)}")
        if tensor.shape not in shapes:
            expected = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
            raise ShapeError(f"{self.named(name)}: {what} has shape {tensor.shape}, expected {expected}")
        return tensor

    def scratch(self, name: str, shape: Iterable[int], dtype: str = "f32") -> Tensor:
        """A value that a step makes; the memory plan gives it an offset."""
        return Tensor(self.named(name), tuple(shape), dtype)

    # Names

    def named(self, name: str) -> str:
        """A step's name with the scopes that it is in: "layers.3.q_proj"."""
        return ".".join((*self._scope, name))

    # Failure of a row

    def status(self) -> Tensor:
        """Per row: 0, or 1 + the index of the step that failed. Cleared first in every run."""
        if self._status is None:
            self._status = self.state("status", Storage.zeros((self.rows,), "u32", shared=self._shows_status))
            self._dispatches.insert(
                0,
                Dispatch(
                    "clear_status", "clear_status", ((self._status, True),), {"rows": self.rows}, (1, self.rows, 1), 1
                ),
            )
        return self._status

    def failing_step(self, name: str, why: str = NO_CHOICE) -> int:
        """The number by which a row reports that the step `name` failed; `why` completes a sentence about the step."""
        self._failures.append(f"{self.named(name)} {why}")
        return len(self._failures)

    # Dispatches

    def add(
        self,
        name: str,
        kernel: str,
        reads: Iterable[Tensor],
        writes: Iterable[Tensor],
        constants: Constants,
        *,
        columns: int = 1,
        row_tile: int = 1,
        depth: int = 1,
        height: int = 0,
        held: bool = False,
    ) -> None:
        """One dispatch: `columns` threadgroups across, one down for each `row_tile` rows, `depth` deep; with
        `height` that many down, however many rows run.

        `constants` fill the struct argument. Its `rows` are the pipeline's; a run of fewer puts its own there. `held`:
        the dispatch waits for the next one, whose step may take it to do its work along with its own.
        """
        for constant, value in constants.items():
            if not (0 <= value < 1 << 32 if isinstance(value, int) else abs(value) <= LARGEST_F32):
                raise BuildError(f"{self.named(name)}: {constant} = {value!r} is beyond what a kernel takes")
        arguments = tuple((tensor, False) for tensor in reads) + tuple((tensor, True) for tensor in writes)
        dispatch = Dispatch(
            self.named(name),
            kernel,
            arguments,
            dict(constants),
            (columns, height or -(-self.rows // row_tile), depth),
            0 if height else row_tile,
            self._leading,
        )
        for tensor in dispatch.writes:  # what was made of an earlier value is not of this one
            for key in [key for key in self.made_stages if key[0] is tensor]:
                del self.made_stages[key]
        self._release()
        if held:
            self._held = dispatch
        else:
            self._dispatches.append(dispatch)

    def take_held(self, made: Tensor, *others: Tensor) -> Dispatch | None:
        """The dispatch that is held, if it makes `made` and has all others as arguments: whoever takes it does its
        work."""
        held = self._held
        if held is None or not any(tensor is made for tensor in held.writes):
            return None
        arguments = {id(tensor) for tensor, _ in held.arguments}
        if not all(id(tensor) in arguments for tensor in others):
            return None
        self._held = None
        return held

    def _release(self) -> None:
        """Adds the dispatch that is held."""
        if self._held is not None:
            self._dispatches.append(self._held)
            self._held = None

    # Checks

    def check_rows(self, tensor: Tensor, name: str, *shape: int, dtype: str = "f32") -> None:
        """Demands [rows, *shape] and the dtype of an argument of the step `name`, naming both shapes. Where only
        leading rows are left, it may have more."""
        if tensor.dtype != dtype:
            raise DTypeError(f"{self.named(name)}: {tensor.name} is {tensor.dtype}, expected {dtype}")
        rows = max(self.rows, *tensor.shape[:1]) if self._leading else self.rows
        self.check_shape(tensor, name, rows, *shape)

    def check_shape(self, tensor: Shaped, name: str, *shape: int) -> None:
        """Demands the shape of an argument of the step `name`."""
        if tuple(tensor.shape) != shape:
            raise ShapeError(f"{self.named(name)}: {tensor.name} has shape {tuple(tensor.shape)}, expected {shape}")

    def finite(self, value: float, what: str, name: str) -> float:
        """A number that f32 can hold; `what` names it in messages of the step `name`."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST_F32:
            raise BuildError(f"{self.named(name)}: {what} = {value!r} must be a number, finite in f32")
        return value
