"""What a forced call can say in a form: schemas that a grammar of the form cannot keep, and texts that would end a call
too early, are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..errors import PromptError
from .tool_formats import QWEN_XML, ToolFormat

__all__ = ["check_tool", "text_rule"]

_TAGS = ("<function=", "</function>", "<parameter=", "</parameter>")  # of Qwen3-Coder's form, which has no JSON around
_NOTES = {"type", "title", "description", "default", "examples", "format", "deprecated"}  # they bind no value
_OF_TEXTS = {"enum", "const", "pattern", "minLength", "maxLength"}
_OF_OBJECTS = {"properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "strict"}


def check_tool(form: ToolFormat, name: str, schema: Mapping[str, Any]) -> None:
    """Raises PromptError, which names the tool, where a call of it cannot be forced."""
    if schema.get("type", "object") != "object":
        raise PromptError(f"tools: parameters of {name!r:.80} must have the type object, as a call's arguments do")
    marks = (*form.markers, *(_TAGS if form is QWEN_XML else ()))
    text = f"{name}\n{json.dumps(schema, ensure_ascii=False)}"
    found = next((mark for mark in marks if mark in text), None)
    if found is not None:
        raise PromptError(f"tools: {name!r:.80} has the text {found!r}, which has a meaning of its own in calls")
    if form is QWEN_XML:
        _check_xml(name, schema)


def _check_xml(name: str, schema: Mapping[str, Any]) -> None:
    """Parameters are tags there, one by one, and texts stand as they are."""
    properties = schema.get("properties", {})
    keys = list(properties) if isinstance(properties, Mapping) else []
    for each in (name, *keys):
        if re.search(r"[<>\n]", each) or each != each.strip():
            raise PromptError(f"tools: the name {each!r:.80} cannot stand in a tag, in which this model calls tools")
    lost = [key for key in schema if key not in _NOTES | _OF_OBJECTS]
    lost += [key for key in schema.get("required", ()) if key not in keys]
    for key in keys:
        value = properties[key]
        if isinstance(value, Mapping) and value.get("type") == "string":
            lost += [f"{key}: {what}" for what in value if what not in _NOTES | _OF_TEXTS]
            if len({"enum", "const", "pattern", "length"} & {_kind(what) for what in value}) > 1:
                lost.append(f"{key}: several bounds of a text")
    if lost:
        raise PromptError(
            f"tools: {name!r:.80} asks for {lost[0]!r:.80}, which this model's form of calls cannot force; leave it out"
        )


def _kind(key: str) -> str:
    return "length" if key in ("minLength", "maxLength") else key


def text_rule(value: Mapping[str, Any]) -> str | None:
    """What a text without quotation marks must be, as an expression or texts of a grammar; None: anything."""
    if "const" in value:
        return json.dumps(value["const"], ensure_ascii=False) if isinstance(value["const"], str) else None
    enum = value.get("enum")
    if isinstance(enum, list) and enum and all(isinstance(each, str) for each in enum):
        return f"({' | '.join(json.dumps(each, ensure_ascii=False) for each in enum)})"
    pattern = value.get("pattern")
    if isinstance(pattern, str):
        inner = pattern.removeprefix("^").removesuffix("$")
        before, after = ("" if pattern.startswith("^") else "[^<]*"), ("" if pattern.endswith("$") else "[^<]*")
        return f"/{before}({inner.replace('/', chr(92) + '/')}){after}/"
    if "minLength" in value or "maxLength" in value:
        return f"/[^<]{{{value.get('minLength', 0)},{value.get('maxLength', '')}}}/"
    return None
