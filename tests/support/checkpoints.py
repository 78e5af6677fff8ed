"""Small checkpoint files, written by hand, and the built-in model made smaller."""

import json
import shutil
from pathlib import Path

import numpy

from pipeline.checkpoints.storyteller import builtin_model


def short_storyteller(folder: Path) -> Path:
    """The built-in model in a new folder, with two of its layers: all run the same kernels, and the last one runs those
    of fewer rows."""
    shutil.copytree(builtin_model(), folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["num_hidden_layers"] > 2
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    return folder


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
