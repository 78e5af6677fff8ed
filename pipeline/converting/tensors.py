"""The tensors of the converted checkpoint, and the pieces that each is made of, before anything is read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..checkpoints.checkpoint import NUMPY_DTYPES
from ..checkpoints.config import integer
from ..checkpoints.tensor_info import TensorInfo, listed
from ..errors import CheckpointError, UnsupportedError
from ..printing import brief
from .affine import NUMPY
from .encoding import Scheme, parts_of
from .families import Family, left_out
from .pieces import Piece
from .source import Source

__all__ = ["MXFP4", "Output", "check_names", "lay_out"]

CODES = ("I8", "U8", "I32", "U32", "I64", "F8_E4M3", "F8_E5M2", "F8_E8M0")  # of weights of other libraries' formats
MXFP4 = {"group_size": 32, "bits": 4, "mode": "mxfp4"}


@dataclass(frozen=True)
class Output:
    """A tensor of the converted checkpoint: its pieces one after another, or `constant`; with a scheme in that form.

    dtype   of its numbers; of scales and biases, where the scheme has some
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    scheme: Scheme | None = None
    constant: bytes = b""

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def stored_bytes(self) -> int:
        """Bytes that are read for it."""
        return sum(piece.stored_bytes for piece in self.pieces)

    def parts(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Names, dtypes and shapes of the tensors that stand in the file for it."""
        if self.scheme is None:
            return [(self.name, self.dtype, self.shape)]
        return parts_of(self.name, self.dtype, self.shape, self.scheme)


def lay_out(source: Source, families: Mapping[str, Family]) -> tuple[list[Output], Family]:
    """The outputs for a checkpoint in order, without schemes, as one of `families` has them, and which one that is.
    CheckpointError names what is missing or does not fit, UnsupportedError a family that is not known."""
    checkpoint = source.checkpoint
    config, where = checkpoint.config, checkpoint.source
    model_type = config.get("model_type")
    family = families.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise UnsupportedError(
            f"{where}: model_type {brief(model_type)} cannot be converted; these can: {', '.join(families)}"
        )
    if family.plain is not None and config.get("num_local_experts") == 0:
        family = family.plain
    integer(config, "num_hidden_layers", source=where)
    if checkpoint.path.is_file():
        family = replace(family, taps=None, centred=None)  # layouts.py does what is done to a GGUF file's weights
    if any(re.search(family.taps or "$^", name) and info.shape[-1:] == (1,) for name, info in source.tensors.items()):
        family = replace(family, centred=None)  # mlx-lm's: the 1 is there
    tensors = {name: info for name, info in source.tensors.items() if not left_out(name, config)}
    if not tensors:
        raise CheckpointError(f"{checkpoint.path}: holds no tensors; download it again")
    for info in tensors.values():
        blocks = family.clamped and info.name.endswith(("_blocks", "_scales"))
        if info.dtype not in NUMPY_DTYPES or (info.dtype in CODES and not blocks):
            raise UnsupportedError(
                f"{info.file}: tensor {brief(info.name)} has dtype {info.dtype}, which cannot be converted"
            )
    outputs = _stacks(tensors, family, where) if family.stacked else []
    for name, info in tensors.items():
        outputs += _special(name, info, family, source) or [_one(name, info)]
    outputs = [replace(output, name=_renamed(output.name, family)) for output in outputs]
    check_names(outputs, checkpoint.path)
    return sorted(outputs, key=_natural), family


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


def _special(name: str, info: TensorInfo, family: Family, source: Source) -> list[Output] | None:
    """The outputs of a tensor that is cut, turned or changed; None for one that is at most renamed."""
    config = source.checkpoint.config
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
            integer(config, key, source=source.checkpoint.source)
            for key in ("num_attention_heads", "qk_nope_head_dim", "v_head_dim")
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
        return _clamped(info, match[1], match[2] == "gate_up_proj", match[3], name in source.coded)
    return None


def _clamped(info: TensorInfo, before: str, both: bool, part: str | None, coded: bool) -> list[Output]:
    """The outputs of gpt-oss's experts: in mxfp4, which MLX keeps as it is, or in a float dtype, inputs first."""
    experts, *_ = _shape(info, {None: 3, "_blocks": 4, "_scales": 3, "_bias": 2}[part])
    halves = (
        [("gate_proj", slice(0, None, 2)), ("up_proj", slice(1, None, 2))] if both else [("down_proj", slice(None))]
    )
    outputs = []
    for projection, rows in halves:
        module = f"{before}.{projection}"
        if part is None:
            pieces = [
                Piece(info, (e, rows)) if coded else Piece(info, (e, slice(None), rows), True) for e in range(experts)
            ]
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


def _shape(info: TensorInfo, dimensions: int, even: int | None = None) -> tuple[int, ...]:
    if len(info.shape) != dimensions or 0 in info.shape or (even is not None and info.shape[even] % 2):
        raise CheckpointError(
            f"{info.file}: tensor {brief(info.name)} has shape {list(info.shape)}; {dimensions} dimensions are "
            f"expected{', an even number of rows for gate and up' if even is not None else ''}"
        )
    return info.shape


def check_names(outputs: list[Output], path: Path) -> None:
    seen: set[str] = set()
    for output in outputs:
        for name, _, _ in output.parts():
            if name in seen:
                raise CheckpointError(f"{path}: two of its tensors become {brief(name)}; download it again")
            seen.add(name)


def _natural(output: Output) -> list[tuple[int, str]]:
    """A key of sorting that puts layer 10 after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", output.name)]
