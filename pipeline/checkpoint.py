"""A checkpoint's folder: config.json, tokenizer.json and safetensors files, checked first and mapped later.

`open_checkpoint` reads headers only. `Checkpoint.mapped` maps a file once, read-only; nothing is ever copied here.
"""

import mmap
from pathlib import Path

from .config import Quantization, module_quantization, quantization_table, read_json, token_ids
from .errors import CheckpointError, ClosedError, UnsupportedError
from .safetensors import Header, TensorInfo, read_header

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# NumPy's name for each stored type; types that NumPy lacks are shown as raw bits.
NUMPY_DTYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "F8_E4M3": "|u1", "F8_E5M2": "|u1", "F8_E8M0": "|u1",
    "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2", "U32": "<u4", "I32": "<i4", "F32": "<f4",
    "U64": "<u8", "I64": "<i8", "F64": "<f8", "C64": "<c8",
}


class Checkpoint:
    """An open checkpoint, a context manager. Made by `open_checkpoint`.

    path              the folder
    config            config.json
    tensors           name -> TensorInfo, over all files
    tokenizer_path    tokenizer.json (it may not exist: prompts can be given as tokens)
    end_tokens        the ids that end a text, from generation_config.json and config.json
    bos_token         the id that a prompt starts with, None where it needs none
    """

    def __init__(self, path: Path, config: dict, headers: list[Header], tensors: dict[str, TensorInfo]):
        self.path = path
        self.config = config
        self.tensors = tensors
        self.tokenizer_path = path / "tokenizer.json"
        self.end_tokens, self.bos_token = _special_tokens(path, config)
        self._config_name = str(path / "config.json")
        self._quantization = quantization_table(config, self._config_name)
        self._sizes = {header.file: header.size for header in headers}
        self._maps: dict[Path, mmap.mmap] = {}
        self._closed = False

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def nbytes(self) -> int:
        """Bytes of all weight files."""
        return sum(self._sizes.values())

    def mapped(self, file: Path) -> mmap.mmap:
        """`file` as one read-only map, made on the first call and shared by the later ones."""
        if self._closed:
            raise ClosedError(f"{self.path}: the checkpoint is closed")
        if file not in self._sizes:
            raise CheckpointError(f"{file}: not a weight file of {self.path}")
        if file not in self._maps:
            self._maps[file] = self._map(file)
        return self._maps[file]

    def _map(self, file: Path) -> mmap.mmap:
        try:
            with open(file, "rb", buffering=0) as stream:
                mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file}: cannot be mapped: {error}") from error
        if len(mapping) != self._sizes[file]:  # its header was checked against another size
            raise CheckpointError(f"{file}: its size changed while it was opened; wait until it is complete")
        return mapping

    def tensor(self, name: str) -> TensorInfo:
        """`tensors[name]`; CheckpointError where there is none of that name."""
        try:
            return self.tensors[name]
        except KeyError:
            raise CheckpointError(f"{self.path}: has no tensor {name!r}; download or convert it again") from None

    def view(self, name: str):
        """The tensor as a read-only array over the map; bf16 as uint16. It may be unaligned (`flags.aligned`)."""
        import numpy

        info = self.tensor(name)
        if info.dtype not in NUMPY_DTYPES:
            raise UnsupportedError(f"{info.file}: tensor {name!r} has dtype {info.dtype}, which is not supported")
        dtype = numpy.dtype(NUMPY_DTYPES[info.dtype])
        return numpy.ndarray(info.shape, dtype, buffer=self.mapped(info.file), offset=info.offset)

    def quantization(self, module: str) -> Quantization | None:
        """How the weight of `module` ("model.layers.0.mlp.gate") is stored; None: not quantised."""
        scaled = f"{module}.scales" in self.tensors
        if self._quantization is None:
            if scaled:
                raise CheckpointError(
                    f"{self._config_name}: says nothing of quantisation, but {module} has scales; add 'quantization'"
                )
            return None
        return module_quantization(self._quantization, module, scaled, self._config_name)

    def close(self) -> None:
        """Ends the use of the checkpoint. A map goes with the last array or buffer that shows it.

        No map is closed by hand: an array made over it holds a reference, not an export that would prevent that.
        """
        self._closed = True
        self._maps.clear()


def open_checkpoint(path) -> Checkpoint:
    """The checkpoint in folder `path`; every header is checked against its file's size before anything is mapped.

    Raises CheckpointError, with the file, the tensor and what to do; UnsupportedError for another library's
    quantisation or another weight format.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such folder; give the folder that holds config.json and {WEIGHTS}")
    if not path.is_dir():
        raise CheckpointError(f"{path}: not a folder; give the folder that holds config.json and {WEIGHTS}")
    config = read_json(path / "config.json")
    if (path / WEIGHTS).exists():
        header = read_header(path / WEIGHTS)
        return Checkpoint(path, config, [header], header.tensors)
    if (path / INDEX).exists():
        headers, tensors = _read_shards(path)
        return Checkpoint(path, config, headers, tensors)
    raise _no_weights(path)


def _read_shards(path: Path) -> tuple[list[Header], dict[str, TensorInfo]]:
    """The headers of the files that the index names, and each tensor in the file where the index puts it."""
    index = path / INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no 'weight_map' from tensors to files; download it again")
    for name, file in weight_map.items():
        if not isinstance(file, str) or file in ("", ".", "..") or any(c in file for c in "/\\\0"):
            raise CheckpointError(f"{index}: tensor {name!r} is in {file!r}, which is no file name; download it again")
    headers = {}
    for file in sorted(set(weight_map.values())):
        if not (path / file).exists():
            raise CheckpointError(f"{path / file}: not found, though {INDEX} names it; download it")
        headers[file] = read_header(path / file)
    tensors = {}
    for name, file in weight_map.items():
        if name not in headers[file].tensors:
            raise CheckpointError(f"{path / file}: has no tensor {name!r}, though {INDEX} says so; download it again")
        tensors[name] = headers[file].tensors[name]
    return list(headers.values()), tensors


def _no_weights(path: Path) -> CheckpointError:
    """What the folder holds instead of safetensors decides the advice."""
    names = sorted(item.name for item in path.iterdir())
    for name in names:
        if name.endswith(".gguf"):
            return UnsupportedError(f"{path / name}: GGUF is not supported; give a folder with {WEIGHTS}")
        if name.endswith((".bin", ".pt", ".pth")):
            return UnsupportedError(f"{path / name}: PyTorch weights are not supported; convert them to {WEIGHTS}")
    return CheckpointError(f"{path}: has neither {WEIGHTS} nor {INDEX}; download or convert it again")


def _special_tokens(path: Path, config: dict) -> tuple[tuple[int, ...], int | None]:
    """The end tokens and the beginning token.

    Some families name a bos_token_id that their tokenizer never uses: tokenizer_config.json has the last word.
    """
    generation = _optional_json(path / "generation_config.json")
    end = token_ids(generation, "eos_token_id", str(path / "generation_config.json"))
    end += token_ids(config, "eos_token_id", str(path / "config.json"))
    begin = token_ids(config, "bos_token_id", str(path / "config.json"))
    tokenizer = _optional_json(path / "tokenizer_config.json")
    wanted = tokenizer.get("add_bos_token")
    if wanted is None:
        wanted = not tokenizer or bool(tokenizer.get("bos_token"))
    return tuple(dict.fromkeys(end)), begin[0] if begin and wanted else None


def _optional_json(file: Path) -> dict:
    return read_json(file) if file.exists() else {}
