"""JSON schemas, regular expressions and grammars that texts must match, by llguidance, an optional package.

It was chosen over xgrammar (0.2.9), which needs torch and transformers: llguidance (1.9.1) has no dependency, one wheel
of 3 MB per platform for every Python, for aarch64 and macOS, too, and grammars of the same kinds.
"""

from __future__ import annotations

import functools
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checkpoints.tokenizer import Tokenizer
from ..errors import PromptError, UsageError

__all__ = ["KINDS", "Compiled", "Grammars"]

KINDS = ("json_schema", "regex", "grammar", "choice")
KEPT = 256  # compiled grammars
MOST_CHARACTERS = 1 << 18  # of a grammar's text
# Between parts of JSON stands a space, a line's end with a step to the right, or nothing: without a bound, a model may
# go on with spaces for ever.
JSON_OPTIONS = {"whitespace_pattern": r" ?|\n {0,24}"}


class Grammars:
    """Compiles grammars for one model. Any thread may use it.

    vocab: how many logits a row has. end_tokens: those with which a text that is complete ends."""

    def __init__(self, tokenizer: Tokenizer, vocab: int, end_tokens: Sequence[int]) -> None:
        self._tokenizer, self._vocab, self._ends = tokenizer, vocab, list(end_tokens)
        self._kept: OrderedDict[tuple[str, str], Compiled] = OrderedDict()
        self._lock = threading.Lock()

    def compiled(self, kind: str, value: object) -> Compiled:
        """The grammar of a kind: a schema as an object (True: any JSON), an expression, a grammar in Lark's or GBNF's
        form, or a list of texts. PromptError where it cannot be compiled, UsageError without the package."""
        try:
            text = value if isinstance(value, str) else json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise PromptError(f"{kind}: is no JSON: {_line(error)}") from None
        with self._lock:
            found = self._kept.get((kind, text))
            if found is None:
                if len(text) > MOST_CHARACTERS:
                    raise PromptError(
                        f"{kind}: {len(text):,} characters are too many; give at most {MOST_CHARACTERS:,}"
                    )
                found = self._kept[kind, text] = self._compile(kind, value, text)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end((kind, text))
        return found

    @functools.cached_property
    def _core(self) -> Any:
        """llguidance's tokenizer."""
        package = _package()
        try:
            return package.LLTokenizer(self._tokenizer.to_json(), n_vocab=self._vocab, eos_token=self._ends or None)
        except Exception as error:  # the package raises plain ones
            raise UsageError(f"the tokenizer of this model cannot be used with grammars: {error}") from error

    def _compile(self, kind: str, value: object, text: str) -> Compiled:
        package, core = _package(), self._core
        try:
            grammar = _grammar(package, kind, value, text)
        except (ValueError, RecursionError) as error:
            raise PromptError(f"{kind}: {_line(error)}") from None
        matcher = package.LLMatcher(core, grammar, log_level=0)
        if matcher.is_error():
            raise PromptError(f"{kind}: cannot be compiled: {_line(matcher.get_error())}")
        compiled = Compiled(matcher, kind, value)
        begin = compiled.begin()  # some, such as {"$ref": "#"}, compile and cannot begin
        begin.fill(np.zeros(-(-self._vocab // 32), np.uint32))
        if begin.error is not None:
            reason = _line(begin.error).rpartition(": ")[2]
            raise PromptError(
                f"{kind}: no text can be found for it ({reason}); perhaps it refers to itself without end"
            )
        return compiled


def _grammar(package: Any, kind: str, value: object, text: str) -> str:
    matcher = package.LLMatcher
    if kind == "json_schema":
        if value is not True and not isinstance(value, Mapping):
            raise ValueError("must be an object, the schema")
        schema = '{"type": "object"}' if value is True else text
        return str(matcher.grammar_from_json_schema(schema, defaults=JSON_OPTIONS))
    if kind == "choice":
        if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
            raise ValueError("must be a list of texts")
        return str(package.grammar_from("choice", text))
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    return str(matcher.grammar_from_regex(value) if kind == "regex" else package.grammar_from("grammar", value))


class Compiled:
    """A compiled grammar. Each text begins with a copy of its matcher. Another process needs no more than `kind` and
    `value` to compile the same."""

    def __init__(self, matcher: Any, kind: str, value: object) -> None:
        self.kind, self.value = kind, value
        self._matcher = matcher

    def begin(self) -> _Text:
        return _Text(self._matcher.deep_copy(), self.kind)


class _Text:
    """The place of a text in its grammar."""

    def __init__(self, matcher: Any, kind: str) -> None:
        self._matcher, self._kind = matcher, kind
        self.error: str | None = None

    def fill(self, words: np.ndarray) -> None:
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if self._matcher.is_error():
            self._fail(words)

    def _fail(self, words: np.ndarray) -> None:
        self.error = f"{self._kind}: cannot go on: {_line(self._matcher.get_error())}"
        words[:] = 0

    def take(self, token: int) -> bool:
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()


def _line(error: object) -> str:
    """The first line of a message, which may have the whole grammar behind it; with the error of an expression, which
    comes below a picture of it."""
    lines = str(error).strip().splitlines()
    reason = next((line.partition(":")[2] for line in lines[1:] if line.lstrip().startswith("error:")), "")
    return (lines[0][:300] + reason[:200]) if lines else "it is empty"


def _package() -> Any:
    try:
        import llguidance  # an extra, which other texts do not need
    except ImportError:
        raise UsageError("grammars need the package llguidance: pip install onebuf[structured]") from None
    return llguidance
