"""Prompts from the command line, a file or standard input, one by one. A line that cannot be used becomes a prompt with
`error`."""

from __future__ import annotations

from ..errors import PromptError
from .lines import parse_line
from .prompt import Prompt
from .source import Lines, open_lines, read_whole

__all__ = ["OnePrompt", "OneText", "Prompt", "PromptLines", "Prompts", "open_prompts"]


class Prompts:
    """Prompts that come one by one. `ended` says that no more will come.

    whole    whether all of them are there at once, and no pipe has to bring them
    dialect  of the lines: prompt.OWN, prompt.OPENAI, or "" before a line has told
    """

    whole = True
    dialect = ""
    ended = False

    def take(self, seconds: float | None) -> Prompt | None:
        """The next prompt, for which it waits so many seconds (None: as long as it takes); None where there is none.

        PromptError where the file cannot be read, or has no prompt at all."""
        raise NotImplementedError

    @property
    def share(self) -> float | None:
        """The share of the prompts that were taken; None where nobody knows."""
        return None


class OnePrompt(Prompts):
    """The prompt of `--prompt`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def take(self, seconds: float | None) -> Prompt | None:
        if self.ended:
            return None
        self.ended = True
        return Prompt(0, 0, "--prompt", text=self._text)


class OneText(Prompts):
    """The prompt of `--text`: a whole file, or standard input for "-"."""

    def __init__(self, source: str) -> None:
        self._source = source

    def take(self, seconds: float | None) -> Prompt | None:
        if self.ended:
            return None
        self.ended = True
        name, content = read_whole(self._source)
        try:
            text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
        except UnicodeDecodeError as error:
            raise PromptError(f"{name}: not UTF-8 at byte {error.start + 1}; save the file as UTF-8") from None
        return Prompt(0, 0, name, text=text)


class PromptLines(Prompts):
    """The prompts of a file's lines. Blank ones are left out and do not count."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._is_jsonl = lines.is_jsonl
        self._count = 0
        self.whole = lines.size > 0

    def take(self, seconds: float | None) -> Prompt | None:
        while (taken := self._lines.take(seconds)) is not None:
            number, line = taken
            if not line.strip():
                continue
            if self._is_jsonl is None:
                self._is_jsonl = line.lstrip().startswith(b"{")
            index, self._count = self._count, self._count + 1
            where = f"{self._lines.name} line {number}"
            prompt = parse_line(line, self._is_jsonl, Prompt(index, index, where), self.dialect)
            self.dialect = self.dialect or prompt.dialect
            return prompt
        self.ended = self._lines.ended
        if self.ended and not self._count:
            raise PromptError(f"{self._lines.name}: no prompts in it; write one per line")
        return None

    @property
    def share(self) -> float | None:
        return min(self._lines.position / self._lines.size, 1.0) if self._lines.size else None


def open_prompts(source: str) -> PromptLines:
    """The prompts in file `source`, or in standard input for "-".

    A `.txt` file has one prompt per line, a `.jsonl` file one object per line, with `prompt`, `tokens` or `messages`,
    or a request of OpenAI's batch files. Standard input and pipes have no name that could tell: they are JSONL where
    the first line that is not blank starts with a brace. PromptError where the file cannot be opened.
    """
    return PromptLines(open_lines(source))
