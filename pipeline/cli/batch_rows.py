"""Rows in the dialect of OpenAI's batch output: {"id", "custom_id", "response", "error"}."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from ..checkpoints.tokenizer import Tokenizer
from ..generation.requests import Finished
from ..generation.stopping import cut
from .jobs import Job
from .prompt import Prompt
from .rows import ASKED, REQUEST, Row, number

__all__ = ["BatchRows"]

OK = 200
BAD_REQUEST, FAILED = "invalid_request", "generation_failed"


class BatchRows:
    """Makes rows of the texts of one model."""

    def __init__(self, model: str, tokenizer: Tokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer

    def failed(self, prompt: Prompt, error: str, while_running: bool = False) -> Row:
        """The row of a request that has no answer."""
        name = prompt.id if isinstance(prompt.id, str) else None
        problem = {"code": FAILED if while_running else BAD_REQUEST, "message": error}
        return {"id": f"{REQUEST}{prompt.index}", "custom_id": name, "response": None, "error": problem}

    def finished(self, job: Job, ends: Sequence[Finished]) -> Row:
        """The row of a request whose texts are all there."""
        prompt, wanted = job.prompt, job.prompt.wanted
        assert wanted is not None  # only such prompts have rows of this dialect
        made = sum(len(end.tokens) for end in ends)
        body = {
            "id": f"{'chatcmpl' if wanted.chat else 'cmpl'}-{wanted.digest}",
            "object": "chat.completion" if wanted.chat else "text_completion",
            "created": int(time.time()),
            "model": self._model,
            "choices": [self._choice(job, index, end) for index, end in enumerate(ends)],
            "usage": {
                "prompt_tokens": len(job.tokens),
                "completion_tokens": made,
                "total_tokens": len(job.tokens) + made,
            },
        }
        response = {"status_code": OK, "request_id": f"{ASKED}{wanted.digest}", "body": body}
        return {"id": f"{REQUEST}{prompt.index}", "custom_id": prompt.id, "response": response, "error": None}

    def _choice(self, job: Job, index: int, end: Finished) -> dict[str, Any]:
        wanted = job.prompt.wanted
        text = cut(self._tokenizer.decode(end.tokens, job.before), job.stop)
        if wanted is not None and wanted.echo:
            text = job.text + text
        if wanted is not None and wanted.chat:
            logprobs = {"content": self._of_chat(job, end), "refusal": None} if wanted.logprobs else None
            message = {"role": "assistant", "content": text, "refusal": None}
            return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": end.reason}
        values = self._of_completion(job, end) if wanted is not None and wanted.logprobs else None
        return {"index": index, "text": text, "logprobs": values, "finish_reason": end.reason}

    def _of_chat(self, job: Job, end: Finished) -> list[dict[str, Any]]:
        tops = end.top or [()] * len(end.tokens)
        found = []
        for piece, value, top in zip(self._pieces(job, end), end.logprobs, tops):
            likely = [_token(self._name(token), logprob) for token, logprob in top]
            found.append(_token(piece, value) | {"top_logprobs": likely})
        return found

    def _of_completion(self, job: Job, end: Finished) -> dict[str, Any]:
        pieces, place = self._pieces(job, end), 0
        values, most = list(end.logprobs), list(end.top)
        if job.prompt.wanted is not None and job.prompt.wanted.echo:
            stream = self._tokenizer.stream()
            pieces = [*(stream.push(token) for token in job.tokens), *pieces]
            values = [math.nan, *end.prompt_logprobs, *values]  # nothing precedes the first token
            most = [(), *end.prompt_top, *most] if most or end.prompt_top else []
        offsets = []
        for piece in pieces:
            offsets.append(place)
            place += len(piece)
        tops = [{self._name(token): number(value) for token, value in top} or None for top in most]
        return {
            "tokens": pieces,
            "token_logprobs": [number(value) for value in values],
            "top_logprobs": tops or None,
            "text_offset": offsets,
        }

    def _pieces(self, job: Job, end: Finished) -> list[str]:
        """The text that each token adds. A character of several tokens is whole with its last one."""
        stream = self._tokenizer.stream(job.before)
        return [stream.push(token) for token in end.tokens]

    def _name(self, token: int) -> str:
        """A token's text by itself."""
        return self._tokenizer.decode([token], (token,))


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": number(logprob), "bytes": list(text.encode("utf-8", "surrogatepass"))}
