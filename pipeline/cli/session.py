"""One run's prompts on their way through the generator: tokens in, rows and text out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..checkpoints.chat import Chat
from ..checkpoints.tokenizer import Tokenizer
from ..errors import PromptError
from ..generation.requests import Failed, Finished, Prefilled, Request, Token
from ..generation.stopping import StopText, cut, watch
from ..models.decoder import Decoder
from .display import Display
from .prompts import Prompt, refuse_if_all_failed
from .rows import InOrder, Row, RowWriter, failed_row, finished_row
from .settings import CheckedSettings, row_seed

__all__ = ["Job", "Session", "is_conversation", "make_jobs"]


@dataclass(frozen=True)
class Job:
    """A prompt that will run.

    text         its whole text, for the row
    tokens       the tokens that go through the model
    max_tokens   the most that may be generated
    stop         strings that end the generated text
    answers      whether the generated text answers the prompt; else it continues it
    """

    prompt: Prompt
    text: str
    tokens: tuple[int, ...]
    max_tokens: int
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
    if prompt.tokens is not None:
        return prompt.tokens
    if not is_conversation(prompt, settings):
        return tokenizer.encode(prompt.text or "")
    if chat is None:
        raise PromptError("is a conversation, for which no chat template was opened")
    messages = prompt.messages or ({"role": "user", "content": prompt.text},)
    if settings.system is not None and messages[0]["role"] != "system":
        messages = ({"role": "system", "content": settings.system}, *messages)
    return tokenizer.encode(chat.render(messages), complete=True)


def _make_job(
    prompt: Prompt, tokenizer: Tokenizer, model: Decoder, settings: CheckedSettings, chat: Chat | None
) -> Job | Prompt:
    if prompt.error is not None:
        return prompt
    try:
        tokens = _tokens(prompt, tokenizer, settings, chat)
    except PromptError as error:
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
    room = model.context - len(tokens)
    if room < 1:
        return prompt.failed(
            f"{len(tokens):,} tokens are too many for the model's context of {model.context:,}; "
            f"shorten it by {1 - room:,} or more"
        )
    text = prompt.text if prompt.text is not None else tokenizer.decode_prompt(tokens)
    stop = (*(settings.stop if prompt.stop is None else prompt.stop), *tokenizer.end_texts)
    return Job(prompt, text, tokens, min(settings.max_tokens, room), stop, is_conversation(prompt, settings))


class Session:
    """Takes the generator's events and gives rows to `writer` (None: no rows) and to the display.

    `streams`: there is one prompt, whose text is shown as it is made.
    """

    def __init__(
        self,
        jobs: list[Job],
        failed: list[Prompt],
        tokenizer: Tokenizer,
        writer: RowWriter | None,
        display: Display,
        streams: bool,
    ) -> None:
        self.jobs = {job.prompt.index: job for job in jobs}
        self.prompts = len(jobs) + len(failed)
        self.failed = 0
        self.finished = 0
        self.prefill_tokens = 0
        self._tokenizer = tokenizer
        self._writer = writer
        self._display = display
        self._order: InOrder[Row] = InOrder()
        self._streams = streams
        only = jobs[0] if streams and jobs else None  # its text is shown as it is made
        self._stream = tokenizer.stream(only.before if only else ())
        self._shown = StopText(only.stop if only else ())
        self._unfilled = {job.prompt.index: len(job.tokens) for job in jobs}  # tokens still to go through
        self._unusable = failed

    def begin(self) -> None:
        """Shows the single prompt, and reports the prompts that cannot run."""
        tokens = sum(len(job.tokens) for job in self.jobs.values())
        self._display.start(len(self.jobs), tokens, sum(job.max_tokens for job in self.jobs.values()))
        only = next(iter(self.jobs.values())) if self._streams else None
        if only is not None and not only.answers:
            self._display.prompt(only.text)
        for prompt in self._unusable:
            self._fail(prompt, prompt.error or "", prompt.text)

    def requests(self, request: type[Request], settings: CheckedSettings) -> list[Request]:
        """The requests for the generator, in input order; `request` is its class for them."""
        return [self._request(request, settings, index, job) for index, job in self.jobs.items()]

    def _request(self, request: type[Request], settings: CheckedSettings, index: int, job: Job) -> Request:
        own = dict(job.prompt.settings)
        temperature = own.pop("temperature", settings.temperature)
        seed = own.pop("seed", None)
        seed = row_seed(settings.seed, index) if seed is None else seed
        return request(
            index,
            job.tokens,
            job.max_tokens,
            temperature,
            seed,
            replace(settings.sampling, **own),
            watch(self._tokenizer, job.stop, job.before),
        )

    def prefilled(self, event: Prefilled) -> None:
        """`event.tokens` more tokens of a prompt went through the model."""
        self.prefill_tokens += event.tokens
        self._unfilled[event.index] -= event.tokens
        self._display.prefilled(event.tokens)

    def token(self, event: Token) -> None:
        """One more token of one prompt."""
        if event.index in self._unfilled:  # the prompt's last token went through with the first decode step
            self._display.prefilled(self._unfilled.pop(event.index))
        self._display.token(self._shown.push(self._stream.push(event.token)) if self._streams else "")

    def finish(self, event: Finished) -> None:
        """A prompt ran to its end."""
        job = self.jobs[event.index]
        if self._streams:
            self._display.rest(self._shown.finish(self._stream.finish()))
        text = cut(self._tokenizer.decode(event.tokens, job.before), job.stop)
        self.finished += 1
        self._add(finished_row(job.prompt, job.text, text, event.tokens, event.logprobs, event.reason, event.top))
        self._display.done(len(event.tokens), job.max_tokens)

    def fail(self, event: Failed) -> None:
        """A prompt failed while it ran."""
        job = self.jobs[event.index]
        self._fail(job.prompt, event.error, job.text)
        self._display.done(0, job.max_tokens)

    def _fail(self, prompt: Prompt, error: str, text: str | None) -> None:
        self.failed += 1
        self._display.warn(f"{prompt.where}: {error}")
        self._add(failed_row(prompt, error, text))

    def _add(self, row: Row) -> None:
        if self._writer is not None:
            self._writer.add(row)
        for due in self._order.add(row["index"], row):
            job = self.jobs.get(due["index"])
            self._display.row(due | {"prompt": f"{job.text}\n"} if job is not None and job.answers else due)
