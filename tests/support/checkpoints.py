"""Small checkpoint files, written by hand."""

import json
from pathlib import Path

import numpy


def write_tensors(file: Path, tensors: dict[str, numpy.ndarray], pad: int = 0) -> None:
    """A safetensors file; `pad` spaces move the data to other addresses."""
    names = {"float32": "F32", "uint16": "BF16", "uint32": "U32", "float16": "F16", "float64": "F64"}
    header, data = {}, b""
    for name, array in tensors.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    raw = json.dumps(header).encode() + b" " * pad
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
