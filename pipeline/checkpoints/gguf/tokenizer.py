"""A tokenizer from the metadata of a GGUF file: keys tokenizer.ggml.*.

Two kinds exist under several names. "gpt2" is byte-level BPE with merges. "llama" is SentencePiece's BPE: the pair
whose token has the best score is merged first, and a character that is no token becomes its bytes. "gemma4" has the
merges of the first and the spaces and bytes of the second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from ...errors import CheckpointError, UnsupportedError
from ...printing import one_line
from ..end_tokens import END_TEXTS, only_ends, template_ends
from ..panics import panics_become
from ..sentencepiece_file import TokenType, merges_by_score
from ..tensor_info import quoted
from .pretokenizers import KINDS, Kind
from .values import FIX, SCALARS, STRING, Array

__all__ = ["Vocabulary", "make_tokenizer"]

PREFIX = "tokenizer.ggml."
MAX_TOKENS = 1 << 22
SPACE = "▁"


class Vocabulary:
    """The tokenizer's part of a file's metadata, checked where it is read. `file` is for messages."""

    def __init__(self, file: Path, metadata: Mapping[str, object]) -> None:
        self.file = file
        self._metadata = metadata

    def error(self, key: str, what: str) -> CheckpointError:
        return CheckpointError(f'{self.file}: key "{PREFIX}{key}" {what}; {FIX}')

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of a key of that type; `default` where it is absent."""
        value = self._metadata.get(PREFIX + key)
        if value is None:
            return default
        if type(value) is not kind:
            raise self.error(key, f"must be {kind.__name__}, found {quoted(value)}")
        return value

    def array(self, key: str, *, strings: bool, least: int = 0) -> Array:
        """An array of strings or of numbers, with at least that many elements."""
        value = self._metadata.get(PREFIX + key)
        if value is None:
            raise self.error(key, "is missing, and the tokenizer needs it")
        if not isinstance(value, Array) or (value.kind == STRING) != strings or not (strings or value.kind in SCALARS):
            raise self.error(key, f"must be an array of {'strings' if strings else 'numbers'}, found {quoted(value)}")
        if len(value) < least:
            raise self.error(key, f"has {len(value):,} elements, there are {least:,} tokens")
        return value

    @property
    def model(self) -> str:
        name: str = self.get("model", str, "")
        return name

    def tokens(self) -> list[str]:
        """The texts by id. An empty one, which no text contains, gets a name of its own, as llama.cpp gives it."""
        found = self.array("tokens", strings=True)
        if not 0 < len(found) <= MAX_TOKENS:
            raise self.error("tokens", f"has {len(found):,} tokens; 1 to {MAX_TOKENS:,} are possible")
        return [text or f"[EMPTY_{i}]" for i, text in enumerate(found)]

    def types(self, count: int) -> list[int]:
        if self._metadata.get(PREFIX + "token_type") is None:
            return [TokenType.NORMAL] * count
        return list(self.array("token_type", strings=False, least=count))[:count]

    def token_id(self, key: str, default: int | None = None) -> int | None:
        """A token's id. The default stands where the file has none or one outside of the vocabulary; None where it is
        outside, too."""
        count = len(self.array("tokens", strings=True))
        return next((i for i in (self.get(key, int), default) if i is not None and 0 <= i < count), None)

    @property
    def pre(self) -> Kind:
        """How byte-level BPE cuts words. UnsupportedError for a kind that is not known."""
        name = self.get("pre", str, "")
        if name not in KINDS:
            raise UnsupportedError(
                f'{self.file}: key "{PREFIX}pre" {quoted(name)} is a kind of tokenizer that is not '
                "supported; use the model's folder with its tokenizer.json"
            )
        return KINDS[name]

    def bos_token(self) -> int | None:
        """The id that a prompt starts with; None where the file does not want one."""
        if self.model == "gpt2":
            wanted = self.get("add_bos_token", bool, self.pre.add_bos)
        else:
            wanted = self.get("add_bos_token", bool, True) or self.model == "gemma4"
        return self.token_id("bos_token_id", 1 if self.model == "llama" else None) if wanted else None

    def special_texts(self) -> dict[str, str]:
        """The texts of the tokens that chat templates write: "bos_token" -> "<s>"."""
        if self._metadata.get(PREFIX + "tokens") is None:
            return {}
        keys = {
            "bos_token": "bos_token_id",
            "eos_token": "eos_token_id",
            "unk_token": "unknown_token_id",
            "pad_token": "padding_token_id",
            "sep_token": "seperator_token_id",
            "mask_token": "mask_token_id",
        }
        defaults = {"bos_token": 1, "eos_token": self._default_end} if self.model == "llama" else {}
        texts = self.tokens()
        ids = {name: self.token_id(key, defaults.get(name)) for name, key in keys.items()}
        return {name: texts[i] for name, i in ids.items() if i is not None}

    def eos_token(self) -> int | None:
        """The id that a prompt ends with, besides; None where the file does not want one, as nearly all files."""
        return self.token_id("eos_token_id", self._default_end) if self.get("add_eos_token", bool, False) else None

    @property
    def _default_end(self) -> int | None:
        return 2 if self.model == "llama" else None

    def end_tokens(self, templates: Iterable[str] = ()) -> tuple[int, ...]:
        """The ids that end a text: those that the file names, and the tokens with such texts, whatever their type: some
        converters wrote another one than CONTROL. templates: the chat templates, which may have an end of their own."""
        if self._metadata.get(PREFIX + "tokens") is None:
            return ()
        keys = ("eos_token_id", "eot_token_id", "eom_token_id")
        named = [self.token_id(key, self._default_end if key == "eos_token_id" else None) for key in keys]
        wanted = END_TEXTS | template_ends(templates)
        found = {text: i for i, text in enumerate(self.tokens()) if text in wanted}
        ends = only_ends(found, found.__contains__)
        return tuple(dict.fromkeys([*(i for i in named if i is not None), *(i for t, i in found.items() if t in ends)]))


