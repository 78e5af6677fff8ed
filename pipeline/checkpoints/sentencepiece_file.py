"""A tokenizer from SentencePiece's file, tokenizer.model, for checkpoints without tokenizer.json.

The file is a message of protobuf (sentencepiece_model.proto), of which a few fields matter: the pieces with scores and
types, the kind of the model, and how a text is normalised. What is built of it gives the ids that SentencePiece gives.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from ..errors import CheckpointError, UnsupportedError
from ..printing import one_line
from .files import read_file
from .panics import panics_become

__all__ = ["Pieces", "make_tokenizer", "merges_by_score", "read_pieces"]

MOST_BYTES = 1 << 28
MOST_PIECES = 1 << 22
SPACE = "▁"
UNIGRAM, BPE = 1, 2
KINDS = {3: "words", 4: "characters"}
NUMBER, EIGHT, BYTES, FOUR = 0, 1, 2, 5  # protobuf's wire types
ENDING = {2, 3}  # the fields behind the pieces: how the model was trained, and how a text is normalised


class TokenType(IntEnum):
    """The type of a piece, which a GGUF file has as tokenizer.ggml.token_type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


KNOWN = frozenset(int(kind) for kind in TokenType)


@dataclass
class Pieces:
    """What the file says.

    pieces     (text, score, type) by id
    model      BPE or UNIGRAM
    bytes      whether characters that are no piece become single bytes
    charsmap   the rules that change characters before all else, as SentencePiece compiled them
    begin, end, unknown   ids; -1 where there is none
    """

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    model: int = UNIGRAM
    fallback: bool = False
    suffix: bool = False
    charsmap: bytes = b""
    prefix: bool = True
    trimmed: bool = True
    escaped: bool = True
    begin: int = 1
    end: int = 2
    unknown: int = 0


def read_pieces(file: Path) -> Pieces:
    """The contents of the file. CheckpointError where it is damaged, UnsupportedError for a kind that is not read."""
    try:
        data = read_file(file, MOST_BYTES)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    if _is_tiktoken(data):
        raise UnsupportedError(
            f"{file}: is a list of tiktoken, which does not say how words are cut; use the model's tokenizer.json"
        )
    found, parts = Pieces(), set()
    try:
        for number, value in _fields(data):
            parts.add(number)
            if number == 1:
                found.pieces.append(_piece(_message(value)))
            elif number == 2:
                _read_training(_message(value), found)
            elif number == 3:
                _read_normalizer(_message(value), found)
    except (ValueError, struct.error, IndexError) as error:
        raise CheckpointError(
            f"{file}: not a model of SentencePiece: {one_line(str(error))}; download it again"
        ) from None
    if not 0 < len(found.pieces) <= MOST_PIECES:
        raise CheckpointError(f"{file}: has {len(found.pieces):,} pieces; 1 to {MOST_PIECES:,} are possible")
    texts = [text for text, _, _ in found.pieces]
    if len(set(texts)) < len(texts):
        raise CheckpointError(f"{file}: has a piece twice; download it again")
    if found.model not in (BPE, UNIGRAM) or found.suffix or not found.escaped:
        what = KINDS.get(found.model, "spaces behind words" if found.suffix else "spaces as they are")
        raise UnsupportedError(f"{file}: a model of {what} is not supported; use the model's tokenizer.json")
    if not ENDING <= parts:  # SentencePiece writes them last, also where they say nothing
        raise CheckpointError(f"{file}: ends behind {len(found.pieces):,} pieces, in the middle; download it again")
    return found


def make_tokenizer(found: Pieces, file: Path, *, once: bool = False) -> tokenizers.Tokenizer:
    """The tokenizer, without beginning and end tokens. CheckpointError where none can be made.

    once: the space that is put in front of a text does not stand behind special tokens, too, and is not put where there
    is one (transformers' legacy = false).
    """

    def bad(what: str) -> CheckpointError:
        return CheckpointError(f"{file}: no tokenizer can be made of it: {what}; download it again")

    try:
        with panics_become(bad, silent=True):
            return _made(found, once)
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # the package raises plain Exception
        raise bad(one_line(str(error))) from error


