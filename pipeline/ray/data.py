"""A stage for Ray Data: prompts in, texts out, beside the other columns of a dataset."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.storyteller import NAME
from ..errors import OnebufError, UsageError
from ..generation.settings import PROMPT_ROWS, ROW_KEYS, row_seed
from ..graph.formats import CACHE_DTYPES
from ..language.loading import load
from ..language.texts import Text

__all__ = ["Generate"]

_OF_ROWS = (*ROW_KEYS, "stop")  # settings that a column may have


class Generate:
    """A class for `Dataset.map_batches`, whose workers each load the model once:

        dataset.map_batches(
            pipeline.ray.Generate,
            fn_constructor_kwargs={"model": "PATH", "max_tokens": 64},
            concurrency=2,  # workers
            num_gpus=1,  # of each; or num_cpus, and `threads` among the arguments
            batch_size=256,
        )

    model    a path that every machine has, or a name, as for `pipeline.load`, which has the other options, too
    prompt   the column of prompts: texts, lists of token ids, or conversations
    into     the column for texts. `into` + "_tokens" gets their tokens, `into` + "_reason" why they end, and
             `into` + "_error" why a row has none, else null
    rows     texts that run at the same time: the `batch_size` of `pipeline.load`

    Further arguments are settings, such as `temperature`. A column with the name of a setting, such as `max_tokens`,
    has a row's own where it is not null. With a `seed` among the settings and a column `index`, a row has the seed that
    a run of `pipeline.run --seed` gives to the prompt of that index.

    Raises what `pipeline.load` raises, and UsageError for a column that is missing or would be written over. A row that
    cannot run ends no other.
    """

    def __init__(
        self,
        model: Path | str = NAME,
        *,
        prompt: str = "prompt",
        into: str = "generated",
        device: str = "auto",
        threads: int = 0,
        isa: str | None = None,
        rows: int | None = None,
        context: int | None = None,
        kv_cache: str = CACHE_DTYPES[0],
        prompt_rows: int = PROMPT_ROWS,
        **settings: Any,
    ) -> None:
        self._prompt, self._into, self._settings = prompt, into, settings
        sizes: dict[str, Any] = {"batch_size": rows, "context": context, "prompt_rows": prompt_rows}
        self._model = load(model, device=device, threads=threads, isa=isa, kv_cache=kv_cache, **sizes)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch with the texts of its prompts. It is a mapping of columns, as Ray Data has them by default."""
        made = [f"{self._into}{suffix}" for suffix in ("", "_tokens", "_reason", "_error")]
        self._check(batch, made)
        prompts = [_plain(value) for value in batch[self._prompt]]
        settings = [self._row(batch, row) for row in range(len(prompts))]
        ends = asyncio.run(self._texts(prompts, settings))
        texts = [end if isinstance(end, Text) else None for end in ends]
        columns: list[list[object]] = [
            [None if text is None else str(text) for text in texts],
            [[] if text is None else text.tokens for text in texts],
            [None if text is None else text.finish_reason for text in texts],
            [str(end) if isinstance(end, OnebufError) else None for end in ends],
        ]
        return {**batch, **{name: _column(values) for name, values in zip(made, columns)}}

    async def _texts(
        self, prompts: Sequence[object], settings: Sequence[Mapping[str, Any]]
    ) -> list[Text | OnebufError]:
        """The text of each prompt, or why it has none. They run together."""
        calls = [self._model.agenerate(prompt, **each) for prompt, each in zip(prompts, settings)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        return [_text_or_error(end) for end in ends]

    def _row(self, batch: Mapping[str, Any], row: int) -> dict[str, Any]:
        """The settings of a row."""
        settings = dict(self._settings)
        if settings.get("seed") is not None and "index" in batch:
            settings["seed"] = row_seed(settings["seed"], int(batch["index"][row]))
        own = {name: _plain(batch[name][row]) for name in _OF_ROWS if name in batch and name != self._prompt}
        return settings | {name: value for name, value in own.items() if value is not None}

    def _check(self, batch: object, made: Sequence[str]) -> None:
        if not isinstance(batch, Mapping):
            raise UsageError('Generate takes a batch as a mapping of columns; leave out batch_format, or give "numpy"')
        if self._prompt not in batch:
            raise UsageError(f"there is no column {self._prompt!r} of prompts; name it with prompt=")
        there = [name for name in made if name in batch]
        if there:
            raise UsageError(f"there is a column {there[0]!r} already; give another name with into=")


def _text_or_error(end: object) -> Text | OnebufError:
    """How a row ended. What no row is to blame for is raised."""
    if isinstance(end, (Text, OnebufError)):
        return end
    if isinstance(end, BaseException):
        raise end
    return UsageError("has several prompts; a row can have one")


def _plain(value: Any) -> Any:
    """A value of a column as Python has it; None for what is missing."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return None if isinstance(value, float) and value != value else value


def _column(values: Sequence[object]) -> np.ndarray:
    column = np.empty(len(values), object)
    for row, value in enumerate(values):  # at once, lists would be taken for rows of a table
        column[row] = value
    return column
