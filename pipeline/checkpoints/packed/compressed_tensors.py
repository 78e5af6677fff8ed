"""compressed-tensors: groups of modules, each with its format (https://github.com/vllm-project/compressed-tensors)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...errors import CheckpointError, UnsupportedError
from ...graph.formats import AFFINE_BITS
from ..tensor_info import TensorInfo
from .patterns import matches
from .scheme import Aliases, Packing, Packings, Table, weight_name

__all__ = ["CompressedTensors"]

FORMATS = (
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
    "mixed-precision",
    "dense",
)
CLASSES = ("Linear", "Embedding")  # whose names stand for every module that is one
REGEX = "re:"
STRATEGIES = ("tensor", "channel", "group", "block", "tensor_group")


@dataclass(frozen=True)
class Group:
    """The targets of a group of config_groups, and how their weights are stored; None where they are not quantised."""

    targets: tuple[str, ...]
    packing: Packing | None


class CompressedTensors(Packings):
    """A module is what `ignore` does not match and a group's targets match: by its name, by a pattern behind "re:", or
    by its class, in that order."""

    def __init__(self, table: Table, aliases: Aliases) -> None:
        self._table, self._aliases = table, aliases
        form = table.text("format", "dense")
        if form not in FORMATS:
            raise table.unsupported("format", ", ".join(FORMATS))
        turned = table.part("transform_config")
        if turned is not None and turned.values.get("config_groups"):
            raise table.unsupported("transform_config", "null: activations are not rotated")
        sparse = table.part("sparsity_config")
        if sparse is not None and sparse.values and sparse.text("format", "dense") != "dense":
            raise sparse.unsupported("format", "dense")
        self._ignored = table.names("ignore")
        self._groups = [_group(part, form) for part in table.parts("config_groups").values()]
        self._targets = {target: group for group in self._groups for target in group.targets}
        self._ordered = sorted(self._targets, key=lambda target: (REGEX in target, target))
        asked = {_activations(part) for part in table.parts("config_groups").values()} - {""}
        asked |= {"a KV cache of 8 bits"} if table.part("kv_cache_scheme") is not None else set()
        self.unapplied = " and ".join(sorted(asked))
        self.passed = (*Packings.passed, "weight_shape", "weight_g_idx", "input_zero_point", "k_zero_point")

    def of(self, module: str, tensors: Mapping[str, TensorInfo]) -> Packing | None:
        packed = f"{module}.weight_packed" in tensors
        info = tensors.get(weight_name(module, tensors))
        if not packed and (info is None or info.dtype not in ("I8", "F8_E4M3")):
            return None
        if any(self._matches(target, module, f"{self._table.key}.ignore") for target in self._ignored):
            raise CheckpointError(
                f"{self._table.source}: {self._table.key}.ignore has {module}, which is stored quantised; "
                "download it again"
            )
        group = self._group_of(module)
        if group is None or group.packing is None:
            raise CheckpointError(
                f"{self._table.source}: no group of {self._table.key}.config_groups says how the weight of {module} "
                "is stored; download it again"
            )
        found = group.packing
        if found.layout == "packed":  # a mixture of formats may leave to the tensors which it is
            return replace(found, layout="packed" if packed else "integers")
        return found

    def _group_of(self, module: str) -> Group | None:
        """The group whose target matches best: by the name of the module, by those that it may have had in the file,
        or by its class."""
        where = f"{self._table.key}.config_groups"
        earlier = (old + module.removeprefix(new) for new, old in self._aliases if module.startswith(new))
        for name in (module, *earlier):
            found = next((target for target in self._ordered if self._matches(target, name, where)), None)
            if found is not None:
                return self._targets[found]
        return next((self._targets[target] for target in self._ordered if target in CLASSES), None)

    def _matches(self, target: str, name: str, where: str) -> bool:
        if not target.startswith(REGEX):
            return target == name
        try:
            return matches(target.removeprefix(REGEX), name)
        except ValueError as error:
            raise CheckpointError(
                f"{self._table.source}: {where} has a pattern that cannot be used: {target!r:.80}: {error}"
            ) from None


def _group(table: Table, form: str) -> Group:
    weights = table.part("weights")
    targets = tuple(table.names("targets"))
    if weights is None:
        return Group(targets, None)
    own = table.text("format") or form
    if own not in FORMATS:
        raise table.unsupported("format", ", ".join(FORMATS))
    return Group(targets, _packing(weights, own))


def _packing(table: Table, form: str) -> Packing:
    kind, bits = table.text("type", "int").lower(), table.whole("num_bits", 8, least=1)
    given = table.values.get("group_size")
    size = table.whole("group_size", -1, least=-1)
    strategy = table.text("strategy").lower() or ("tensor" if given is None else "group" if size > 0 else "channel")
    if strategy not in STRATEGIES:
        raise table.unsupported("strategy", ", ".join(STRATEGIES))
    grouped = strategy in ("group", "tensor_group")
    if grouped and size < 1:
        raise table.wrong("group_size", "a whole number of at least 1")
    block = table.pair("block_structure") if strategy == "block" else None
    if strategy == "block" and block is None:
        raise table.wrong("block_structure", "two whole numbers of at least 1")
    layout = _layout(table, form, kind, bits, size if grouped else 0)
    made_by, symmetric = f"compressed-tensors {form}", table.flag("symmetric", True)
    if layout == "packed":
        # The integers stand from 0 on: what is stored as a zero point of 0 is their middle.
        return Packing(layout, bits, size if grouped else 0, symmetric, 0, block or (0, 0), made_by)
    if not symmetric:
        raise table.unsupported("symmetric", "true for floats")
    return Packing(layout, bits, size if grouped else 0, True, 0, block or (0, 0), made_by)


def _layout(table: Table, form: str, kind: str, bits: int, size: int) -> str:
    if kind not in ("int", "float"):
        raise table.unsupported("type", "int, float")
    if kind == "int":
        if bits not in AFFINE_BITS:
            raise table.unsupported("num_bits", ", ".join(map(str, AFFINE_BITS)))
        return "packed"
    layouts = {(4, 16): "fp4", (4, 32): "mxfp4"}
    if bits == 8 and form != "mxfp8-quantized":
        return "fp8"
    if (bits, size) == (8, 32):
        return "mxfp8"
    if (bits, size) not in layouts:
        raise UnsupportedError(
            f"{table.source}: {table.key} has floats of {bits} bits in groups of {size}, which are not supported; "
            "supported: 8 bits, 4 bits in groups of 16 or 32"
        )
    return layouts[bits, size]


def _activations(table: Table) -> str:
    """What a group asks of activations."""
    asked = table.part("input_activations") or table.part("output_activations")
    if asked is None:
        return ""
    when = "dynamic" if asked.values.get("dynamic") else "static"
    return f"activations of {asked.whole('num_bits', 8)} bits ({asked.text('type', 'int').lower()}, {when})"