def _made(found: Pieces, once: bool) -> tokenizers.Tokenizer:
    texts = [text for text, _, _ in found.pieces]
    unknown = next((i for i, (_, _, kind) in enumerate(found.pieces) if kind == TokenType.UNKNOWN), None)
    if found.model == BPE:
        ids = {text: i for i, text in enumerate(texts)}
        merges = merges_by_score(found.pieces, ids)
        name = None if unknown is None else texts[unknown]
        model: models.Model = models.BPE(ids, merges, unk_token=name, fuse_unk=True, byte_fallback=found.fallback)
    else:
        least = min((score for _, score, kind in found.pieces if kind == TokenType.NORMAL), default=0.0)
        scores = [
            score if kind in (TokenType.NORMAL, TokenType.USER_DEFINED) else least - 20
            for _, score, kind in found.pieces
        ]
        model = models.Unigram(list(zip(texts, scores)), unknown, found.fallback)
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Sequence(_normalizers(found, once))
    cuts: list[pre_tokenizers.PreTokenizer] = []
    if once:
        scheme = "first" if found.prefix else "never"
        cuts.append(pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme, split=False))
    whole = [text for text, _, kind in found.pieces if kind == TokenType.USER_DEFINED and SPACE in text]
    if whole:  # pieces that nothing else is merged with; those without spaces are found before a text is normalised
        longest = sorted(map(re.escape, whole), key=len, reverse=True)
        cuts.append(pre_tokenizers.Split(Regex("|".join(longest)), "isolated"))
    if cuts:
        made.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    shown = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*shown, decoders.Strip(" ", 1, 0)] if found.prefix else shown)
    special = [text for text, _, kind in found.pieces if kind in (TokenType.CONTROL, TokenType.UNKNOWN)]
    own = [text for text, _, kind in found.pieces if kind == TokenType.USER_DEFINED and SPACE not in text]
    made.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    made.add_tokens([AddedToken(text, normalized=False) for text in own])
    return made


def _normalizers(found: Pieces, once: bool) -> list[normalizers.Normalizer]:
    steps: list[normalizers.Normalizer] = []
    if found.charsmap:
        steps.append(normalizers.Precompiled(found.charsmap))
    if found.trimmed:
        steps += [normalizers.Replace(Regex(rf"\A +|[ {SPACE}]+\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if once:
        return steps
    if found.prefix:
        steps.append(normalizers.Prepend(SPACE))
    return [*steps, normalizers.Replace(" ", SPACE)]


def merges_by_score(pieces: list[tuple[str, float, int]], ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, the best score first: SentencePiece merges in that order."""
    found = []
    for i, (text, score, kind) in enumerate(pieces):
        if kind in (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED):
            pairs = [(text[:at], text[at:]) for at in range(1, len(text)) if text[:at] in ids and text[at:] in ids]
            found += [(-score, i, ids[left], (left, right)) for left, right in pairs]
    found.sort()
    return [pair for *_, pair in found]


# The messages


def _piece(message: bytes) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, int(TokenType.NORMAL)
    for number, value in _fields(message):
        if number == 1:
            text = _message(value).decode()
        elif number == 2:
            (score,) = struct.unpack("<f", _message(value))
        elif number == 3:
            kind = _whole(value)
    if not text or kind not in KNOWN or score != score:
        raise ValueError(f"a piece {text!r:.40} with type {kind} and score {score}")
    return text, score, kind


def _read_training(message: bytes, found: Pieces) -> None:
    for number, value in _fields(message):
        if number == 3:
            found.model = _whole(value)
        elif number == 24:
            found.suffix = bool(_whole(value))
        elif number == 35:
            found.fallback = bool(_whole(value))
        elif number in (40, 41, 42):
            name = {40: "unknown", 41: "begin", 42: "end"}[number]
            setattr(found, name, _signed(_whole(value)))


def _read_normalizer(message: bytes, found: Pieces) -> None:
    for number, value in _fields(message):
        if number == 2:
            found.charsmap = _message(value)
        elif number in (3, 4, 5):
            setattr(found, {3: "prefix", 4: "trimmed", 5: "escaped"}[number], bool(_whole(value)))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: (number, value)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == NUMBER:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FOUR, EIGHT):
            size = 4 if wire == FOUR else 8
        else:
            raise ValueError(f"wire type {wire} at byte {at:,}")
        if at + size > len(data):
            raise ValueError(f"a field at byte {at:,} takes {size:,} bytes, {len(data) - at:,} are left")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"a number at byte {at:,} has no end")
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message or a text is expected")
    return value


def _whole(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a message where a number is expected")
    return value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _is_tiktoken(data: bytes) -> bool:
    """Whether the file begins as tiktoken's lists do: a token in base64, a space and its number."""
    first = data.split(b"\n", 1)[0].split(b" ")
    return len(first) == 2 and first[1].strip().isdigit() and data[:1] != b"\n"
