"""Text to tokens and back, by the checkpoint's own tokenizer (the `tokenizers` package)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from ..errors import CheckpointError, PromptError
from ..printing import one_line
from .files import read_file
from .panics import panics_become
from .text_stream import CleanedStream, Decoding, TextStream

__all__ = ["Tokenizer", "read_tokenizer"]

MOST_TOKENIZER_BYTES = 1 << 29  # of tokenizer.json: published ones have a tenth of it


class Tokenizer:
    """A checkpoint's tokenizer around one of the `tokenizers` package.

    end_tokens   the ids that end a text
    end_texts    texts that end a text, too: ends that the vocabulary has no token for
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        bos_token: int | None = None,
        eos_token: int | None = None,
        *,
        clean_up: bool = False,
    ) -> None:
        """bos_token, eos_token: ids that come first and last in a prompt besides those that the tokenizer adds itself.
        clean_up: whether decoding takes the spaces before punctuation out, as transformers does for some tokenizers."""
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._decoding = Decoding(tokenizer)
        self._stream = CleanedStream if clean_up else TextStream
        self._first = () if bos_token is None else (bos_token,)
        self._last = () if eos_token is None else (eos_token,)
        self.end_tokens: tuple[int, ...] = ()
        self.end_texts: tuple[str, ...] = ()

    @classmethod
    def open(cls, file: Path, bos_token: int | None = None) -> Tokenizer:
        """The tokenizer in `file`, a tokenizer.json. CheckpointError where it is missing or damaged."""
        return cls(read_tokenizer(file), bos_token)

    def set_ends(self, tokens: Iterable[int], texts: Iterable[str]) -> None:
        """Says what ends a text: tokens by their ids or their texts. The text of such a token is never shown, unless it
        is an ordinary word that a configuration names by its id."""
        named = list(dict.fromkeys(tokens))
        added = self._tokenizer.get_added_tokens_decoder()
        ids = {text: self._tokenizer.token_to_id(text) for text in sorted(texts)}
        found = [token for token in ids.values() if token is not None]
        self._decoding.hide([*found, *(token for token in named if token in added)])
        self.end_tokens = tuple(dict.fromkeys([*named, *found]))
        self.end_texts = tuple(text for text, token in ids.items() if token is None)

    def knows(self, text: str) -> bool:
        """Whether a token has this text."""
        return self.id_of(text) is not None

    def id_of(self, text: str) -> int | None:
        """The token that has this text; None where there is none."""
        found: int | None = self._tokenizer.token_to_id(text)
        return found

    def to_json(self) -> str:
        """The tokenizer as the text of a tokenizer.json."""
        text: str = self._tokenizer.to_str()
        return text

    def is_special(self, token: int) -> bool:
        """Whether decoding leaves the token out."""
        return self._tokenizer.id_to_token(token) is not None and self._decoding.name(token) is None

    @property
    def vocab_size(self) -> int:
        """Tokens that the tokenizer knows, added ones too."""
        count: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return count

    @property
    def begins_with(self) -> int | None:
        """The id that a prompt begins with, whatever its text is; None where there is none."""
        if self._first:
            return self._first[0]
        with panics_become(lambda what: CheckpointError(f"the tokenizer cannot encode a letter: {what}"), silent=True):
            ids, own = (self._tokenizer.encode("a", add_special_tokens=add).ids for add in (True, False))
        added = len(ids) > len(own) and ids[1 : 1 + len(own)] == own and ids[: len(own)] != own
        return ids[0] if added else None

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
        if not complete:
            ids = [*self._first, *ids, *self._last]
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
        return self.stream(tokens).before(tokens)

    def stream(self, after: Sequence[int] = ()) -> TextStream:
        """A decoder for one text, token by token; `after` as for decode."""
        return self._stream(self._decoding, after)


def read_tokenizer(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer in `file`, a tokenizer.json, as it is. CheckpointError where it is missing or damaged."""

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
            return tokenizers.Tokenizer.from_buffer(content)
    except CheckpointError:
        raise
    except Exception as error:  # the package raises plain Exception
        raise bad(one_line(str(error))) from error
