"""What a line or a body says that a text must be: OpenAI's response_format, and guided_json and its kin as in vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import PromptError

__all__ = ["GUIDE_KEYS", "Guide", "guide_of"]

_KINDS = {"guided_json": "json_schema", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}
GUIDE_KEYS = ("response_format", *_KINDS)


class Guide(NamedTuple):
    """A grammar that is still to be compiled: a kind of language.grammars.KINDS, and its text or schema."""

    kind: str
    value: Any


def guide_of(values: Mapping[str, Any]) -> Guide | None:
    """The guide among the keys; None where a text may be anything. PromptError where there are two, or one is wrong."""
    found = [(key, Guide(kind, values[key])) for key, kind in _KINDS.items() if values.get(key) is not None]
    if values.get("response_format") is not None:
        guide = _response_format(values["response_format"])
        found += [("response_format", guide)] if guide is not None else []
    if len(found) > 1:
        raise PromptError(f"has both {found[0][0]} and {found[1][0]}; leave one out")
    return found[0][1] if found else None


def _response_format(value: object) -> Guide | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and kind == "json_schema":
        schema = value.get("json_schema")
        schema = schema.get("schema") if isinstance(schema, Mapping) else None
        if not isinstance(schema, Mapping):
            raise PromptError('response_format: json_schema needs {"name": ..., "schema": {...}}')
        return Guide("json_schema", schema)
    if kind == "json_object":
        return Guide("json_schema", True)
    if kind != "text":
        raise PromptError('response_format: type must be "text", "json_object" or "json_schema"')
    return None
