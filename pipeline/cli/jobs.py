"""The prompts that can run: their tokens, and how much may come of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from ..checkpoints.chat import Chat
from ..checkpoints.tokenizer import Tokenizer
from ..errors import CheckpointError, PromptError
from ..generation.grammar import Grammar
from ..generation.scoring import Window, windows
from ..language.conversations import rendered
from ..language.grammars import Grammars
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
    scored       whether its row has the log-probabilities of its tokens
    grammar      what its texts must be
    windows      where nothing is made of it but its perplexity, the windows in which it goes through, one per sample
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
    scored: bool = False
    windows: tuple[Window, ...] = ()
    grammar: Grammar | None = None

    def without(self, samples: Set[int]) -> Job:
        """The job without texts that were made before."""
        return replace(self, samples=tuple(sample for sample in self.samples if sample not in samples))

    @property
    def before(self) -> tuple[int, ...]:
        """The tokens whose text the generated one continues."""
        return () if self.answers else self.tokens

    @property
    def positions(self) -> int:
        """The most positions that a text of it may reach."""
        if self.windows:
            return max(window.end - window.begin for window in self.windows)
        return len(self.tokens) + self.max_tokens

    @property
    def through(self) -> int:
        """The tokens that go through the model for it, without those that are made."""
        if self.windows:
            return sum(window.end - window.begin for window in self.windows)
        return len(self.tokens) * len(self.samples)

    @property
    def least_positions(self) -> int:
        """To how many of them memory may lower that."""
        return self.positions if self.windows else len(self.tokens) + self.least_tokens


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
    return tokenizer.encode(rendered(chat, messages, variables), complete=True)


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
        self._model = model
        self.context = settings.context or model.context

    @functools.cached_property
    def _grammars(self) -> Grammars:
        return Grammars(self._tokenizer, self._vocab_size, self._model.end_tokens)

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
        except (PromptError, CheckpointError) as error:  # such as one of a template that cannot render it
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
        if settings.evaluates:
            return self._evaluated(prompt, tokens)
        biases = prompt.settings.get("logit_bias", settings.logit_bias)
        outside = next((token for token in biases if token >= self._vocab_size), None)
        if outside is not None:
            raise PromptError(
                f"logit_bias of token {outside}, which is not in the vocabulary; ids are below {self._vocab_size:,}"
            )
        stop = (*(settings.stop if prompt.stop is None else prompt.stop), *self._tokenizer.end_texts)
        named = prompt.settings.get("max_tokens", settings.max_tokens)
        scored = prompt.settings.get("prompt_logprobs", settings.prompt_logprobs) is not None
        if named == 0 and not scored:
            raise PromptError("max_tokens 0: impossible without log-probabilities of the prompt; give at least 1")
        room, least = self.context - len(tokens), 1 if named is None else min(named, 1)
        if room < least:
            raise PromptError(self._too_many(len(tokens), room, least))
        count = prompt.samples or settings.n
        return Job(
            prompt,
            self.text(prompt),
            tokens,
            min(MAX_TOKENS if named is None else named, room),
            min(1 if named is None else named, room),
            stop,
            talks and not prompt.continues,
            tuple(range(count)),
            count,
            scored,
            grammar=None if prompt.guide is None else self._grammars.compiled(*prompt.guide),
        )

    def _evaluated(self, prompt: Prompt, tokens: tuple[int, ...]) -> Job:
        if prompt.wanted is not None:
            raise PromptError("is a request of OpenAI's batch files; --eval takes texts")
        if self._settings.text is not None and len(tokens) < 2:
            raise PromptError(f"a text of {len(tokens)} tokens has no perplexity; give at least 2")
        stride = self._settings.stride or self.context
        parts = tuple(windows(len(tokens), self.context, stride)) or (Window(0, 1, 1),)
        return Job(prompt, self.text(prompt), tokens, 0, 0, samples=tuple(range(len(parts))), windows=parts)

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        outside = next((token for token in tokens if token >= self._vocab_size), None)
        if outside is not None:
            raise PromptError(f"token {outside} is not in the vocabulary; ids are below {self._vocab_size:,}")

    def _too_many(self, count: int, room: int, least: int) -> str:
        if self._settings.context is None and self.context < self._model_context:
            fits = count + least <= self._model_context
            fitting = f"; give --context {count + least} or more" if fits else ""
            return f"{count:,} tokens are too many for the {self.context:,} positions that this run has{fitting}"
        whose = "a" if self._settings.context else "the model's"
        more = f"shorten it by {least - room:,} or more"
        return f"{count:,} tokens are too many for {whose} context of {self.context:,}; {more}"
