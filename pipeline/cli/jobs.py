"""The prompts that can run: their tokens, and how much may come of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints.chat import Chat
from ..checkpoints.tokenizer import Tokenizer
from ..errors import CheckpointError, PromptError, UsageError
from ..models.decoder import Decoder
from .prompts import Prompt, refuse_if_all_failed
from .resuming import KeptRow
from .settings import MAX_TOKENS, CheckedSettings

__all__ = ["Job", "is_conversation", "make_jobs", "unfinished"]


@dataclass(frozen=True)
class Job:
    """A prompt that will run.

    text         its whole text, for the row
    tokens       the tokens that go through the model
    max_tokens   the most that may be generated
    least_tokens to how many of them memory may lower that: to 1 where nobody named a number
    stop         strings that end the generated text
    answers      whether the generated text answers the prompt; else it continues it
    """

    prompt: Prompt
    text: str
    tokens: tuple[int, ...]
    max_tokens: int
    least_tokens: int
    stop: tuple[str, ...] = ()
    answers: bool = False

    @property
    def before(self) -> tuple[int, ...]:
        """The tokens whose text the generated one continues."""
        return () if self.answers else self.tokens


def make_jobs(
    prompts: list[Prompt], tokenizer: Tokenizer, model: Decoder, settings: CheckedSettings, chat: Chat | None = None
) -> tuple[list[Job], list[Prompt]]:
    """The prompts that can run, and those that cannot, with `error`. PromptError where none can.

    chat: the checkpoint's templates, where there are conversations among the prompts.
    """
    checked = [_make_job(prompt, tokenizer, model, settings, chat) for prompt in prompts]
    failed = [item for item in checked if isinstance(item, Prompt)]
    if len(failed) == len(prompts):
        refuse_if_all_failed(failed)
    return [item for item in checked if isinstance(item, Job)], failed


def is_conversation(prompt: Prompt, settings: CheckedSettings) -> bool:
    """Whether a prompt goes through the chat template."""
    return prompt.error is None and (prompt.messages is not None or (settings.chat and prompt.tokens is None))


def _tokens(prompt: Prompt, tokenizer: Tokenizer, settings: CheckedSettings, chat: Chat | None) -> tuple[int, ...]:
    if prompt.tokens is not None and not prompt.chat:
        return prompt.tokens
    if not is_conversation(prompt, settings):
        if prompt.chat:
            raise PromptError(f"{' and '.join(prompt.chat)}: only for conversations; give messages, or --chat")
        return tokenizer.encode(prompt.text or "")
    if chat is None:
        raise PromptError("is a conversation, for which no chat template was opened")
    messages = prompt.messages or ({"role": "user", "content": prompt.text},)
    if settings.system is not None and messages[0]["role"] not in ("system", "developer"):
        messages = ({"role": "system", "content": settings.system}, *messages)
    variables = dict(prompt.chat)
    variables = variables.pop("chat_template_kwargs", {}) | variables
    return tokenizer.encode(_rendered(chat, messages, variables), complete=True)


def _rendered(chat: Chat, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
    """The conversation's text. Some templates tell a call of tools by its lack of content; others fail on it, and get
    an empty one."""
    try:
        return chat.render(messages, **variables)
    except CheckpointError:
        if all(message.get("content") is not None for message in messages):
            raise
        filled = [message if message.get("content") is not None else {**message, "content": ""} for message in messages]
        return chat.render(filled, **variables)


def _make_job(
    prompt: Prompt, tokenizer: Tokenizer, model: Decoder, settings: CheckedSettings, chat: Chat | None
) -> Job | Prompt:
    if prompt.error is not None:
        return prompt
    try:
        tokens = _tokens(prompt, tokenizer, settings, chat)
    except (PromptError, CheckpointError) as error:  # of its conversation, which the template cannot render
        return prompt.failed(str(error))
    outside = next((token for token in tokens if token >= model.vocab_size), None)
    if outside is not None:
        return prompt.failed(f"token {outside} is not in the vocabulary; ids are below {model.vocab_size:,}")
    biases = prompt.settings.get("logit_bias", settings.logit_bias)
    outside = next((token for token in biases if token >= model.vocab_size), None)
    if outside is not None:
        return prompt.failed(
            f"logit_bias of token {outside}, which is not in the vocabulary; ids are below {model.vocab_size:,}"
        )
    context = settings.context or model.context
    room = context - len(tokens)
    if room < 1:
        whose = "a" if settings.context else "the model's"
        return prompt.failed(
            f"{len(tokens):,} tokens are too many for {whose} context of {context:,}; "
            f"shorten it by {1 - room:,} or more"
        )
    text = prompt.text if prompt.text is not None else tokenizer.decode_prompt(tokens)
    stop = (*(settings.stop if prompt.stop is None else prompt.stop), *tokenizer.end_texts)
    named = prompt.settings.get("max_tokens", settings.max_tokens)
    answers = is_conversation(prompt, settings) and not prompt.continues
    return Job(prompt, text, tokens, min(named or MAX_TOKENS, room), min(named or 1, room), stop, answers)


def unfinished(jobs: Iterable[Job], rows: Iterable[KeptRow], path: Path) -> list[Job]:
    """The jobs that have no row yet. UsageError where a row belongs to another prompt than the one at its index."""
    done = {row.index: row for row in rows}
    left = []
    for job in jobs:
        row = done.pop(job.prompt.index, None)
        if row is None:
            left.append(job)
        elif (row.id, row.prompt) != (job.prompt.id, job.text):
            raise _other_prompts(row, path)
    for row in done.values():
        raise _other_prompts(row, path)
    return left


def _other_prompts(row: KeptRow, path: Path) -> UsageError:
    return UsageError(
        f"--resume: the row with index {row.index} in {path} is of another prompt; give the same prompts as in the "
        "earlier run, or another file to --out"
    )
