"""The files that a folder's tokenizer may lie in: tokenizer.json, tokenizer.model, or vocab.json with merges.txt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from ..errors import CheckpointError
from ..printing import one_line
from .config import read_json
from .files import exists, read_file
from .panics import panics_become
from .sentencepiece_file import Pieces, make_tokenizer, read_pieces
from .tokenizer import read_tokenizer

__all__ = ["TOKENIZER", "Core", "add_ends", "read_core"]

TOKENIZER, PIECES, VOCABULARY, MERGES = "tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"
ADDED = "added_tokens.json"


@dataclass(frozen=True)
class Core:
    """A tokenizer as its file has it. pieces: what tokenizer.model says, where that is the file."""

    tokenizer: tokenizers.Tokenizer
    file: Path
    pieces: Pieces | None = None


def read_core(path: Path, config: Mapping[str, Any]) -> Core:
    """The tokenizer of a folder; config: tokenizer_config.json. CheckpointError where there is none."""
    if exists(path / TOKENIZER) or not (exists(path / PIECES) or exists(path / VOCABULARY)):
        return Core(read_tokenizer(path / TOKENIZER), path / TOKENIZER)
    if exists(path / PIECES):
        pieces = read_pieces(path / PIECES)
        made = make_tokenizer(pieces, path / PIECES, once=config.get("legacy") is False)
        core = Core(made, path / PIECES, pieces)
    else:
        core = Core(_from_merges(path / VOCABULARY, path / MERGES), path / VOCABULARY)
    _add(core.tokenizer, path / ADDED)
    return core


def add_ends(core: Core, texts: Mapping[str, str], config: Mapping[str, Any]) -> None:
    """Gives a tokenizer without a post-processor the beginning and the end token that a prompt has. texts: of special
    tokens. SentencePiece's have a beginning token where tokenizer_config.json does not deny it."""
    made, pieces = core.tokenizer, core.pieces
    begin, end = texts.get("bos_token"), texts.get("eos_token")
    if pieces is not None:
        known = [text for text, _, _ in pieces.pieces]
        begin, end = (
            text or (known[i] if 0 <= i < len(known) else None)
            for text, i in ((begin, pieces.begin), (end, pieces.end))
        )
    first = begin if config.get("add_bos_token", pieces is not None) else None
    last = end if config.get("add_eos_token", False) else None
    special = [(text, made.token_to_id(text)) for text in (first, last) if text]
    special = [(text, token) for text, token in special if token is not None]
    if special:
        # By names of their own, because a token's text may have spaces or a colon in it.
        named = {text: f"T{number}" for number, (text, _) in enumerate(special)}
        parts = [named.get(first or ""), "$A", named.get(last or "")]
        single = " ".join(part for part in parts if part)
        made.post_processor = processors.TemplateProcessing(
            single=single, pair=f"{single} $B", special_tokens=[(named[text], token) for text, token in special]
        )


def _add(made: tokenizers.Tokenizer, file: Path) -> None:
    """Adds the tokens of added_tokens.json, which has their ids."""
    if not exists(file):
        return
    listed = read_json(file)
    if not all(type(i) is int for i in listed.values()):
        raise CheckpointError(f"{file}: must have an id for each token; download it again")
    for text, i in sorted(listed.items(), key=lambda item: item[1]):
        made.add_tokens([AddedToken(text, normalized=False)])
        if made.token_to_id(text) != i:
            raise CheckpointError(f"{file}: token {text!r:.60} has id {i}, but {made.token_to_id(text)} is next")


def _from_merges(file: Path, merges: Path) -> tokenizers.Tokenizer:
    """Byte-level BPE as GPT-2's files have it; with_transformers_rules gives it the rules of its class."""

    def bad(what: str) -> CheckpointError:
        return CheckpointError(f"{file}: no tokenizer can be made of it and {MERGES}: {what}; download them again")

    vocabulary = read_json(file)
    try:
        lines = read_file(merges).decode().splitlines()
        merged = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        if not all(len(pair) == 2 for pair in merged):
            raise bad("a merge is not two tokens with a space between")
        pairs = [(left, right) for left, right in merged]
        with panics_become(bad, silent=True):
            made = tokenizers.Tokenizer(models.BPE(vocabulary, pairs))
    except OSError as error:
        raise bad(error.strerror or str(error)) from error
    except CheckpointError:
        raise
    except Exception as error:  # the package raises plain Exception
        raise bad(one_line(str(error))) from error
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made
