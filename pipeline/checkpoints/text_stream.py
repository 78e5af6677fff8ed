"""Tokens to text, piece by piece: the pieces joined are what the tokenizer's decoder makes of all tokens at once."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Sequence

import tokenizers

from ..errors import CheckpointError
from .panics import panics_become

__all__ = ["CleanedStream", "Decoding", "TextStream"]

# Tokens in front of a text that its decoding may look at: a character of four bytes, one token each.
CONTEXT = 4

# Tokens after which a window is shortened to its context.
MAX_WINDOW = 16

_BYTE = re.compile(r"<0x([+0-9A-Fa-f][0-9A-Fa-f])>")


class Decoding:
    """How one tokenizer turns tokens into text. Two kinds of decoder look at bytes across tokens:

    ByteLevel      every token is bytes, and an incomplete character at the end shows as one replacement character
    ByteFallback   some tokens are one byte each; a run of them is text where all of it is UTF-8, and else one
                   replacement character for each byte, so that a run is known only when it has ended
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        decoder = tokenizer.decoder
        kinds = _kinds(json.loads(decoder.__getstate__())) if decoder is not None else set()
        self.byte_level = "ByteLevel" in kinds
        self.byte_fallback = "ByteFallback" in kinds
        self._hidden = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
        self._anchor: list[int] | None = None

    def hide(self, tokens: Iterable[int]) -> None:
        """Leaves further tokens out of all texts."""
        self._hidden.update(name for token in tokens if (name := self._tokenizer.id_to_token(token)) is not None)

    def text(self, tokens: Iterable[int]) -> str:
        """The text of tokens, special ones left out."""
        shown = [token for token in tokens if self.name(token) is not None]
        with panics_become(lambda what: CheckpointError(f"the tokenizer cannot show tokens as text: {what}")):
            text: str = self._tokenizer.decode(shown, skip_special_tokens=True)
        return text

    def name(self, token: int) -> str | None:
        """The token as the vocabulary has it; None where it adds nothing to a text."""
        name: str | None = self._tokenizer.id_to_token(token)
        return None if name in self._hidden else name

    def byte(self, name: str) -> int | None:
        """The byte that a token stands for where the decoder collects runs of such tokens."""
        match = _BYTE.fullmatch(name) if self.byte_fallback else None
        return int(match[1], 16) if match else None

    def bytes(self, name: str) -> bytes:
        """The bytes of a token for the ByteLevel decoder; an added token may be plain text."""
        try:
            return bytes(_BYTES[letter] for letter in name)
        except KeyError:
            return name.encode()

    def context(self, tokens: Sequence[int]) -> list[int]:
        """The last of `tokens`, as many as the text of further tokens can depend on.

        Some decoders take spaces from the front of a text, so the context must have a text. It does not begin within a
        run of bytes.
        """
        least = 1 if self.byte_fallback else CONTEXT
        found: list[int] = []  # the last one first
        in_run = False
        for token in reversed(tokens):
            name = self.name(token)
            if name is None:
                continue
            is_byte = self.byte(name) is not None
            if len(found) >= least and not (in_run and is_byte) and self.text(found[::-1]):
                break
            found.append(token)
            in_run = is_byte
        return found[::-1]

    def anchor(self) -> list[int]:
        """A token with a text, which stands for what was before where that is known to be complete."""
        if self._anchor is None:
            count = self._tokenizer.get_vocab_size(with_added_tokens=False)
            self._anchor = next(([token] for token in range(count) if self._is_word(token)), [])
        return self._anchor

    def _is_word(self, token: int) -> bool:
        name = self.name(token)
        return name is not None and self.byte(name) is None and self.text([token]).isalnum()


