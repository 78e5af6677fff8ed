"""Rows in the dialect of OpenAI's batch output: {"id", "custom_id", "response", "error"}."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..checkpoints.tokenizer import Tokenizer
from ..generation.requests import Finished
from .choices import Choices, usage
from .jobs import Job
from .prompt import Prompt
from .rows import ASKED, REQUEST, Row

__all__ = ["BatchRows"]

OK = 200
BAD_REQUEST, FAILED = "invalid_request", "generation_failed"


class BatchRows:
    """Makes rows of the texts of one model."""

    def __init__(self, model: str, tokenizer: Tokenizer) -> None:
        self._model = model
        self._choices = Choices(tokenizer)

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
            "choices": [self._choices.choice(job, index, end) for index, end in enumerate(ends)],
            "usage": usage(len(job.tokens), made),
        }
        response = {"status_code": OK, "request_id": f"{ASKED}{wanted.digest}", "body": body}
        return {"id": f"{REQUEST}{prompt.index}", "custom_id": prompt.id, "response": response, "error": None}
