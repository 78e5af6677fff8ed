"""One run's prompts on their way through the generator: tokens in, rows and text out."""

from __future__ import annotations

from dataclasses import replace

from ..checkpoints.tokenizer import Tokenizer
from ..generation.requests import Failed, Finished, Prefilled, Request, Token
from ..generation.stopping import StopText, cut, watch
from .display import Display
from .jobs import Job
from .prompts import Prompt
from .row_file import RowWriter
from .rows import InOrder, Row, failed_row, finished_row
from .settings import CheckedSettings, row_seed

__all__ = ["Session"]


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
        only = next(iter(self.jobs.values()), None) if self._streams else None
        if only is not None and not only.answers:
            self._display.prompt(only.text)
        for prompt in self._unusable:
            self._fail(prompt, prompt.error or "", prompt.text)

    def requests(self, request: type[Request], settings: CheckedSettings) -> list[Request]:
        """The requests for the generator, in input order; `request` is its class for them."""
        return [self._request(request, settings, index, job) for index, job in self.jobs.items()]

    def _request(self, request: type[Request], settings: CheckedSettings, index: int, job: Job) -> Request:
        own = dict(job.prompt.settings)
        own.pop("max_tokens", None)  # is the job's
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
        text = cut(self._tokenizer.decode(event.tokens, job.before), job.stop)
        row = finished_row(job.prompt, job.text, text, event.tokens, event.logprobs, event.reason, event.top)
        self._write(row)
        self.finished += 1
        if self._streams:
            self._display.rest(self._shown.finish(self._stream.finish()))
        self._show(self._order.add(event.index, row))
        self._display.done(len(event.tokens), job.max_tokens)

    def fail(self, event: Failed) -> None:
        """A prompt failed while it ran."""
        job = self.jobs[event.index]
        self._fail(job.prompt, event.error, job.text)
        self._display.done(0, job.max_tokens)

    def _fail(self, prompt: Prompt, error: str, text: str | None) -> None:
        row = failed_row(prompt, error, text)
        self._write(row)
        self.failed += 1
        self._display.warn(f"{prompt.where}: {error}")
        self._show(self._order.add(prompt.index, row))

    def show_rest(self) -> None:
        """Shows the texts that wait for an earlier one, where the run ends before that one does."""
        self._show(self._order.rest())

    def _write(self, row: Row) -> None:
        """Before anything is shown: a display may wait for its reader, or fail."""
        if self._writer is not None:
            self._writer.add(row)

    def _show(self, rows: list[Row]) -> None:
        for due in rows:
            job = self.jobs.get(due["index"])
            self._display.row(due | {"prompt": f"{job.text}\n"} if job is not None and job.answers else due)
