"""The jobs of a run, made one by one as there is room for them: a million prompts take no more memory than a few."""

from __future__ import annotations

import pickle
import tempfile
from collections import deque
from collections.abc import Callable
from typing import IO

from ..checkpoints.tensor_info import quoted
from ..errors import PromptError, UsageError
from .jobs import Job, JobMaker
from .prompt import OPENAI
from .prompts import Prompt, Prompts
from .resuming import KeptRows
from .rows import identity, key_of
from .seen import Seen
from .unknown_keys import UnknownKeys

__all__ = ["AHEAD", "Feed"]

AHEAD = 1000  # prompts that are looked at before the first one runs
AHEAD_TOKENS = 300_000  # of theirs
_HELD = 1 << 20  # bytes of prompts that failed, above which they wait on the disk


class Feed:
    """Takes prompts and makes jobs of those that can run and have no row yet.

    ahead     jobs that were looked at before the first one runs
    all_here  whether those are all that there are
    jobs      how many jobs there were so far; `tokens` how many tokens of them go through
    kept      how many prompts had all their rows already
    """

    def __init__(self, prompts: Prompts, maker: JobMaker, samples: int, rows: KeptRows | None = None) -> None:
        self.prompts = prompts
        self.ahead: deque[Job] = deque()
        self.all_here = False
        self.jobs = self.tokens = self.kept = self.failed = 0
        self.first_share = 0.0  # of the prompts, that had their rows or failed before the first job
        self.unknown = UnknownKeys()
        self._maker = maker
        self._samples = samples  # 0: one row per prompt, whatever its line says
        self._rows = rows
        self._names = Seen()  # of requests in OpenAI's dialect, whose rows are found by them
        self._first: Prompt | None = None  # that failed
        self._early: IO[bytes] = tempfile.SpooledTemporaryFile(_HELD)  # prompts that failed before the first row
        self._fail: Callable[[Prompt], None] = lambda prompt: pickle.dump(prompt, self._early)

    def look_ahead(self) -> None:
        """Finds the first jobs, and whether there are more: of a file as many as AHEAD, of a pipe those that are there.

        PromptError where there are no prompts, or none of them can be used."""
        tokens = 0
        while len(self.ahead) < AHEAD and tokens < AHEAD_TOKENS:
            waits = self.prompts.whole or not self.ahead
            job = self._next(None if waits else 0)
            if job is None:
                break
            self.ahead.append(job)
            tokens += len(job.tokens)
        self.all_here = self.prompts.ended
        if self.all_here and not self.ahead and not self.kept and self._first is not None:
            others = self.failed - 1
            more = f" (and {others} more, no good prompt among them)" if others else ""
            raise PromptError(f"{self._first.where}: {self._first.error}{more}")

    def report(self, fail: Callable[[Prompt], None]) -> None:
        """Hands the prompts that cannot run to `fail`: those so far, and each later one as it comes."""
        self._fail = fail
        self._early.seek(0)
        try:
            while True:
                fail(pickle.load(self._early))
        except EOFError:
            self._early.close()

    def take(self, seconds: float | None) -> Job | None:
        """The next job, for which it waits so many seconds. None where there is none; `ended` tells whether more will
        come."""
        return self.ahead.popleft() if self.ahead else self._next(seconds)

    @property
    def ended(self) -> bool:
        return self.prompts.ended and not self.ahead

    def _next(self, seconds: float | None) -> Job | None:
        share = self.prompts.share
        while (prompt := self.prompts.take(seconds)) is not None:
            self.unknown.add(prompt)
            if prompt.dialect == OPENAI and isinstance(prompt.id, str) and not self._names.add(prompt.id):
                prompt = prompt.failed(
                    f"custom_id {quoted(prompt.id[:80])} is that of an earlier line; each request needs its own"
                )
            made = self._made(prompt)
            if isinstance(made, Job):
                if not self.jobs:
                    self.first_share = share or 0.0
                self.jobs += 1
                self.tokens += made.through
                return made
            share = self.prompts.share
            if made is not None:
                self.failed += 1
                self._first = self._first or made
                self._fail(made)
        if self.prompts.ended:
            self._maker.close()
            if self._rows is not None:
                self._rows.check_all_claimed()
        return None

    def _made(self, prompt: Prompt) -> Job | Prompt | None:
        """The job of what is left of a prompt; None where nothing is left."""
        done = self._done(prompt)
        if len(done) == self._count(prompt):
            self.kept += 1
            return None
        try:
            job = self._maker.make(prompt)
        except UsageError as error:  # such as a package that is missing: it is so for all lines of this kind
            raise UsageError(f"{prompt.where}: {error}") from error
        return job.without(done) if done and isinstance(job, Job) else job

    def _count(self, prompt: Prompt) -> int:
        """How many rows a prompt has."""
        return 1 if prompt.wanted is not None or not self._samples else prompt.samples or self._samples

    def _done(self, prompt: Prompt) -> set[int]:
        """The numbers of the prompt's rows that an earlier run wrote."""
        if self._rows is None or not len(self._rows) or prompt.error is not None:
            return set()
        rows = {sample: self._rows.find(key_of(prompt.index, sample)) for sample in range(self._count(prompt))}
        found = {sample: row for sample, row in rows.items() if row is not None}
        if found:
            try:
                whose = identity(prompt, self._maker.text(prompt))
            except PromptError:  # it cannot run, and had no row
                whose = (prompt.id, "")
            for row in found.values():
                self._rows.claim(row, whose)
        return set(found)
