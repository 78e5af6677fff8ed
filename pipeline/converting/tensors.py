"""The tensors of the converted checkpoint, and the pieces that each is made of, before anything is read."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import NUMPY_DTYPES, Checkpoint
from ..checkpoints.config import Quantization, integer
from ..checkpoints.tensor_info import TensorInfo, listed
from ..errors import CheckpointError, UnsupportedError
from ..printing import brief
from .affine import NUMPY
from .families import FAMILIES, Family, left_out

__all__ = ["Output", "Piece", "make_outputs", "quantization"]

PRECISE = Quantization(8, 64)  # mlx-lm stores routers so
MXFP4 = {"group_size": 32, "bits": 4, "mode": "mxfp4"}


@dataclass(frozen=True)
class Piece:
    """A part of a stored tensor: an index of its array, the last two dimensions exchanged where `transposed`, and
    `added` to each number."""

    tensor: TensorInfo
    index: tuple[int | slice, ...] = ()
    transposed: bool = False
    added: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        index = (*self.index, *(slice(None),) * (len(self.tensor.shape) - len(self.index)))
        kept = [(size, at) for size, at in zip(self.tensor.shape, index) if isinstance(at, slice)]
        shape = tuple(len(range(*at.indices(size))) for size, at in kept)
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape


@dataclass(frozen=True)
class Output:
    """A tensor of the converted checkpoint: its pieces one after another; with a scheme also its scales and biases."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    scheme: Quantization | None = None

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def stored_bytes(self) -> int:
        """Bytes that are read for it."""
        return sum(
            math.prod(piece.shape) * piece.tensor.nbytes // max(math.prod(piece.tensor.shape), 1)
            for piece in self.pieces
        )

    def parts(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Names, dtypes and shapes of the tensors that stand in the file for it."""
        if self.scheme is None:
            return [(self.name, self.dtype, self.shape)]
        *front, inputs = self.shape
        words, groups = inputs * self.scheme.bits // 32, inputs // self.scheme.group_size
        return [
            (self.name, "U32", (*front, words)),
            (f"{self.module}.scales", self.dtype, (*front, groups)),
            (f"{self.module}.biases", self.dtype, (*front, groups)),
        ]


SCALES = (".scales", ".weight_scale", ".weight_scale_inv")  # of weights that are quantised already


def make_outputs(checkpoint: Checkpoint, scheme: Quantization) -> list[Output]:
    """The outputs for a Hugging Face checkpoint, in order. CheckpointError names what is missing or does not fit,
    UnsupportedError a family that is not known or weights that are quantised already."""
    config, source = checkpoint.config, checkpoint.source
    model_type = config.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise UnsupportedError(
            f"{source}: model_type {brief(model_type)} cannot be converted; these can: {', '.join(FAMILIES)}"
        )
    if family.plain is not None and config.get("num_local_experts") == 0:
        family = family.plain
    integer(config, "num_hidden_layers", source=source)
    if any(
        re.search(family.taps or "$^", name) and info.shape[-1:] == (1,) for name, info in checkpoint.tensors.items()
    ):
        family = replace(family, centred=None)  # mlx-lm's: the 1 is there
    scaled = [name for name in checkpoint.tensors if name.endswith(SCALES)]
    if scaled:
        raise UnsupportedError(
            f"{checkpoint.path}: its weights are quantised already ({listed(scaled, 2)}); "
            "give the checkpoint that they were made from"
        )
    tensors = {name: info for name, info in checkpoint.tensors.items() if not left_out(name, config)}
    if not tensors:
        raise CheckpointError(f"{checkpoint.path}: holds no tensors; download it again")
    for info in tensors.values():
        if info.dtype not in NUMPY_DTYPES:
            raise UnsupportedError(
                f"{info.file}: tensor {brief(info.name)} has dtype {info.dtype}, which cannot be converted"
            )
    outputs = _stacks(tensors, family, source) if family.stacked else []
    for name, info in tensors.items():
        outputs += _special(name, info, family, config, source) or [_one(name, info)]
    outputs = [replace(output, name=_renamed(output.name, family)) for output in outputs]
    _check_names(outputs, checkpoint.path)
    return sorted((_quantised(output, family, scheme) for output in outputs), key=_natural)


def _stacks(tensors: dict[str, TensorInfo], family: Family, source: str) -> list[Output]:
    """Takes the experts that lie one by one out of `tensors` and gives their stacks."""
    experts: defaultdict[tuple[str, str], dict[int, TensorInfo]] = defaultdict(dict)
    for name in list(tensors):
        match = re.fullmatch(rf"{family.stacked}\.weight", name)
        if match:
            experts[match[1], dict(family.projections)[match[3]]][int(match[2])] = tensors.pop(name)
    outputs = []
    for (before, projection), found in experts.items():
        infos = [found[number] for number in sorted(found)]
        absent = sorted(set(range(max(found) + 1)) - set(found))
        odd = [info for info in infos if (info.shape, info.dtype) != (infos[0].shape, infos[0].dtype)]
        if absent:
            raise CheckpointError(
                f"{source}: {before}: {projection} of experts {listed(absent)} is missing; download it again"
            )
        if odd or len(infos[0].shape) != 2:
            info = (odd or infos)[0]
            raise CheckpointError(
                f"{info.file}: tensor {brief(info.name)} is {info.dtype} of shape {list(info.shape)}, "
                f"{brief(infos[0].name)} is {infos[0].dtype} of {list(infos[0].shape)}; experts are matrices of one "
                "shape and dtype"
            )
        outputs.append(_stack(f"{before}.{family.stack}.{projection}.weight", [Piece(info) for info in infos]))
    return outputs


def _special(name: str, info: TensorInfo, family: Family, config: dict[str, Any], source: str) -> list[Output] | None:
    """The outputs of a tensor that is cut, turned or changed; None for one that is at most renamed."""
    if family.taps and re.search(family.taps, name):
        channels, one, taps = _shape(info, 3)
        if taps == 1:  # it is so already
            return [_one(name, info)]
        return [Output(name, info.dtype, (channels, taps, one), (Piece(info, (), True),))]
    if family.centred and re.search(family.centred, name) and info.dtype in NUMPY:
        return [Output(name, info.dtype, info.shape, (Piece(info, added=1.0),))]
    if family.halves and (match := re.fullmatch(family.halves, name)):
        experts, rows, _ = _shape(info, 3, even=1)
        return [
            _stack(f"{match[1]}.{family.stack}.{part}.weight", [Piece(info, (e, half)) for e in range(experts)])
            for part, half in (("gate_proj", slice(0, rows // 2)), ("up_proj", slice(rows // 2, rows)))
        ]
    if family.joined and (match := re.fullmatch(family.joined, name)):
        rows, inputs = _shape(info, 2, even=0)
        return [
            Output(f"{match[1]}.{family.stack}.{part}.weight", info.dtype, (rows // 2, inputs), (Piece(info, (half,)),))
            for part, half in (("gate_proj", slice(0, rows // 2)), ("up_proj", slice(rows // 2, rows)))
        ]
    if family.latent and (match := re.fullmatch(r"(.*\.self_attn)\.kv_b_proj\.weight", name)):
        heads, keys, values = (
            integer(config, key, source=source) for key in ("num_attention_heads", "qk_nope_head_dim", "v_head_dim")
        )
        rows, _ = _shape(info, 2)
        if rows != heads * (keys + values):
            raise CheckpointError(
                f"{info.file}: tensor {brief(name)} has {rows} rows, the config says {heads} heads of {keys} + {values}"
            )
        starts = range(0, rows, keys + values)
        return [
            _stack(f"{match[1]}.embed_q.weight", [Piece(info, (slice(s, s + keys),), True) for s in starts]),
            _stack(
                f"{match[1]}.unembed_out.weight", [Piece(info, (slice(s + keys, s + keys + values),)) for s in starts]
            ),
        ]
    if family.clamped and (
        match := re.fullmatch(r"(.*\.experts)\.(gate_up_proj|down_proj)(_blocks|_scales|_bias)?", name)
    ):
        return _clamped(info, match[1], match[2] == "gate_up_proj", match[3])
    return None


def _clamped(info: TensorInfo, before: str, both: bool, part: str | None) -> list[Output]:
    """The outputs of gpt-oss's experts: in mxfp4, which MLX keeps as it is, or in a float dtype, inputs first."""
    experts, *_ = _shape(info, {None: 3, "_blocks": 4, "_scales": 3, "_bias": 2}[part])
    halves = (
        [("gate_proj", slice(0, None, 2)), ("up_proj", slice(1, None, 2))] if both else [("down_proj", slice(None))]
    )
    outputs = []
    for projection, rows in halves:
        module = f"{before}.{projection}"
        if part is None:
            pieces = [Piece(info, (e, slice(None), rows), True) for e in range(experts)]
            outputs.append(_stack(f"{module}.weight", pieces))
            continue
        pieces = [Piece(info, (e, rows)) for e in range(experts)]
        shape = (experts, *pieces[0].shape)
        if part == "_blocks":  # words of 32 bits where the source counts bytes
            outputs.append(Output(f"{module}.weight", "U32", (*shape[:-2], shape[-2] * shape[-1] // 4), tuple(pieces)))
        else:
            outputs.append(Output(f"{module}{part.replace('_', '.')}", info.dtype, shape, tuple(pieces)))
    return outputs


def _stack(name: str, pieces: list[Piece]) -> Output:
    return Output(name, pieces[0].tensor.dtype, (len(pieces), *pieces[0].shape), tuple(pieces))


def _one(name: str, info: TensorInfo) -> Output:
    matrices = len(info.shape) == 3
    pieces = [Piece(info, (i,)) for i in range(info.shape[0])] if matrices else [Piece(info)]
    return Output(name, info.dtype, info.shape, tuple(pieces))


def _renamed(name: str, family: Family) -> str:
    for expression, replacement in family.renamed:
        name = re.sub(expression, replacement, name)
    return name


def _quantised(output: Output, family: Family, scheme: Quantization) -> Output:
    """The output with the scheme that its weight is stored in, where MLX quantises it."""
    wanted = PRECISE if family.precise and re.search(family.precise, output.module) else scheme
    if (
        not output.name.endswith(".weight")
        or len(output.shape) not in (2, 3)
        or output.dtype == "U32"
        or (family.whole and re.search(family.whole, output.module))
        or output.shape[-1] % scheme.group_size
    ):
        return output
    if output.dtype not in NUMPY:
        raise UnsupportedError(
            f"{output.pieces[0].tensor.file}: tensor {brief(output.pieces[0].tensor.name)} is {output.dtype}; "
            f"{', '.join(NUMPY)} can be quantised"
        )
    if output.shape[-1] % wanted.group_size:
        wanted = Quantization(wanted.bits, scheme.group_size)
    return replace(output, scheme=wanted)


def _shape(info: TensorInfo, dimensions: int, even: int | None = None) -> tuple[int, ...]:
    if len(info.shape) != dimensions or 0 in info.shape or (even is not None and info.shape[even] % 2):
        raise CheckpointError(
            f"{info.file}: tensor {brief(info.name)} has shape {list(info.shape)}; {dimensions} dimensions are "
            f"expected{', an even number of rows for gate and up' if even is not None else ''}"
        )
    return info.shape


def _check_names(outputs: list[Output], path: Path) -> None:
    seen: set[str] = set()
    for output in outputs:
        for name, _, _ in output.parts():
            if name in seen:
                raise CheckpointError(f"{path}: two of its tensors become {brief(name)}; download it again")
            seen.add(name)


def _natural(output: Output) -> list[tuple[int, str]]:
    """A key of sorting that puts layer 10 after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", output.name)]


def quantization(outputs: list[Output], scheme: Quantization) -> dict[str, Any]:
    """config.json's table: the scheme, and the modules with another one; beside mxfp4 all modules have entries."""
    native = any(output.dtype == "U32" for output in outputs)
    table: dict[str, Any] = (
        dict(MXFP4) if native else {"group_size": scheme.group_size, "bits": scheme.bits, "mode": "affine"}
    )
    for output in outputs:
        if output.scheme is not None and (native or output.scheme != scheme):
            table[output.module] = {
                "group_size": output.scheme.group_size,
                "bits": output.scheme.bits,
                "mode": "affine",
            }
    return table
