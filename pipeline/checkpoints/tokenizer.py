"""Text to tokens and back, by the checkpoint's own tokenizer (the `tokenizers` package)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from ..errors import CheckpointError, PromptError
from .text_stream import CleanedStream, Decoding, TextStream

__all__ = ["Tokenizer"]


class Tokenizer:
    """A checkpoint's tokenizer around one of the `tokenizers` package.

    bos_token: the id put first where the tokenizer does not do so itself.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, bos_token: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._decoding = Decoding(tokenizer)
        self._cleans = False
        self.bos_token = bos_token

    @classmethod
    def open(cls, file: Path, bos_token: int | None = None) -> Tokenizer:
        """The tokenizer in `file`, a tokenizer.json. CheckpointError where it is missing or damaged."""
        if not file.is_file():
            raise CheckpointError(f"{file}: not found; copy it from where the checkpoint came from")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(file)), bos_token)
        except Exception as error:  # the package raises plain Exception
            raise CheckpointError(f"{file}: not a tokenizer: {_one_line(error)}; download it again") from error

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
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=not complete).ids
        except UnicodeEncodeError as error:
            where = f"character {error.start + 1}"
            raise PromptError(f"{where} is half a surrogate pair or a byte that is not UTF-8; write UTF-8") from error
        except Exception as error:
            raise PromptError(f"cannot be tokenised: {_one_line(error)}") from error
        if not complete and self.bos_token is not None and ids[:1] != [self.bos_token]:
            ids.insert(0, self.bos_token)
        if not ids:
            raise PromptError("is empty; give at least one token")
        return tuple(ids)

    def decode(self, tokens: Iterable[int], after: Sequence[int] = ()) -> str:
        """The text of `tokens`; special tokens are left out.

        after: the tokens before these. Without them some tokenizers drop the space in front of a text's first word.
        """
        return self.stream(after).all(tokens)

    def decode_prompt(self, tokens: Sequence[int]) -> str:
        """The text of a prompt, without a character at its end that only the next tokens complete: it is theirs."""
        return self.stream(tokens).before

    def stream(self, after: Sequence[int] = ()) -> TextStream:
        """A decoder for one text, token by token; `after` as for decode."""
        return (CleanedStream if self._cleans else TextStream)(self._decoding, after)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
