"""One run's prompts on their way through the generator: tokens in, rows and text out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..checkpoints.hub import model_name
from ..checkpoints.tokenizer import Tokenizer
from ..generation.requests import Failed, Finished, Prefilled, Request, Token
from ..generation.scoring import Perplexity
from ..generation.stopping import StopText, cut
from .batch_rows import BatchRows
from .display import Display
from .feed import Feed
from .job_requests import request_of
from .jobs import Job
from .prompt import OPENAI, Prompt
from .row_file import RowWriter
from .rows import InOrder, Row, failed_row, finished_row, prompt_scores
from .scored import failed_score, scored_row, total
from .settings import CheckedSettings

__all__ = ["Session"]

_SAMPLE = 1 << 40  # what the numbers of the requests of one prompt are apart; sample 0 has the prompt's index


@dataclass
class _Running:
    """A job that runs. left: its texts that are not finished; made: tokens of those that are. rows: its rows so far.
    ends: how its texts ended; scores: of its windows, by number."""

    job: Job
    left: int
    made: int = 0
    failed: bool = False
    rows: list[Row] = field(default_factory=list)
    ends: dict[int, Finished] = field(default_factory=dict)
    scores: dict[int, Perplexity] = field(default_factory=dict)


class Session:
    """Takes the generator's events and gives rows to `writer` (None: no rows) and to the display.

    shows_rows: the display shows the texts of rows, in input order. wait: called while nothing runs and no prompt is
    there, again and again; it may end the run.
    """

    def __init__(
        self,
        feed: Feed,
        settings: CheckedSettings,
        tokenizer: Tokenizer,
        writer: RowWriter | None,
        display: Display,
        wait: Callable[[], None],
        shows_rows: bool = True,
    ) -> None:
        self.failed = 0
        self.finished = 0
        self.rows_failed = 0
        self.rows_finished = 0
        self.prefill_tokens = 0
        self.ended = self.made = 0  # prompts that ran to an end, and the tokens that were generated for them
        self.scores = Perplexity(0, 0.0) if writer is None else writer.kept.scores  # of all texts
        self._feed = feed
        self._settings = settings
        self._sampling = settings.sampling
        self._tokenizer = tokenizer
        self._writer = writer
        self._display = display
        self._wait = wait
        self._shows_rows = shows_rows
        self._order: InOrder[list[Row]] = InOrder()
        self._batch = BatchRows(model_name(settings.model), tokenizer)
        only = feed.ahead[0] if settings.streams and feed.ahead else None  # its text is shown as it is made
        self._stream = tokenizer.stream(only.before if only else ())
        self._shown = StopText(only.stop if only else ())
        self._running: dict[int, _Running] = {}  # by the prompt's index
        self._unfilled: dict[int, int] = {}  # tokens still to go through, by the request's number

    @property
    def prompts(self) -> int:
        """The prompts that were given so far."""
        return self._feed.jobs + self._feed.failed

    @property
    def running(self) -> int:
        """The prompts that run now."""
        return len(self._running)

    def begin(self) -> None:
        """Shows the single prompt, and reports the prompts that cannot run."""
        feed = self._feed
        if feed.all_here:
            tokens = sum(job.through for job in feed.ahead)
            most = sum(job.max_tokens * len(job.samples) for job in feed.ahead)
            self._display.start(len(feed.ahead), tokens, most)
        else:
            self._display.start(None, 0, 0)
        if self._settings.streams and feed.ahead and not feed.ahead[0].answers:
            self._display.prompt(feed.ahead[0].text)
        feed.report(self._fail_unused)

    def requests(self, request: type[Request]) -> Iterator[Request | None]:
        """The requests for the generator, in input order; None where no prompt is there now. `request` is the class."""
        at_once = None if self._feed.prompts.whole else 0  # a file's lines are there, though a thread reads them
        while True:
            job = self._feed.take(at_once)
            if job is None and not self._feed.ended and not self._running:
                self._wait()
                job = self._feed.take(0.1)
            if job is not None:
                self._running[job.prompt.index] = _Running(job, len(job.samples))
                for sample in job.samples:
                    yield self._request(request, job, sample)
            elif self._feed.ended:
                return
            else:
                yield None

    def _request(self, request: type[Request], job: Job, sample: int) -> Request:
        number = job.prompt.index + sample * _SAMPLE
        if job.windows:
            window = job.windows[sample]
            self._unfilled[number] = window.end - window.begin
            part = job.tokens[window.begin : window.end]
            return request(number, part, 0, sampling=self._sampling, score_from=window.first - window.begin)
        self._unfilled[number] = len(job.tokens)
        return request_of(job, sample, number, self._settings, self._tokenizer, request)

    def prefilled(self, event: Prefilled) -> None:
        """`event.tokens` more tokens of a prompt went through the model."""
        self.prefill_tokens += event.tokens
        self._unfilled[event.index] -= event.tokens
        self._display.prefilled(event.tokens)

    def token(self, event: Token) -> None:
        """One more token of one prompt."""
        if event.index in self._unfilled:  # the prompt's last token went through with the first decode step
            self._display.prefilled(self._unfilled.pop(event.index))
        shown = self._settings.streams and event.index == 0
        self._display.token(self._shown.push(self._stream.push(event.token)) if shown else "")

    def finish(self, event: Finished) -> None:
        """A text of a prompt ran to its end."""
        running, sample = self._ended(event.index)
        running.made += len(event.tokens)
        job = running.job
        if job.windows:
            running.scores[sample] = Perplexity(len(event.prompt_logprobs), -math.fsum(event.prompt_logprobs))
        elif job.prompt.wanted is not None:
            running.ends[sample] = event
        else:
            text = cut(self._tokenizer.decode(event.tokens, job.before), job.stop)
            which = sample if job.of > 1 else None
            tokens, logprobs = event.tokens, event.logprobs
            top = event.top if self._most(job, "logprobs") else None
            scored = {}
            if job.scored:
                likely = event.prompt_top if self._most(job, "prompt_logprobs") else None
                scored = prompt_scores(job.tokens, event.prompt_logprobs, likely)
            row = finished_row(job.prompt, job.text, text, tokens, logprobs, event.reason, top, which, scored)
            self._write(running, row)
        if self._settings.streams and sample == 0:
            self._display.rest(self._shown.finish(self._stream.finish()))
        self._close_if_done(running)
        self._display.done(len(event.tokens), job.max_tokens)

    def _most(self, job: Job, name: str) -> int:
        """How many probable tokens a prompt's row has in each place."""
        return job.prompt.settings.get(name, getattr(self._settings, name)) or 0

    def fail(self, event: Failed) -> None:
        """A text of a prompt failed while it ran."""
        running, sample = self._ended(event.index)
        job = running.job
        if job.windows:
            if not running.failed:
                self._write(running, failed_score(job.prompt, event.error, job.text))
        elif job.prompt.wanted is None:
            which = sample if job.of > 1 else None
            self._write(running, failed_row(job.prompt, event.error, job.text, which))
        elif not running.failed:
            self._write(running, self._batch.failed(job.prompt, event.error, while_running=not event.asked))
        if not running.failed:
            self._display.warn(f"{job.prompt.where}: {event.error}")
        running.failed = True
        self._close_if_done(running)
        self._display.done(0, job.max_tokens)

    def _ended(self, number: int) -> tuple[_Running, int]:
        self._unfilled.pop(number, None)
        sample, index = divmod(number, _SAMPLE)
        running = self._running[index]
        running.left -= 1
        return running, sample

    def _close_if_done(self, running: _Running) -> None:
        if running.left:
            return
        job = running.job
        del self._running[job.prompt.index]
        if job.prompt.wanted is not None and not running.failed:
            ends = [running.ends[sample] for sample in job.samples]
            self._write(running, self._batch.finished(job, ends))
        if job.windows and not running.failed:
            found = total(running.scores[sample] for sample in job.samples)
            self.scores = total((self.scores, found))
            self._write(running, scored_row(job.prompt, job.text, found))
        self.ended += 1
        self.made += running.made
        if running.failed:
            self.failed += 1
        else:
            self.finished += 1
        self._show(job.prompt.index, running.rows, job)

    def _fail_unused(self, prompt: Prompt) -> None:
        error = prompt.error or ""
        if OPENAI in (prompt.dialect, self._feed.prompts.dialect):
            row = self._batch.failed(prompt, error)
        elif self._settings.evaluates:
            row = failed_score(prompt, error)
        else:
            row = failed_row(prompt, error)
        if self._writer is not None:
            self._writer.add(row)
        self.failed += 1
        self.rows_failed += 1
        self._display.warn(f"{prompt.where}: {prompt.error}")
        self._show(prompt.index, [row])

    def show_rest(self) -> None:
        """Shows the texts that wait for an earlier one, where the run ends before that one does."""
        for rows in self._order.rest():
            self._show_now(rows)

    def _write(self, running: _Running, row: Row) -> None:
        """Before anything is shown: a display may wait for its reader, or fail."""
        if self._writer is not None:
            self._writer.add(row)
        if row.get("error") is None:
            self.rows_finished += 1
        else:
            self.rows_failed += 1
        if self._shows_rows:
            running.rows.append(row)

    def _show(self, index: int, rows: list[Row], job: Job | None = None) -> None:
        if not self._shows_rows:
            return
        if job is not None and job.answers:
            rows = [row | {"prompt": f"{job.text}\n"} for row in rows]
        for due in self._order.add(index, rows):
            self._show_now(due)

    def _show_now(self, rows: list[Row]) -> None:
        for row in rows:
            self._display.row(row)
