"""A model that takes texts and gives texts: the shortest way from a checkpoint to what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, overload

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.tokenizer import Tokenizer
from ..generation.driver import Driver
from ..generation.requests import Finished, Request
from ..generation.scheduler import Scheduler
from ..generation.scoring import Score, score_request
from .asking import Asked, Work, ask
from .grammars import Grammars
from .prompts import Begin, Messages, Prompt, begin_of, conversation, is_several
from .streams import AsyncStream, Stream
from .texts import Growing, Text

__all__ = ["LanguageModel"]

NOTHING: Mapping[str, Any] = MappingProxyType({})


class LanguageModel:
    """A loaded checkpoint with its tokenizer, made by `pipeline.load`. It is a context manager.

    Prompts are texts, lists of token ids, or conversations (lists of messages); a list of prompts gives a list of
    texts, which are generated together. Settings are those of `pipeline.generation.Sampling` and:

    max_tokens   the most that are generated (512; the context is a limit, too)
    temperature  0 chooses the most probable token (the default), above 0 samples
    seed         of sampling (default: random)
    stop         a string, or several, at which a text ends
    json_schema, regex, choice, grammar   what the text must be: one of a schema, an expression, a list of texts, and a
                 grammar in Lark's form or in GBNF; the package llguidance is needed

    Threads: everything is for any thread and any event loop at the same time. The texts of all callers share the steps
    of one scheduler, and no text depends on the others. Methods that begin with `a` are for `await` and `async for`.
    """

    def __init__(self, checkpoint: Checkpoint, scheduler: Scheduler) -> None:
        self.checkpoint = checkpoint
        self.tokenizer: Tokenizer = checkpoint.tokenizer()
        self.driver = Driver(scheduler)
        self._chat = checkpoint.chat()
        self._grammars = Grammars(self.tokenizer, scheduler.model.vocab_size, scheduler.model.end_tokens)

    @property
    def context(self) -> int:
        """Positions that a prompt and its text may reach together."""
        return self.driver.scheduler.context

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the texts that run, and gives back what the model holds."""
        self.driver.close()
        self._chat.close()
        self.checkpoint.close()

    # Texts

    @overload
    def generate(self, prompt: str | Sequence[int] | Messages, **settings: Any) -> Text: ...
    @overload
    def generate(self, prompt: Sequence[Prompt], **settings: Any) -> list[Text]: ...
    def generate(self, prompt: Any, **settings: Any) -> Text | list[Text]:
        """The text that continues a prompt, or the answer to a conversation; of a list of prompts, a list of them."""
        work = self._work([self._asked(*each, settings) for each in self._begins(prompt)])
        texts = [asked.text(self.tokenizer, end) for asked, end in zip(work.asked, work.wait())]
        return texts if is_several(prompt) else texts[0]

    async def agenerate(self, prompt: Any, **settings: Any) -> Any:
        begins = await asyncio.to_thread(self._begins, prompt)
        work = self._work([self._asked(*each, settings) for each in begins])
        texts = [asked.text(self.tokenizer, end) for asked, end in zip(work.asked, await work.done())]
        return texts if is_several(prompt) else texts[0]

    def stream(self, prompt: str | Sequence[int] | Messages, **settings: Any) -> Stream:
        """The same text piece by piece, as it is made. The iterator's `result` is the whole when it has ended."""
        asked = self._asked(0, self._begin(prompt), settings)
        return Stream(self.driver, asked.request, asked.growing(self.tokenizer))

    def astream(self, prompt: str | Sequence[int] | Messages, **settings: Any) -> AsyncStream:
        def start() -> tuple[Request, Growing]:
            asked = self._asked(0, self._begin(prompt), settings)
            return asked.request, asked.growing(self.tokenizer)

        return AsyncStream(self.driver, start)

    def chat(self, messages: str | Messages, *, template: Mapping[str, Any] = NOTHING, **settings: Any) -> Text:
        """The answer to a conversation, or to one message of the user.

        template: what the chat template may ask for besides messages, such as `tools` or `enable_thinking`."""
        work = self._work([self._asked(0, self._begin(conversation(messages), template), settings)])
        return work.asked[0].text(self.tokenizer, work.wait()[0])

    async def achat(self, messages: str | Messages, *, template: Mapping[str, Any] = NOTHING, **settings: Any) -> Text:
        begin = await asyncio.to_thread(self._begin, conversation(messages), template)
        work = self._work([self._asked(0, begin, settings)])
        return work.asked[0].text(self.tokenizer, (await work.done())[0])

    def score(self, text: Any, *, top: int = 0) -> Any:
        """The `pipeline.generation.Score` of a text or of tokens: the log-probabilities that the model gives
        them. A list of texts gives a list. top: how many of the most probable tokens come with each place."""
        return self._scores(text, self._scoring(text, top).wait())

    async def ascore(self, text: Any, *, top: int = 0) -> Any:
        return self._scores(text, await self._scoring(text, top).done())

    # What they share

    def _begins(self, prompt: Any) -> list[tuple[int, Begin]]:
        return list(enumerate(map(self._begin, prompt if is_several(prompt) else [prompt])))

    def _begin(self, prompt: Any, template: Mapping[str, Any] = NOTHING) -> Begin:
        return begin_of(prompt, self.tokenizer, self._chat, template, self.driver.scheduler.model.vocab_size)

    def _asked(self, number: int, begin: Begin, settings: Mapping[str, Any]) -> Asked:
        return ask(begin, self.tokenizer, number, self._grammars, settings)

    def _scoring(self, text: Any, top: int) -> Work:
        begins = [begin for _, begin in self._begins(text)]
        return self._work([Asked(score_request(0, begin.tokens, 1, top), begin) for begin in begins])

    @staticmethod
    def _scores(text: Any, ends: Sequence[Finished]) -> Score | list[Score]:
        scores = [Score(end.prompt_logprobs, end.prompt_top) for end in ends]
        return scores if is_several(text) else scores[0]

    def _work(self, asked: list[Asked]) -> Work:
        return Work(self.driver, asked)