class TextStream:
    """Decodes a text as its tokens come, behind the tokens `after`.

    A window of tokens is decoded, and a piece is the part of its text that was not returned yet and that no later token
    can change.
    """

    def __init__(self, decoding: Decoding, after: Sequence[int] = ()) -> None:
        self._decoding = decoding
        self._window: list[int] = []
        self._shown = 0  # characters of the window's text that were returned
        self._run = bytearray()  # the run of bytes at the window's end
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")  # tells whether a character is incomplete
        self._settled = 0  # tokens of `after` that are known; this text begins with the others
        if after:
            self._begin_after(after)

    def _begin_after(self, after: Sequence[int]) -> None:
        decoding = self._decoding
        head = len(after)
        for i in range(head - 1, -1, -1):
            name = decoding.name(after[i])
            byte = decoding.byte(name) if name is not None else None
            if byte is not None:
                self._run.append(byte)
                head = i
            elif name is not None:
                break
        self._run.reverse()
        if self._run and _is_utf8(self._run) and decoding.anchor():  # the bytes to come are a run of their own
            self._run.clear()
            self._settled = len(after)
            self._window = list(decoding.anchor())
            self._shown = len(decoding.text(self._window))
            return
        self._settled = head
        self._window = decoding.context(after[:head])
        for token in self._window:
            self._feed(token)
        self._shown = len(decoding.text(self._window)) - self._incomplete()
        self._window += after[head:]

    def before(self, after: Sequence[int]) -> str:
        """The text of `after` for a stream that has just begun behind it, without what this text completes."""
        text = self._decoding.text(after[: self._settled])
        return text[: len(text) - self._incomplete()]

    def push(self, token: int) -> str:
        """The piece that `token` adds to the text; empty while a character or a run of bytes is incomplete."""
        name = self._decoding.name(token)
        if name is None:
            return ""
        self._window.append(token)
        byte = self._decoding.byte(name)
        if byte is not None:
            self._run.append(byte)
            return ""
        self._run.clear()
        self._feed(token)
        text = self._decoding.text(self._window)
        piece = text[self._shown : len(text) - self._incomplete()]
        self._shown += len(piece)
        if len(self._window) >= MAX_WINDOW:
            self._window = self._decoding.context(self._window)
            self._shown = len(self._decoding.text(self._window)) - self._incomplete()
        return piece

    def all(self, tokens: Iterable[int]) -> str:
        """The text of all tokens of a stream that has just begun."""
        return self._decoding.text([*self._window, *tokens])[self._shown :]

    def open(self) -> str:
        """What `finish` would give now, where that is whole characters; a later token may still change it."""
        return self._rest() if self._run and _is_utf8(self._run) else ""

    def finish(self) -> str:
        """The rest, when no more tokens come; an incomplete character shows as the replacement character."""
        rest = self._rest()
        self._shown += len(rest)
        return rest

    def _rest(self) -> str:
        return self._decoding.text(self._window)[self._shown :]

    def _feed(self, token: int) -> None:
        if self._decoding.byte_level:
            self._utf8.decode(self._decoding.bytes(self._decoding.name(token) or ""))

    def _incomplete(self) -> int:
        """Replacement characters at the text's end that stand for the beginning of a character: 0 or 1."""
        return 1 if self._utf8.getstate()[0] else 0


class CleanedStream(TextStream):
    """A text without the spaces that transformers takes out where `clean_up_tokenization_spaces` says so."""

    def __init__(self, decoding: Decoding, after: Sequence[int] = ()) -> None:
        super().__init__(decoding, after)
        self._held = ""

    def push(self, token: int) -> str:
        """The piece that `token` adds, up to the last word: no pattern reaches from it into what was before."""
        self._held += super().push(token)
        end = max((match.end() for match in _WORD_END.finditer(self._held)), default=0)
        piece, self._held = cleaned(self._held[:end]), self._held[end:]
        return piece

    def all(self, tokens: Iterable[int]) -> str:
        return cleaned(super().all(tokens))

    def open(self) -> str:
        return cleaned(self._held + super().open())

    def finish(self) -> str:
        rest, self._held = self._held + super().finish(), ""
        return cleaned(rest)


def cleaned(text: str) -> str:
    """The text without spaces before punctuation and English contractions."""
    for found, instead in _CLEANED:
        text = text.replace(found, instead)
    return text


_CLEANED = [(f" {mark}", mark) for mark in ".?!,"] + [(" ' ", "'")]
_CLEANED += [(f" {mark}", mark) for mark in ("n't", "'m", "'s", "'ve", "'re")]
_WORD_END = re.compile(r"[^ '](?<! n)(?= )")  # "n" may become a part of "n't", whose apostrophe has spaces, too


def _kinds(decoder: dict[str, object]) -> set[str]:
    """The types of a decoder and of those that it consists of."""
    inner = decoder.get("decoders")
    found = {str(decoder.get("type"))}
    return found.union(*map(_kinds, inner)) if isinstance(inner, list) else found


def _is_utf8(data: bytes | bytearray) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _byte_letters() -> dict[str, int]:
    """The letter of each byte in byte-level vocabularies: printable bytes are themselves, others follow from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()
