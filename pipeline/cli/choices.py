"""The choices of an answer in OpenAI's interface: texts, why they end, and log-probabilities in both of its forms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..checkpoints.tokenizer import Tokenizer
from ..generation.requests import Finished, Top
from ..generation.stopping import cut
from .jobs import Job
from .rows import number

__all__ = ["Choices", "usage"]


def usage(prompt: int, made: int) -> dict[str, int]:
    """The tokens that a request took."""
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


class Choices:
    """Makes choices of the texts of one model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def choice(self, job: Job, index: int, end: Finished) -> dict[str, Any]:
        """That of one text which has ended."""
        wanted = job.prompt.wanted
        assert wanted is not None  # only such prompts have choices
        text = self.text(job, end)
        if wanted.chat:
            logprobs = None
            if wanted.logprobs:
                logprobs = self.chat_logprobs(self._pieces(job, end), end.tokens, end.logprobs, end.top)
            message = {"role": "assistant", "content": text, "refusal": None}
            return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": end.reason}
        values = self._of_completion(job, end) if wanted.logprobs else None
        return {"index": index, "text": text, "logprobs": values, "finish_reason": end.reason}

    def text(self, job: Job, end: Finished) -> str:
        """A text as its client gets it, without a stop string, and behind the prompt where that is wanted."""
        text = cut(self._tokenizer.decode(end.tokens, job.before), job.stop)
        return job.text + text if job.prompt.wanted is not None and job.prompt.wanted.echo else text

    def chat_logprobs(
        self, pieces: Iterable[str], tokens: Sequence[int], values: Iterable[float], tops: Sequence[Top]
    ) -> dict[str, Any]:
        """Log-probabilities of tokens and of the most probable others, as chats have them. pieces: the text that each
        token adds."""
        found = []
        for piece, value, top in zip(pieces, values, tops or [()] * len(tokens)):
            likely = [_token(self._name(token), logprob) for token, logprob in top]
            found.append(_token(piece, value) | {"top_logprobs": likely})
        return {"content": found, "refusal": None}

    def completion_logprobs(
        self, pieces: Sequence[str], values: Sequence[float], tops: Sequence[Top], place: int = 0
    ) -> dict[str, Any]:
        """The same as completions have them. place: where in the text the first piece begins."""
        offsets = []
        for piece in pieces:
            offsets.append(place)
            place += len(piece)
        most = [{self._name(token): number(value) for token, value in top} or None for top in tops]
        return {
            "tokens": list(pieces),
            "token_logprobs": [number(value) for value in values],
            "top_logprobs": most or None,
            "text_offset": offsets,
        }

    def prompt_logprobs(self, job: Job, end: Finished) -> tuple[list[str], list[float], list[Top]]:
        """Pieces, values and most probable tokens of a prompt that the text begins with; nothing precedes its first
        token."""
        stream = self._tokenizer.stream()
        pieces = [stream.push(token) for token in job.tokens]
        return pieces, [math.nan, *end.prompt_logprobs], [(), *end.prompt_top] if end.prompt_top else []

    def _of_completion(self, job: Job, end: Finished) -> dict[str, Any]:
        pieces, values, tops = self._pieces(job, end), list(end.logprobs), list(end.top)
        if job.prompt.wanted is not None and job.prompt.wanted.echo:
            before, scores, most = self.prompt_logprobs(job, end)
            tops = [*(most or [()]), *tops] if most or tops else []
            pieces, values = before + pieces, scores + values
        return self.completion_logprobs(pieces, values, tops)

    def _pieces(self, job: Job, end: Finished) -> list[str]:
        """The text that each token adds. A character of several tokens is whole with its last one."""
        stream = self._tokenizer.stream(job.before)
        return [stream.push(token) for token in end.tokens]

    def _name(self, token: int) -> str:
        """A token's text by itself."""
        return self._tokenizer.decode([token], (token,))


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": number(logprob), "bytes": list(text.encode("utf-8", "surrogatepass"))}