def make_tokenizer(vocabulary: Vocabulary, ends: Collection[int] = ()) -> Tokenizer:
    """The tokenizer, in which the tokens `ends` are special. UnsupportedError for another kind of tokenizer,
    CheckpointError for a damaged one."""
    build = {"gpt2": _byte_level, "llama": _sentencepiece, "gemma4": _sentencepiece}.get(vocabulary.model)
    if vocabulary.model in ("", "none", "no_vocab"):
        raise CheckpointError(f"{vocabulary.file}: has no tokenizer in it; use a file that was converted with one")
    if build is None:
        raise UnsupportedError(
            f"{vocabulary.file}: tokenizer {quoted(vocabulary.model)} is not supported; supported: gpt2 "
            "(byte-level BPE), llama (SentencePiece) and gemma4"
        )
    texts = vocabulary.tokens()
    types = vocabulary.types(len(texts))
    ids = {text: i for i, text in enumerate(texts)}
    if len(ids) < len(texts):
        twin = next(text for i, text in enumerate(texts) if ids[text] != i)
        raise vocabulary.error("tokens", f"has token {quoted(twin)} twice")

    def bad(what: str) -> CheckpointError:
        return CheckpointError(f"{vocabulary.file}: no tokenizer can be made of its metadata: {what}; {FIX}")

    try:
        with panics_become(bad, silent=True):
            tokenizer = build(vocabulary, texts, types, ids)
            _add_special(tokenizer, texts, types, ends)
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # the package raises plain Exception
        raise bad(one_line(str(error))) from error
    return tokenizer


def _byte_level(vocabulary: Vocabulary, texts: Sequence[str], types: Sequence[int], ids: dict[str, int]) -> Tokenizer:
    """A tokenizer of bytes, each one of 256 letters; expressions cut words, which are then merged."""
    kind = vocabulary.pre
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in kind.patterns]
    tokenizer = Tokenizer(models.BPE(ids, _merges(vocabulary, ids), ignore_merges=kind.whole_words))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(
    vocabulary: Vocabulary, texts: Sequence[str], types: Sequence[int], ids: dict[str, int]
) -> Tokenizer:
    """A tokenizer with spaces as a visible letter, one before each text where the file wants it, and with bytes where
    no token fits."""
    merged = vocabulary.model == "gemma4"
    merges = _merges(vocabulary, ids) if merged else _merges_by_score(vocabulary, texts, types, ids)
    unknown = next((text for text, kind in zip(texts, types) if kind == TokenType.UNKNOWN), None)
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    in_front = vocabulary.get("add_space_prefix", bool, not merged)
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces] if in_front else [spaces])
    if merged:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\n]+|[\n]+"), "isolated")
    shown = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*shown, decoders.Strip(" ", 1, 0)] if in_front else shown)
    return tokenizer


def _merges(vocabulary: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    """The file's merges, the first one first. One that makes no token cannot be used."""
    merges = []
    for text in vocabulary.array("merges", strings=True):
        at = text.find(" ", 1)
        pair = text[:at], text[at + 1 :]
        if at > 0 and pair[0] in ids and pair[1] in ids and pair[0] + pair[1] in ids:
            merges.append(pair)
    return merges


def _merges_by_score(
    vocabulary: Vocabulary, texts: Sequence[str], types: Sequence[int], ids: dict[str, int]
) -> list[tuple[str, str]]:
    """Every pair of tokens that makes a token, the best score first: SentencePiece merges in that order."""
    scores = vocabulary.array("scores", strings=False, least=len(texts))
    return merges_by_score(list(zip(texts, scores, types)), ids)


def _add_special(tokenizer: Tokenizer, texts: Sequence[str], types: Sequence[int], ends: Collection[int]) -> None:
    """Adds the tokens that are found in a text before it is cut; decoding leaves the special ones of them out."""
    control = {i for i, kind in enumerate(types) if kind in (TokenType.CONTROL, TokenType.UNKNOWN)}
    control |= {i for i in ends if types[i] != TokenType.NORMAL or texts[i] in END_TEXTS}
    special = [texts[i] for i in sorted(control)]
    defined = [
        text for i, (text, kind) in enumerate(zip(texts, types)) if kind == TokenType.USER_DEFINED and i not in control
    ]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in defined])
