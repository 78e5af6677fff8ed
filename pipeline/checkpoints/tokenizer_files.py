"""The files that a folder's tokenizer may lie in: tokenizer.json, tokenizer.model, or vocab.json with merges.txt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from ..errors import CheckpointError
from ..printing import one_line
from .config import read_json
from .files import exists, read_file
from .panics import panics_become
from .sentencepiece_file import make_tokenizer, read_pieces
from .tokenizer import read_tokenizer

__all__ = ["TOKENIZER", "add_ends", "read_core"]

TOKENIZER, PIECES, VOCABULARY, MERGES = "tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"
ADDED = "added_tokens.json"


def read_core(path: Path, config: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, Path]:
    """(tokenizer, its file) of a folder; config: tokenizer_config.json. CheckpointError where there is none."""
    if exists(path / TOKENIZER) or not (exists(path / PIECES) or exists(path / VOCABULARY)):
        return read_tokenizer(path / TOKENIZER), path / TOKENIZER
    if exists(path / PIECES):
        file = path / PIECES
        made = make_tokenizer(read_pieces(file), file, once=config.get("legacy") is False)
    else:
        file = path / VOCABULARY
        made = _from_merges(file, path / MERGES)
    _add(made, path / ADDED)
    return made, file


def add_ends(made: tokenizers.Tokenizer, file: Path, texts: Mapping[str, str], config: Mapping[str, Any]) -> None:
    """Gives a tokenizer without a post-processor the beginning and the end token that a prompt has. texts: of special
    tokens. SentencePiece's have a beginning token where tokenizer_config.json does not deny it."""
    begin, end = texts.get("bos_token"), texts.get("eos_token")
    sentences = file.name == PIECES
    if sentences:
        pieces = read_pieces(file)
        known = [text for text, _, _ in pieces.pieces]
        begin, end = (
            text or (known[i] if 0 <= i < len(known) else None)
            for text, i in ((begin, pieces.begin), (end, pieces.end))
        )
    first = begin if config.get("add_bos_token", sentences) else None
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
