"""The forms of calls as grammars, in Lark's form as llguidance has it: a text under one of them can be parsed back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..checkpoints.tokenizer import Tokenizer
from ..errors import PromptError
from .grammars import JSON_OPTIONS
from .tool_formats import HARMONY, HERMES, LLAMA, MISTRAL, QWEN_XML, ToolFormat
from .tool_limits import check_tool, text_rule

__all__ = ["tool_grammar"]

MOST_CALLS = 16  # of one text, where several are allowed
_ANY: Mapping[str, Any] = {"type": "object"}
Tools = Sequence[tuple[str, Mapping[str, Any]]]
"""Names of functions, and the schemas of their arguments."""


def tool_grammar(form: ToolFormat, tools: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, several: bool) -> str:
    """The grammar of a text that is a call of one of the tools, or where `several` may come, of one and more.

    PromptError where the parameters of a tool are no schema, or where the form cannot hold a call to them."""
    functions = [_function(tool) for tool in tools]
    for name, schema in functions:
        check_tool(form, name, schema)
    return _RULES[form.name](functions, _Marks(tokenizer), several)


def _function(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    function = tool.get("function", tool)
    schema = function.get("parameters")
    if schema is not None and not isinstance(schema, Mapping):
        raise PromptError(
            f"tools: parameters of {function['name']!r:.80} must be an object, the schema of its arguments"
        )
    return function["name"], schema or _ANY


class _Marks:
    """Texts of a form as parts of a rule: a special token by its number, since no text stands for it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> str:
        token = self._tokenizer.id_of(text)
        hidden = token is not None and not self._tokenizer.decode([token])
        return f"<[{token}]>" if hidden else _text(text)

    def has(self, text: str) -> bool:
        return self._tokenizer.id_of(text) is not None


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps(dict(schema) | {'x-guidance': JSON_OPTIONS})}"


def _objects(tools: Tools, arguments: str) -> list[str]:
    """Rules call_0, call_1 and so on: for each tool the object {"name": ..., ARGUMENTS: ...}, in that order."""
    rules = []
    for number, (name, schema) in enumerate(tools):
        head = _text(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "{arguments}": ')
        rules += [f'call_{number}: {head} args_{number} "}}"', f"args_{number}: {_json(schema)}"]
    return rules


def _any(tools: Tools) -> str:
    return "call: " + " | ".join(f"call_{number}" for number in range(len(tools)))


def _listed(several: bool, between: str) -> str:
    """Calls one behind the other."""
    return f"call ({between} call){{0,{MOST_CALLS - 1}}}" if several else "call"


def _tagged(mark: _Marks, several: bool) -> list[str]:
    """The rules of calls between tags."""
    start = _listed(several, _text("\n")).replace("call", "outer")
    outer = f"outer: {mark('<tool_call>')} {_text(chr(10))} call {_text(chr(10))} {mark('</tool_call>')}"
    return [f"start: {start}", outer]


def _hermes(tools: Tools, mark: _Marks, several: bool) -> str:
    return "\n".join([*_tagged(mark, several), _any(tools), *_objects(tools, "arguments")])


def _qwen_xml(tools: Tools, mark: _Marks, several: bool) -> str:
    rules = [*_tagged(mark, several), _any(tools), "text[lazy]: /(?s:.*)\\n<\\/parameter>\\n/"]
    for number, (name, schema) in enumerate(tools):
        parts = [_text(f"<function={name}>\n")]
        properties = schema.get("properties")
        needed = schema.get("required", ())
        for at, (key, value) in enumerate(properties.items() if isinstance(properties, Mapping) else ()):
            rule, value = f"value_{number}_{at}", value if isinstance(value, Mapping) else {}
            begin = _text(f"<parameter={key}>\n")
            rules.append(f"{rule}: {begin} {_value(value, schema, rules, rule)}")
            parts.append(rule if key in needed else f"{rule}?")
        rules.append(f"call_{number}: {' '.join(parts)} {_text('</function>')}")
    return "\n".join(rules)


def _value(value: Mapping[str, Any], schema: Mapping[str, Any], rules: list[str], rule: str) -> str:
    """The value of a parameter and what ends it. A text stands as it is, everything else as JSON."""
    end = _text("\n</parameter>\n")
    if value.get("type") == "string":
        own = text_rule(value)
        return "text" if own is None else f"{own} {end}"
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    rules.append(f"json_{rule}: {_json(shared | dict(value))}")
    return f"json_{rule} {end}"


def _llama(tools: Tools, mark: _Marks, several: bool) -> str:
    return "\n".join([f"start: {_listed(several, _text('; '))}", _any(tools), *_objects(tools, "parameters")])


def _mistral(tools: Tools, mark: _Marks, several: bool) -> str:
    if not mark.has("[ARGS]"):
        start = f"start: {mark('[TOOL_CALLS]')} {_text('[')} {_listed(several, _text(', '))} {_text(']')}"
        return "\n".join([start, _any(tools), *_objects(tools, "arguments")])
    rules = [f"start: {_listed(several, '')}", _any(tools)]
    for number, (name, schema) in enumerate(tools):
        rules.append(f"call_{number}: {mark('[TOOL_CALLS]')} {_text(name)} {mark('[ARGS]')} args_{number}")
        rules.append(f"args_{number}: {_json(schema)}")
    return "\n".join(rules)


def _harmony(tools: Tools, mark: _Marks, several: bool) -> str:
    """One call, perhaps behind the model's analysis. Several would be several messages, which it does not send."""
    channel, message, end, begin = map(mark, ("<|channel|>", "<|message|>", "<|end|>", "<|start|>"))
    thought = f"thought: {channel} {_text('analysis')} {message} /(?s:.*)/ {end} {begin} {_text('assistant')}"
    rules = ["start: thought? call", thought, _any(tools)]
    for number, (name, schema) in enumerate(tools):
        to = _text(f"commentary to=functions.{name} ")
        rules.append(f"call_{number}: {channel} {to} {mark('<|constrain|>')} {_text('json')} {message} args_{number}")
        rules.append(f"args_{number}: {_json(schema)}")
    return "\n".join(rules)


_RULES: dict[str, Callable[[Tools, _Marks, bool], str]] = {
    HERMES.name: _hermes,
    QWEN_XML.name: _qwen_xml,
    LLAMA.name: _llama,
    MISTRAL.name: _mistral,
    HARMONY.name: _harmony,
}
