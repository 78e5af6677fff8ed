"""The prompts that can run: their tokens, and how much may come of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from ..checkpoints.chat import Chat
from ..checkpoints.tokenizer import Tokenizer
from ..errors import CheckpointError, PromptError
from ..models.decoder import Decoder
from .prompt import Prompt
from .settings import MAX_TOKENS, CheckedSettings

__all__ = ["Job", "JobMaker", "is_conversation"]


@dataclass(frozen=True)
class Job:
    """A prompt that will run.

    text         its whole text, for the row
    tokens       the tokens that go through the model
    max_tokens   the most that may be generated
    least_tokens to how many of them memory may lower that: to 1 where nobody named a number
    stop         strings that end the generated text
    answers      whether the generated text answers the prompt; else it continues it
    samples      the numbers of the texts that are still to be made of it
    of           how many texts are made of it in all
    """

    prompt: Prompt
    text: str
    tokens: tuple[int, ...]
    max_tokens: int
    least_tokens: int
    stop: tuple[str, ...] = ()
    answers: bool = False
    samples: tuple[int, ...] = (0,)
    of: int = 1

    def without(self, samples: Set[int]) -> Job:
        """The job without texts that were made before."""
        return replace(self, samples=tuple(sample for sample in self.samples if sample not in samples))

    @property
    def before(self) -> tuple[int, ...]:
        """The tokens whose text the generated one continues."""
        return () if self.answers else self.tokens


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


class JobMaker:
    """Makes jobs of prompts. `context` is the number of positions of a sequence, which may become known later.

    open_chat: opens the checkpoint's templates, which the first conversation needs.
    """

    def __init__(
        self, tokenizer: Tokenizer, model: Decoder, settings: CheckedSettings, open_chat: Callable[[], Chat]
    ) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = model.vocab_size
        self._model_context = model.context
        self._settings = settings
        self._open_chat = open_chat
        self._chat: Chat | None = None
        self.context = settings.context or model.context

    def text(self, prompt: Prompt) -> str:
        """The text that the prompt's row shows. PromptError where its tokens have none."""
        if prompt.text is not None:
            return prompt.text
        tokens = prompt.tokens or ()
        self._check_tokens(tokens)
        return self._tokenizer.decode_prompt(tokens)

    def make(self, prompt: Prompt) -> Job | Prompt:
        """The job; or the prompt with `error`, where it cannot run."""
        if prompt.error is not None:
            return prompt
        try:
            return self._made(prompt)
        except (PromptError, CheckpointError) as error:  # of its conversation, which the template cannot render
            return prompt.failed(str(error))

    def close(self) -> None:
        """Ends the process that renders conversations; another one starts where it is needed again."""
        if self._chat is not None:
            self._chat.close()

    def _made(self, prompt: Prompt) -> Job:
        settings = self._settings
        talks = is_conversation(prompt, settings)
        if talks and self._chat is None:
            self._chat = self._open_chat()
        tokens = _tokens(prompt, self._tokenizer, settings, self._chat)
        self._check_tokens(tokens)
        biases = prompt.settings.get("logit_bias", settings.logit_bias)
        outside = next((token for token in biases if token >= self._vocab_size), None)
        if outside is not None:
            raise PromptError(
                f"logit_bias of token {outside}, which is not in the vocabulary; ids are below {self._vocab_size:,}"
            )
        room = self.context - len(tokens)
        if room < 1:
            raise PromptError(self._too_many(len(tokens), room))
        stop = (*(settings.stop if prompt.stop is None else prompt.stop), *self._tokenizer.end_texts)
        named = prompt.settings.get("max_tokens", settings.max_tokens)
        count = prompt.samples or settings.n
        return Job(
            prompt,
            self.text(prompt),
            tokens,
            min(named or MAX_TOKENS, room),
            min(named or 1, room),
            stop,
            talks and not prompt.continues,
            tuple(range(count)),
            count,
        )

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        outside = next((token for token in tokens if token >= self._vocab_size), None)
        if outside is not None:
            raise PromptError(f"token {outside} is not in the vocabulary; ids are below {self._vocab_size:,}")

    def _too_many(self, count: int, room: int) -> str:
        if self._settings.context is None and self.context < self._model_context:
            fitting = f"; give --context {count + 1} or more" if count < self._model_context else ""
            return f"{count:,} tokens are too many for the {self.context:,} positions that this run has{fitting}"
        whose = "a" if self._settings.context else "the model's"
        return (
            f"{count:,} tokens are too many for {whose} context of {self.context:,}; shorten it by {1 - room:,} or more"
        )
