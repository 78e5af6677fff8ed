"""Checkpoints written from names and shapes, as transformers, MLX and llama.cpp lay them out."""

import json

import numpy as np
from support import reference as ref
from support.families.cases import ALL, TAPS
from support.families.grid import grid, vector

DTYPES = {"F32": np.float32, "F16": np.float16}


def values(case, name: str, shape) -> np.ndarray:
    """The tensor `name` of transformers' checkpoint, f32."""
    if not is_matrix(name, shape):
        centre = case.centre(name)
        return vector(case.seed + name, shape, centre=centre, spread=max(centre, 1.0) / 2)
    if case.transposed(name):
        return matrix(case, name, (*shape[:-2], shape[-1], shape[-2])).values.swapaxes(-1, -2)
    return matrix(case, name, shape).values


def is_matrix(name: str, shape) -> bool:
    return len(shape) > 1 and not name.endswith(("bias", *TAPS))


def matrix(case, name: str, shape):
    return grid(
        case.seed + name,
        shape,
        gain=case.gain(name),
        mxfp4=case.mxfp4 and ".experts." in name,
        even=name.endswith("kv_b_proj.weight"),
    )  # a part of which other formats store transposed


def write_safetensors(file, tensors: dict) -> None:
    """tensors: name -> (dtype of the format, array of its bits)."""
    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 64)
    with open(file, "wb") as stream:
        stream.write(len(raw).to_bytes(8, "little") + raw)
        for _, array in tensors.values():
            stream.write(np.ascontiguousarray(array).data)


def stored(array: np.ndarray, dtype: str):
    """(dtype, bits); AssertionError where the dtype does not hold the numbers."""
    if dtype == "BF16":
        bits = ref.bf16_bits(array)
        assert (ref.from_bf16(bits) == array).all()
        return dtype, bits
    narrow = array.astype(DTYPES[dtype])
    assert (narrow == array).all()
    return dtype, narrow


def write_folder(folder, name: str, golden: dict, dtype: str = "F32") -> None:
    """transformers' checkpoint of the case `name`: golden has its "config" and "tensors", name -> shape."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(golden["config"]))
    write_safetensors(
        folder / "model.safetensors",
        {tensor: stored(values(ALL[name], tensor, shape), dtype) for tensor, shape in golden["tensors"].items()},
    )
