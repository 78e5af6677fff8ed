"""The tensors and the metadata of a GGUF file that is written: names, layout, and the type of each tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..checkpoints.gguf.checkpoint import GgufCheckpoint
from ..checkpoints.gguf.header import read_header
from ..checkpoints.gguf.names import BARE, MODEL
from ..checkpoints.hub import model_name
from ..errors import UnsupportedError
from ..graph.formats import BLOCKS
from ..models.defaults import with_defaults
from ..printing import brief
from .affine import NUMPY
from .encoding import Block
from .families import ALONE, DENSE, FAMILIES, SAME
from .families import Family as Placing
from .gguf_keys import architecture_of, make_keys, rope_tensors
from .gguf_vocabulary import vocabulary
from .layouts import changed, undone
from .pieces import Piece
from .recipes import block_of
from .settings import Settings
from .source import Source
from .tensors import Output, check_names, lay_out

__all__ = ["gguf_contents"]

MIXTURE = Placing(stacked=ALONE, projections=SAME)
# Families that have experts as MLX lays them out, though mlx-lm is not asked for them.
PLACES = dict(FAMILIES) | {
    **dict.fromkeys(
        ("granite", "ernie4_5", "seed_oss", "smollm3", "olmo2", "olmo3", "phi3", "hunyuan_v1_dense"), DENSE
    ),
    **dict.fromkeys(("hunyuan_v1_moe", "bailing_moe", "dots1", "exaone_moe", "afmoe", "ernie4_5_moe"), MIXTURE),
    "granitemoeshared": replace(
        FAMILIES["granitemoe"],
        joined=r"(.*\.shared_mlp)\.input_linear\.weight",
        renamed=(*FAMILIES["granitemoe"].renamed, (r"\.shared_mlp\.switch_mlp\.", ".shared_mlp.")),
    ),
    "granitemoehybrid": replace(
        FAMILIES["granitemoehybrid"],
        joined=r"(.*\.shared_mlp)\.input_linear\.weight",
        renamed=(
            *FAMILIES["granitemoehybrid"].renamed,
            (r"\.shared_mlp\.switch_mlp\.", ".shared_mlp."),
            (r"\.shared_mlp\.output_linear\.", ".shared_mlp.down_proj."),
        ),
    ),
    "nemotron_h": replace(FAMILIES["nemotron_h"], renamed=()),
    "lfm2": Placing(renamed=FAMILIES["lfm2_moe"].renamed),
    "lfm2_moe": replace(FAMILIES["lfm2_moe"], taps=None),
    "minimax_m2": Placing(
        stacked=r"(.*\.block_sparse_moe)\.experts\.(\d+)\.(w1|w2|w3)", projections=FAMILIES["mixtral"].projections
    ),
}
FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16,
    "Q5_K_M": 17, "Q6_K": 18, "BF16": 32, "MXFP4": 38, "Q4_K": 15, "Q5_K": 17,
}  # fmt: skip
OTHERS = (  # names that some checkpoints have for the same
    ("mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias"),
    ("mlp.gate.gate_proj", "mlp.gate"),
)
LONG = ("ssm_conv1d", "shortconv.conv", "ffn_gate_inp", "exp_probs_b", "attn_rel_b")  # tensors that stay in F32


def gguf_contents(source: Source, settings: Settings) -> tuple[dict[str, Any], list[Output]]:
    """(metadata, outputs) of the file. UnsupportedError for what GGUF, or the reader of it, has no place for."""
    checkpoint = source.checkpoint
    if isinstance(checkpoint, GgufCheckpoint):
        metadata, outputs = _again(checkpoint, source)
    else:
        metadata, outputs = _from_folder(source)
    check_names(outputs, checkpoint.path)
    outputs = [_typed(output, settings, metadata, outputs, source) for output in outputs]
    name = settings.recipe or (settings.scheme.kind if isinstance(settings.scheme, Block) else settings.plain)
    return metadata | {"general.file_type": FILE_TYPES[name], "general.quantization_version": 2}, outputs


def _again(checkpoint: GgufCheckpoint, source: Source) -> tuple[dict[str, Any], list[Output]]:
    """A GGUF file's own metadata and tensors, by the names that the file has for them."""
    metadata = {key: value for key, value in checkpoint.metadata.items() if not key.startswith("split.")}
    outputs = []
    for file in checkpoint.files:
        for name in read_header(file).tensors:
            info = source.tensors[checkpoint.known_names[name]]
            if name.startswith("rope_f"):  # the configuration follows from it
                raw = checkpoint.raw(info.name).tobytes()
                outputs.append(Output(name, info.dtype, info.shape, (), constant=raw))
                continue
            whole = Piece(info)
            pieces = tuple(Piece(info, (i,)) for i in range(info.shape[0])) if len(info.shape) == 3 else (whole,)
            outputs.append(Output(name, info.dtype, _bare_gate(name, info.shape), pieces))
    return metadata, outputs


