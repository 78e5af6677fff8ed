"""The tensors of an MLX folder: which are quantised and how, and the table of that in config.json."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ..checkpoints.config import Quantization, integer
from ..errors import UnsupportedError
from ..graph.formats import MLX_RECIPES
from ..printing import brief
from .affine import NUMPY
from .configuration import stated_rope
from .families import FAMILIES, LAYER, Family
from .layouts import undone
from .settings import Settings
from .source import Source
from .tensors import MXFP4, Output, check_names, lay_out

__all__ = ["mlx_outputs", "more_bits", "quantization"]

PRECISE = Quantization(8, 64)  # mlx-lm stores routers so
FACTORS = ("rope_freqs.", "rope_factors_")  # config.json has their numbers
EXACT = re.compile(r"(correction_bias|expert_bias|A_log|dt_bias|\.D)$")  # numbers that keep 32 bits


def mlx_outputs(source: Source, settings: Settings) -> list[Output]:
    """The outputs of a conversion to MLX, in order."""
    outputs, family = lay_out(source, FAMILIES)
    outputs = undone([output for output in outputs if not output.name.startswith(FACTORS)], source)
    if source.checkpoint.path.is_file():
        stated_rope(source.checkpoint.config, source.checkpoint.source)  # or it is refused before anything is written
    layers = integer(source.checkpoint.config, "num_hidden_layers")
    if source.plain is not None:
        outputs = [_plain(output, source, source.plain) for output in outputs]
    made = [_quantised(output, family, settings, layers) for output in outputs]
    check_names(made, source.checkpoint.path)
    return made


def _plain(output: Output, source: Source, plain: str) -> Output:
    """Numbers that come from codes, and those beside them, in one dtype of 16 bits."""
    coded = any(piece.tensor.name in source.coded for piece in output.pieces)
    return (
        replace(output, dtype=plain) if coded or (output.dtype == "F32" and not EXACT.search(output.name)) else output
    )


def _quantised(output: Output, family: Family, settings: Settings, layers: int) -> Output:
    """The output with the scheme that its weight is stored in, where MLX quantises it."""
    rule = settings.rule(output.name)
    default = settings.scheme
    if rule is not None:
        wanted = rule.scheme
    elif settings.recipe:
        wanted = _mixed(output.module, settings, layers)
    else:
        wanted = PRECISE if family.precise and re.search(family.precise, output.module) else default
    if (
        not isinstance(wanted, Quantization)
        or not isinstance(default, Quantization)
        or not output.name.endswith(".weight")
        or len(output.shape) not in (2, 3)
        or output.dtype == "U32"
        or (family.whole and re.search(family.whole, output.module))
        or (family.taps and re.search(family.taps, output.name))
        or output.shape[-1] % (wanted if rule else default).group_size
    ):
        return output
    if output.dtype not in NUMPY:
        raise UnsupportedError(
            f"{output.pieces[0].tensor.file}: tensor {brief(output.pieces[0].tensor.name)} is {output.dtype}; "
            f"{', '.join(NUMPY)} can be quantised"
        )
    if output.shape[-1] % wanted.group_size:
        wanted = Quantization(wanted.bits, default.group_size)
    return replace(output, scheme=wanted)


def _mixed(module: str, settings: Settings, layers: int) -> Quantization:
    """mlx-lm's recipes: more bits for values, for the last matrix of an MLP in some layers, and for the head."""
    low, high = MLX_RECIPES[settings.recipe]
    assert isinstance(settings.scheme, Quantization)
    layer = LAYER.search(f".{module}.")
    special = more_bits(int(layer[1]) if layer else 0, layers) and re.search(
        "v_proj|v_a_proj|v_b_proj|down_proj", module
    )
    return Quantization(high if special or "lm_head" in module else low, settings.scheme.group_size)


def more_bits(layer: int, layers: int) -> bool:
    """Whether recipes give a layer more bits: the first and the last eighth, and every third one between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def quantization(outputs: list[Output], scheme: Quantization) -> dict[str, Any]:
    """config.json's table: the scheme, and the modules with another one; beside mxfp4 all modules have entries."""
    native = any(output.dtype == "U32" for output in outputs)
    table: dict[str, Any] = dict(MXFP4) if native else _entry(scheme)
    for output in outputs:
        if isinstance(output.scheme, Quantization) and (native or output.scheme != scheme):
            table[output.module] = _entry(output.scheme)
    return table


def _entry(scheme: Quantization) -> dict[str, Any]:
    return {"group_size": scheme.group_size, "bits": scheme.bits, "mode": scheme.mode}
