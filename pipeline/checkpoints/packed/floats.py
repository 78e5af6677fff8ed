"""fp8 (DeepSeek V3, transformers' FineGrainedFP8Config), fbgemm_fp8, and NVIDIA's ModelOpt: FP8 and NVFP4. The tensors
tell which modules are quantised, and most of how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...errors import UnsupportedError
from ..tensor_info import TensorInfo
from .scheme import EIGHT, Packing, Packings, Table, weight_name

__all__ = ["Fbgemm", "Fp8", "ModelOpt"]

ALGORITHMS = ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "NVFP4", "W4A16_NVFP4", "MIXED_PRECISION")


class Fp8(Packings):
    """A scale per block of `weight_block_size`, or per tensor where that is null."""

    def __init__(self, table: Table) -> None:
        if table.text("fmt", "e4m3") not in ("e4m3", "float8_e4m3fn"):
            raise table.unsupported("fmt", "e4m3")
        given = "weight_block_size" in table.values
        block = table.pair("weight_block_size") or ((0, 0) if given else EIGHT.block)
        for key in ("modules_to_not_convert", "ignored_layers", "modules_to_convert"):
            table.names(key)
        scheme = table.text("activation_scheme", "dynamic")
        self.unapplied = f"activations in fp8 ({scheme})"
        self._whole = replace(EIGHT, block=block)

    def of(self, module: str, tensors: Mapping[str, TensorInfo]) -> Packing | None:
        return self._whole if super().of(module, tensors) is not None else None


class Fbgemm(Packings):
    """A scale per output."""

    unapplied = "activations in fp8 (dynamic)"

    def __init__(self, table: Table) -> None:
        table.names("modules_to_not_convert")

    def of(self, module: str, tensors: Mapping[str, TensorInfo]) -> Packing | None:
        found = super().of(module, tensors)
        return None if found is None else replace(found, block=(0, 0), made_by="fbgemm_fp8")


class ModelOpt(Packings):
    """FP8 has a scale per tensor or per output; NVFP4 two codes per byte, a scale per 16 and one per tensor."""

    def __init__(self, table: Table) -> None:
        algorithm = table.text("quant_algo")
        if algorithm.upper() not in ALGORITHMS:
            raise table.unsupported("quant_algo", ", ".join(ALGORITHMS))
        for key in ("ignore", "exclude_modules"):
            table.names(key)
        group = table.whole("group_size", 16)
        if "NVFP4" in algorithm.upper() and group != 16:
            raise table.unsupported("group_size", "16")
        asked = [] if algorithm.upper() in ("FP8_PB_WO", "W4A16_NVFP4") else [f"activations as {algorithm}"]
        cache = table.values.get("kv_cache_scheme") or table.values.get("kv_cache_quant_algo")
        self.unapplied = " and ".join(asked + (["a KV cache of 8 bits"] if cache else []))
        self._source = table.source

    def of(self, module: str, tensors: Mapping[str, TensorInfo]) -> Packing | None:
        if f"{module}.pre_quant_scale" in tensors:
            raise UnsupportedError(
                f"{self._source}: {module}.pre_quant_scale scales activations, which is not supported; "
                "use FP8 or NVFP4 without AWQ"
            )
        name = weight_name(module, tensors)
        if name in tensors and tensors[name].dtype == "U8":
            return Packing("fp4", 4, 16, made_by="ModelOpt")
        found = super().of(module, tensors)
        return None if found is None else replace(found, made_by="ModelOpt")
