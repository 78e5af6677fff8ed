"""What a conversion is told: the format, the recipe that mixes formats, and rules for tensors by their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints.config import Quantization
from ..errors import UsageError
from ..graph.formats import (
    AFFINE_BITS,
    FLOAT_MODES,
    GGUF_RECIPES,
    GGUF_WRITTEN,
    GROUP_SIZES,
    MLX_RECIPES,
    MLX_WRITTEN,
    PLAIN,
    either,
)
from .encoding import Block, Scheme

__all__ = ["Rule", "Settings"]


@dataclass(frozen=True)
class Rule:
    """Tensors in whose names `expression` is found are stored in `scheme`; None: unquantised, in `plain` where that is
    said."""

    expression: re.Pattern[str]
    scheme: Scheme | None
    plain: str = ""
    text: str = ""  # as it was given


@dataclass(frozen=True)
class Settings:
    """gguf: whether a GGUF file is written, else an MLX folder. scheme: of weights; None with `plain`, a dtype.
    recipe: one of mlx-lm's or llama.cpp's, or none. importance: a file of llama.cpp's imatrix, or none."""

    gguf: bool
    scheme: Scheme | None
    plain: str = ""
    recipe: str = ""
    rules: tuple[Rule, ...] = ()
    importance: Path | None = None

    @classmethod
    def of(
        cls,
        out: str,
        format: str | None = None,
        bits: int | None = None,
        group_size: int | None = None,
        recipe: str | None = None,
        rules: list[str] | None = None,
        importance: str | None = None,
    ) -> Settings:
        """From the command line. UsageError for settings that do not go together."""
        gguf = out.lower().endswith(".gguf")
        kind = "a GGUF file" if gguf else "an MLX folder (a path that ends in .gguf is a GGUF file)"
        possible = GGUF_WRITTEN if gguf else MLX_WRITTEN
        recipes = GGUF_RECIPES if gguf else MLX_RECIPES
        if recipe and format:
            raise UsageError(f"--mixed {recipe}: chooses the formats, so it cannot stand beside --format")
        if recipe and recipe not in recipes:
            raise UsageError(f"--mixed {recipe}: {kind} has no such recipe; choose {either(tuple(recipes))}")
        if format and format not in possible:
            raise UsageError(f"--format {format}: {kind} has no such format; choose {either(possible)}")
        if importance and not gguf:
            raise UsageError("--imatrix: only the formats of GGUF files use it; give OUT a name that ends in .gguf")
        affine = not gguf and format in (None, "affine")
        for name, value in (("--bits", bits), ("--group-size", group_size)):
            if value is not None and (not affine or (recipe and name == "--bits")):
                raise UsageError(f"{name} {value}: is for MLX's affine format without --mixed; leave it out")
        if gguf:
            name = GGUF_RECIPES[recipe] if recipe else format or "Q4_K"
            recipe = recipe or ("Q4_K_M" if format is None else "")
            scheme, plain = _named(name, gguf, 64)
        else:
            low = MLX_RECIPES[recipe][0] if recipe else bits or 4
            scheme, plain = _named(format if format in FLOAT_MODES else str(low), gguf, group_size or 64)
        made = tuple(_rule(text, gguf, group_size or 64) for text in rules or ())
        return cls(gguf, scheme, plain, recipe or "", made, Path(importance) if importance else None)

    def rule(self, name: str) -> Rule | None:
        """The first rule for a tensor of that name."""
        return next((rule for rule in self.rules if rule.expression.search(name)), None)

    def described(self) -> dict[str, Any]:
        """All of it as JSON, for the journal."""
        rules = [[rule.expression.pattern, str(rule.scheme), rule.plain] for rule in self.rules]
        size = None
        if self.importance is not None and self.importance.exists():
            stat = self.importance.stat()
            size = [str(self.importance), stat.st_size, stat.st_mtime_ns]
        return {"scheme": str(self.scheme), "plain": self.plain, "recipe": self.recipe, "rules": rules, "imatrix": size}


def _rule(text: str, gguf: bool, group_size: int) -> Rule:
    expression, equals, name = text.rpartition("=")
    try:
        if not equals or not expression:
            raise UsageError("it must be REGEX=FORMAT")
        return Rule(re.compile(expression), *_named(name, gguf, group_size), text)
    except (re.error, UsageError) as error:
        raise UsageError(f"--rule {text}: {error}") from None


def _named(name: str, gguf: bool, group_size: int) -> tuple[Scheme | None, str]:
    """(scheme, plain dtype) of a format's name: "Q6_K", "F16", "mxfp4"; "6" or "6/32" for bits, and weights per group;
    "none" for what is stored as it is."""
    if gguf and name in GGUF_WRITTEN:
        return (None, name) if name in PLAIN else (Block(name), "")
    if not gguf and name == "none":
        return None, ""
    if not gguf and name in FLOAT_MODES:
        return Quantization(*FLOAT_MODES[name], name), ""
    bits, slash, group = name.partition("/")
    group = group if slash else str(group_size)
    if not gguf and bits.isdecimal() and int(bits) in AFFINE_BITS and group.isdecimal() and int(group) in GROUP_SIZES:
        return Quantization(int(bits), int(group)), ""
    known = GGUF_WRITTEN if gguf else (*AFFINE_BITS, "6/32 (bits/group)", *FLOAT_MODES, "none")
    raise UsageError(f"{name or 'nothing'!r} is no format here; use {either(known)}")
