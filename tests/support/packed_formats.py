"""Random weights as other libraries' tools store them, and what they stand for, in NumPy.

Each packer follows the tool's own: AutoAWQ (`awq/modules/linear/gemm.py`, its order of nibbles), GPTQModel
(`PackableQuantLinear.pack`, and what `convert_gptq_v2_to_v1_format_module` takes from zero points), compressed-tensors
(`pack_to_int32`, which adds 2^(bits - 1) first; `quantize_and_pack_fp4`), ModelOpt, transformers' FP8Linear. Values are
computed in float32: integers times a scale of 16 bits are exact there.
"""

import numpy as np

from support import reference as ref
from support.stored_formats import E2M1, e4m3

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the output in each nibble


def words_of(codes, bits: int):
    """Integers [n, m] as int32 words [n, m · bits / 32], lowest bits first."""
    flags = (codes[..., None] >> np.arange(bits) & 1).astype(np.uint8).reshape(len(codes), -1)
    flags = np.pad(flags, ((0, 0), (0, -flags.shape[1] % 32)))
    return np.packbits(flags, axis=1, bitorder="little").view("<i4")


def scales_of(rng, shape, dtype: str):
    """(dtype, bits) and float32 of scales: small, of both signs, subnormals among them."""
    values = (rng.normal(size=shape) / 64).astype(np.float32)
    values.flat[: min(2, values.size)] = [2.0**-24, -(2.0**-20)][: values.size]
    if dtype == "BF16":
        bits = ref.bf16_bits(values)
        return (dtype, bits), ref.from_bf16(bits).astype(np.float32)
    stored = values.astype({"F16": np.float16, "F32": np.float32}[dtype])
    return (dtype, stored), stored.astype(np.float32)


def integers(rng, rows: int, columns: int, bits: int):
    """Codes with the lowest and the highest among them."""
    codes = rng.integers(0, 2**bits, (rows, columns))
    codes.flat[:2] = 0, 2**bits - 1
    return codes


