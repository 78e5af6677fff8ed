"""GPTQ and AWQ: integers with a scale and a zero point per group (AutoGPTQ, GPTQModel, AutoAWQ)."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import CheckpointError
from ..tensor_info import TensorInfo
from .patterns import matches
from .scheme import Packing, Packings, Table

__all__ = ["Awq", "Gptq"]

GPTQ_BITS = (2, 3, 4, 8)
WHOLE_ROW = -1  # the group size that stands for it


class Gptq(Packings):
    """`dynamic` has bits and group sizes of modules whose names a pattern matches; "-:" before it says that they are
    not quantised, which the tensors say, too. A checkpoint in the first format stores zero points less one."""

    passed = ("g_idx", *Packings.passed)

    def __init__(self, table: Table) -> None:
        kind = "checkpoint_format" if table.values.get("checkpoint_format") is not None else "format"
        if table.text(kind, "gptq") not in ("gptq", "gptq_v2", "fp16"):  # optimum writes fp16 for where it came from
            raise table.unsupported(kind, "gptq, gptq_v2")
        self._offset = 0 if table.text(kind, "gptq") == "gptq_v2" else 1
        if table.text("pack_dtype", "int32") != "int32":
            raise table.unsupported("pack_dtype", "int32")
        self._rules = table.parts("dynamic")
        self._table = table
        table.names("modules_in_block_to_quantize") if _is_flat(table) else None
        self._whole = self._packing(table, None)
        self._packings = {pattern: self._packing(rule, self._whole) for pattern, rule in self._rules.items()}

    def of(self, module: str, tensors: Mapping[str, TensorInfo]) -> Packing | None:
        if f"{module}.qweight" not in tensors:
            return super().of(module, tensors)
        for pattern, rule in self._rules.items():
            try:
                found = matches(pattern.removeprefix("+:").removeprefix("-:"), module)
            except ValueError as error:
                raise CheckpointError(f"{rule.source}: {rule.key} is no pattern: {error}") from None
            if found:
                return self._packings[pattern]
        return self._whole

    def _packing(self, table: Table, base: Packing | None) -> Packing:
        bits = table.whole("bits", base.bits if base else None, least=1)
        if bits not in GPTQ_BITS:
            raise table.unsupported("bits", ", ".join(map(str, GPTQ_BITS)))
        group = _group(table, (base.group_size or WHOLE_ROW) if base else None)
        symmetric = table.flag("sym", base.symmetric if base else True)
        return Packing("gptq", bits, group, symmetric, self._offset, made_by="GPTQ")


def _is_flat(table: Table) -> bool:
    """Whether the list of modules is not the list of lists that optimum has."""
    value = table.values.get("modules_in_block_to_quantize")
    return not isinstance(value, list) or not all(isinstance(item, list) for item in value)


class Awq(Packings):
    """What is not quantised has a plain weight, whatever modules_to_not_convert says."""

    def __init__(self, table: Table) -> None:
        version = table.text("version", "gemm").lower()
        if version != "gemm":
            raise table.unsupported("version", "gemm")
        key = "w_bit" if "w_bit" in table.values else "bits"
        if table.whole(key, 4, least=1) != 4:
            raise table.unsupported(key, "4")
        table.names("modules_to_not_convert")
        group = _group(table, 128, "q_group_size" if "q_group_size" in table.values else "group_size")
        self._whole = Packing("awq", 4, group, not table.flag("zero_point", True), made_by="AWQ")

    def of(self, module: str, tensors: Mapping[str, TensorInfo]) -> Packing | None:
        return self._whole if f"{module}.qweight" in tensors else super().of(module, tensors)


def _group(table: Table, default: int | None, key: str = "group_size") -> int:
    size = table.whole(key, default, least=WHOLE_ROW)
    if size == 0:
        raise table.unsupported(key, "-1, 32, 64, 128 and their multiples")
    return 0 if size == WHOLE_ROW else size
