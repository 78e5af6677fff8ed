"""Text to tokens and back, by the checkpoint's own tokenizer (the `tokenizers` package)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import tokenizers

from ..errors import CheckpointError, PromptError
from ..printing import one_line
from .files import read_file
from .panics import panics_become

__all__ = ["TextStream", "Tokenizer"]

MOST_TOKENIZER_BYTES = 1 << 29  # of tokenizer.json: published ones have a tenth of it

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# An incomplete character has at most 3 bytes, and a decoder shows them as at most one replacement character each.
MAX_HELD = 3

# Tokens after which a window is closed although it ends in replacement characters: the bytes were never text.
MAX_WINDOW = 64

# Tokens before a text that its first ones may depend on: a character of four bytes, one token each.
CONTEXT = 4


class Tokenizer:
    """A checkpoint's tokenizer around one of the `tokenizers` package.

    bos_token: the id put first where the tokenizer does not do so itself.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, bos_token: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.bos_token = bos_token

    @classmethod
    def open(cls, file: Path, bos_token: int | None = None) -> Tokenizer:
        """The tokenizer in `file`, a tokenizer.json. CheckpointError where it is missing or damaged."""

        def bad(what: str) -> CheckpointError:
            return CheckpointError(f"{file}: not a tokenizer: {what}; download it again")

        try:
            content = read_file(file, MOST_TOKENIZER_BYTES)
        except FileNotFoundError:
            raise CheckpointError(f"{file}: not found; copy it from where the checkpoint came from") from None
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
        try:
            with panics_become(bad, silent=True):
                return cls(tokenizers.Tokenizer.from_buffer(content), bos_token)
        except CheckpointError:
            raise
        except Exception as error:  # the package raises plain Exception
            raise bad(one_line(str(error))) from error

    @property
    def vocab_size(self) -> int:
        """Tokens that the tokenizer knows, added ones too."""
        count: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return count

    def encode(self, text: str, *, complete: bool = False) -> tuple[int, ...]:
        """The tokens of a prompt, the beginning token first. PromptError where there is nothing to encode.

        complete: the text has its special tokens, as a chat template's text has, and gets no others.
        """
        try:
            text.encode()
            with panics_become(lambda what: PromptError(f"cannot be tokenised: {what}"), silent=True):
                ids: list[int] = self._tokenizer.encode(text, add_special_tokens=not complete).ids
        except PromptError:
            raise
        except UnicodeEncodeError as error:
            where = f"character {error.start + 1}"
            raise PromptError(f"{where} is half a surrogate pair or a byte that is not UTF-8; write UTF-8") from error
        except Exception as error:
            raise PromptError(f"cannot be tokenised: {one_line(str(error))}") from error
        if not complete and self.bos_token is not None and ids[:1] != [self.bos_token]:
            ids.insert(0, self.bos_token)
        if not ids:
            raise PromptError("is empty; give at least one token")
        return tuple(ids)

    def decode(self, tokens: Iterable[int], after: Sequence[int] = ()) -> str:
        """The text of `tokens`; special tokens are left out.

        after: the tokens before these. Without them some tokenizers drop the space in front of a text's first word.
        """
        before = list(after[-CONTEXT:])
        with panics_become(lambda what: CheckpointError(f"the tokenizer cannot show tokens as text: {what}")):
            text: str = self._tokenizer.decode([*before, *tokens], skip_special_tokens=True)
        return text[len(self.decode(before)) :] if before else text

    def stream(self, after: Sequence[int] = ()) -> TextStream:
        """A decoder for one text, token by token; `after` as for decode."""
        return TextStream(self.decode, after)


class TextStream:
    """Decodes a text as its tokens come; the pieces joined are the text of all tokens.

    A token may end in the middle of a UTF-8 character, and its text may depend on the token before it. So a window of
    tokens is decoded, a piece is the part of its text that was not returned yet, and replacement characters at its end
    are held back until the next tokens tell whether they were the start of a character.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], after: Sequence[int] = ()) -> None:
        self._decode = decode
        self._window: list[int] = list(after[-CONTEXT:])
        self._context = len(self._window)  # tokens at the window's front that only serve as context
        self._shown = len(decode(self._window)) if after else 0  # characters of the window's text that were returned

    def push(self, token: int) -> str:
        """The piece that `token` adds to the text; empty while a character is incomplete."""
        self._window.append(token)
        text = self._decode(self._window)
        held = 0
        while held < MAX_HELD and text.endswith(REPLACEMENT, 0, len(text) - held):
            held += 1
        if not held or len(self._window) >= MAX_WINDOW:
            return self._advance(text)
        piece = text[self._shown : len(text) - held]
        self._shown += len(piece)
        return piece

    def finish(self) -> str:
        """The rest, when no more tokens come; an incomplete character shows as the replacement character."""
        return self._advance(self._decode(self._window))

    def _advance(self, text: str) -> str:
        """Returns the rest of the window's text; its newest tokens become the context of the next window."""
        piece = text[self._shown :]
        del self._window[: self._context]
        self._context = len(self._window)
        self._shown = len(self._decode(self._window))
        return piece