def _from_folder(source: Source) -> tuple[dict[str, Any], list[Output]]:
    checkpoint = source.checkpoint
    key, family = architecture_of(checkpoint.config, checkpoint.source)
    outputs, _ = lay_out(source, PLACES)
    outputs = changed(undone(outputs, source), source, family.layout)
    stems = {known: stem for table in (MODEL, family.names) for stem, known in table.items()}
    outputs = [replace(output, name=_gguf_name(output.name, stems, checkpoint.path)) for output in outputs]
    outputs = [replace(output, shape=_bare_gate(output.name, output.shape)) for output in outputs]
    outputs.sort(key=_place)
    for name, values in rope_tensors(with_defaults(checkpoint.config), checkpoint.source).items():
        outputs.append(Output(name, "F32", values.shape, (), constant=values.tobytes()))
    shapes = {output.name: output.shape for output in outputs}
    keys = make_keys(checkpoint.config, key, family, shapes)
    tokens = vocabulary(checkpoint, next(shape[0] for name, shape in shapes.items() if name == "token_embd.weight"))
    return keys | {"general.name": model_name(checkpoint.path)} | tokens, outputs


def _bare_gate(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The gate of a shared expert is a vector."""
    return shape[1:] if name.endswith("ffn_gate_inp_shexp.weight") and len(shape) == 2 else shape


def _gguf_name(name: str, stems: Mapping[str, str], path: object) -> str:
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    front, rest = (f"blk.{found[1]}.", found[2]) if found else ("", name)
    for known in (rest, *(rest.replace(*other) for other in OTHERS)):
        if known in stems:  # by its whole name: with a suffix in the table, or without any
            stem = stems[known]
            whole = stem.endswith((".bias", ".scale", ".weight")) or stem in BARE
            return front + stem + ("" if whole else ".weight")
        module, _, suffix = known.rpartition(".")
        if module in stems and suffix in ("weight", "bias"):
            return f"{front}{stems[module]}.{suffix}"
    raise UnsupportedError(f"{path}: GGUF's table of this family has no name for tensor {brief(name)}")


def _place(output: Output) -> tuple[int, int]:
    """The layers in order, and before them what belongs to none."""
    found = re.match(r"blk\.(\d+)\.", output.name)
    return (1, int(found[1])) if found else (0, 0)


def _typed(
    output: Output, settings: Settings, metadata: Mapping[str, Any], outputs: list[Output], source: Source
) -> Output:
    """The output in its type: matrices in that of the format, the recipe or a rule, all else in F32."""
    if output.constant:
        return output
    name, shape = output.name, output.shape
    for piece in output.pieces:
        if piece.tensor.dtype not in NUMPY:
            raise UnsupportedError(
                f"{piece.tensor.file}: tensor {brief(name)} is {piece.tensor.dtype}, which cannot be converted"
            )
    stem = name.removesuffix(".weight")
    if len(shape) < 2 or not name.endswith(".weight") or stem.endswith(("_norm", *LONG)):
        return replace(output, dtype="F32")
    rule = settings.rule(name)
    if rule is not None:
        scheme, plain = rule.scheme, rule.plain
    elif settings.scheme is not None and all(source.is_mxfp4(piece.tensor.name) for piece in output.pieces):
        scheme, plain = Block("MXFP4"), ""  # as the model was made
    elif settings.scheme is None:
        scheme, plain = None, settings.plain
    else:
        assert isinstance(settings.scheme, Block)
        kind = block_of(name, shape, settings.recipe, settings.scheme.kind, metadata, [each.name for each in outputs])
        scheme, plain = Block(kind), ""
    if isinstance(scheme, Block):
        kind = _fitting(scheme.kind, shape[-1])
        scheme, plain = (Block(kind), "") if kind else (None, "F16")
    return replace(output, scheme=scheme, dtype=plain or "F32")


def _fitting(kind: str, columns: int) -> str:
    """The type, or the next one whose blocks fill the rows: llama.cpp's choice; none where only numbers do."""
    instead = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
    while columns % BLOCKS[kind][0]:
        if kind not in instead:
            return ""
        kind = instead[kind]
    return kind