def gptq(rng, name, rows, columns, *, bits=4, group=128, sym=True, v2=False, order=None, dtype="F16"):
    """order: the group of each column, as act-order has them; else neighbours."""
    size = columns if group == -1 else group
    groups = -(-columns // size)
    codes = integers(rng, rows, columns, bits)
    zeros = np.full((rows, groups), 1 << (bits - 1)) if sym else rng.integers(1, 2**bits, (rows, groups))
    scales, values = scales_of(rng, (groups, rows), dtype)
    g_idx = np.arange(columns) // size if order is None else order
    tensors = gptq_tensors(name, codes, zeros - (not v2), scales, g_idx, bits)
    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": sym, "desc_act": order is not None}
    config["checkpoint_format"] = "gptq_v2" if v2 else "gptq"
    return tensors, config, (codes - zeros[:, g_idx]) * values.T[:, g_idx]


def gptq_tensors(name, codes, zeros, scales, g_idx, bits=4):
    """codes [outputs, inputs], zeros [outputs, groups] as they are stored, scales (dtype, [groups, outputs])."""
    return {
        f"{name}.qweight": ("I32", np.ascontiguousarray(words_of(codes, bits).T)),
        f"{name}.qzeros": ("I32", words_of(zeros.T, bits)),
        f"{name}.scales": scales,
        f"{name}.g_idx": ("I32", g_idx.astype(np.int32)),
    }


def awq(rng, name, rows, columns, *, group=128, dtype="F16"):
    size = columns if group == -1 else group
    codes, zeros = integers(rng, rows, columns, 4), integers(rng, rows, columns // size, 4)
    scales, values = scales_of(rng, (columns // size, rows), dtype)
    tensors = awq_tensors(name, codes, zeros, scales)
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    of = np.arange(columns) // size
    return tensors, config, (codes - zeros[:, of]) * values.T[:, of]


def awq_tensors(name, codes, zeros, scales):
    """codes [outputs, inputs], zeros [outputs, groups], scales (dtype, [groups, outputs])."""

    def packed(numbers):
        numbers = np.ascontiguousarray(numbers.T)
        return words_of(numbers.reshape(-1, 8)[:, AWQ_ORDER].reshape(len(numbers), -1), 4)

    return {
        f"{name}.qweight": ("I32", packed(codes)),
        f"{name}.qzeros": ("I32", packed(zeros)),
        f"{name}.scales": scales,
    }


def compressed(form, weights, activations=None, ignore=("lm_head",), targets=("Linear",)):
    """A configuration of compressed-tensors with one group."""
    group = {"targets": list(targets), "weights": weights, "input_activations": activations}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": list(ignore),
        "config_groups": {"group_0": group},
    }


def packed(rng, name, rows, columns, *, bits=4, group=128, symmetric=True, dtype="BF16", order=None):
    """group: -1 for a scale per output, 0 for one in all."""
    size = columns if group in (-1, 0) else group
    a, b = 1 if group == 0 else rows, columns // size
    codes = integers(rng, rows, columns, bits)
    zeros = np.full((a, b), 1 << (bits - 1)) if symmetric else integers(rng, a, b, bits)
    scales, values = scales_of(rng, (1,) if group == 0 else (a, b), dtype)
    tensors = {
        f"{name}.weight_packed": ("I32", words_of(codes, bits)),
        f"{name}.weight_scale": scales,
        f"{name}.weight_shape": ("I64", np.array([rows, columns])),
    }
    if not symmetric:
        tensors[f"{name}.weight_zero_point"] = "I32", np.ascontiguousarray(words_of(zeros.T, bits).T)
    of = np.arange(columns) // size if order is None else order
    if order is not None:
        tensors[f"{name}.weight_g_idx"] = "I32", order.astype(np.int32)
    strategy = {-1: "channel", 0: "tensor"}.get(group, "group")
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": strategy}
    weights["group_size"] = group if group > 0 else None
    return tensors, compressed("pack-quantized", weights), (codes - zeros[:, of]) * values.reshape(a, b)[:, of]


def signed(rng, name, rows, columns, *, symmetric=True, dtype="BF16"):
    codes = rng.integers(-128, 128, (rows, columns))
    zeros = np.zeros((rows, 1), int) if symmetric else rng.integers(-128, 128, (rows, 1))
    scales, values = scales_of(rng, (rows, 1), dtype)
    tensors = {f"{name}.weight": ("I8", codes.astype(np.int8)), f"{name}.weight_scale": scales}
    if not symmetric:
        tensors[f"{name}.weight_zero_point"] = "I8", zeros.astype(np.int8)
    weights = {"num_bits": 8, "type": "int", "symmetric": symmetric, "strategy": "channel"}
    asked = {"num_bits": 8, "type": "int", "dynamic": True, "strategy": "token"}
    return tensors, compressed("int-quantized", weights, asked), (codes - zeros) * values


def eight(rng, rows, columns):
    codes = rng.integers(0, 256, (rows, columns)).astype(np.uint8)
    return np.where(codes & 127 == 127, 0, codes).astype(np.uint8)  # the checker reports NaN


FP8_CONFIGS = {
    "tensor": {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None},
    "block": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "small block": {"quant_method": "fp8", "weight_block_size": [48, 64]},
    "channel": {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0},
    "modelopt": {"quant_method": "modelopt", "quant_algo": "FP8"},
    "compressed": compressed(
        "float-quantized",
        {"num_bits": 8, "type": "float", "strategy": "channel"},
        {"num_bits": 8, "type": "float", "dynamic": True},
    ),
    "compressed block": compressed(
        "float-quantized", {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
    ),
}


def fp8(rng, name, rows, columns, *, kind="tensor", dtype="F32"):
    codes, config = eight(rng, rows, columns), FP8_CONFIGS[kind]
    tall, wide = {"block": (128, 128), "compressed block": (128, 128), "small block": (48, 64)}.get(
        kind, (1, columns) if kind in ("channel", "compressed") else (rows, columns)
    )
    grid = -(-rows // tall), -(-columns // wide)
    scales, values = scales_of(rng, (*grid, 1)[:2], dtype)
    if kind in ("tensor", "modelopt"):
        scales = scales[0], scales[1].reshape(() if kind == "modelopt" else (1,))
    part = "weight_scale_inv" if config["quant_method"] == "fp8" else "weight_scale"
    tensors = {f"{name}.weight": ("F8_E4M3", codes), f"{name}.{part}": scales}
    if kind == "tensor":
        tensors[f"{name}.activation_scale"] = "F32", np.ones((), np.float32)
    spread = values[np.arange(rows)[:, None] // tall, np.arange(columns) // wide]
    return tensors, config, e4m3(codes) * spread


def nvfp4(rng, name, rows, columns, *, kind="compressed"):
    pairs = rng.integers(0, 256, (rows, columns // 2)).astype(np.uint8)
    blocks = rng.integers(0, 127, (rows, columns // 16)).astype(np.uint8)
    factor = np.array([rng.uniform(0.3, 3)], np.float32)
    codes = E2M1[np.stack([pairs & 15, pairs >> 4], -1).reshape(rows, columns)]
    scale = e4m3(blocks)
    if kind == "compressed":
        parts, scale = ("weight_packed", "weight_global_scale"), scale / factor
        config = compressed("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "group_size": 16})
        config["config_groups"]["group_0"]["weights"]["strategy"] = "tensor_group"
    else:
        parts, scale, config = ("weight", "weight_scale_2"), scale * factor, {"quant_method": "modelopt"}
        config |= {"quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8}}
        factor = factor.reshape(())
    tensors = {
        f"{name}.{parts[0]}": ("U8", pairs),
        f"{name}.weight_scale": ("F8_E4M3", blocks),
        f"{name}.{parts[1]}": ("F32", factor),
    }
    return tensors, config, codes * np.repeat(scale, 16, -1)


def powers(rng, name, rows, columns, *, bits=4):
    exponents = rng.integers(100, 140, (rows, columns // 32)).astype(np.uint8)
    weights = {"num_bits": bits, "type": "float", "group_size": 32, "strategy": "group"}
    if bits == 4:
        pairs = rng.integers(0, 256, (rows, columns // 2)).astype(np.uint8)
        codes = E2M1[np.stack([pairs & 15, pairs >> 4], -1).reshape(rows, columns)]
        tensors, config = {f"{name}.weight_packed": ("U8", pairs)}, compressed("mxfp4-pack-quantized", weights)
    else:
        stored = eight(rng, rows, columns)
        tensors, codes = {f"{name}.weight": ("F8_E4M3", stored)}, e4m3(stored)
        config = compressed("mxfp8-quantized", weights)
    tensors[f"{name}.weight_scale"] = "U8", exponents
    scale = np.ldexp(np.float32(1), exponents.astype(int) - 127)
    return tensors, config, (codes * np.repeat(scale, 32, -1)).astype(np.float32)
