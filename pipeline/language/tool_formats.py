"""The forms in which families write calls of tools, and which of them a chat template teaches.

hermes    <tool_call>{"name": ..., "arguments": {...}}</tool_call>     Hermes, Qwen2.5, Qwen3
qwen_xml  <tool_call><function=name><parameter=key>value</parameter></function></tool_call>     Qwen3-Coder
llama     {"name": ..., "parameters": {...}}, perhaps behind <|python_tag|>, several with a semicolon     Llama 3
mistral   [TOOL_CALLS][{"name": ..., "arguments": {...}}], or [TOOL_CALLS]name[ARGS]{...}     Mistral
harmony   <|channel|>commentary to=functions.name<|message|>{...}<|call|>     gpt-oss
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["HARMONY", "HERMES", "LLAMA", "MISTRAL", "QWEN_XML", "Call", "ToolFormat", "tool_format"]


class Call(NamedTuple):
    """A call of a tool; `arguments` is JSON."""

    name: str
    arguments: str


_Tools = Sequence[Mapping[str, Any]]
_Parse = Callable[[str, _Tools], list[Call]]


@dataclass(frozen=True)
class ToolFormat:
    """One form.

    begins   texts with which calls begin; where one comes, nothing behind it is content
    alone    whether calls stand only at the beginning of an answer
    markers  texts of special tokens that the form needs to see, though they are never shown
    parse    the calls in the text from the beginning on; ValueError where there are none
    """

    name: str
    begins: tuple[str, ...]
    parse: _Parse
    alone: bool = False
    markers: tuple[str, ...] = ()


def _call(value: object) -> Call:
    """The call that an object describes."""
    if not isinstance(value, dict):
        raise ValueError("no object")
    value = value.get("function", value) if isinstance(value.get("function"), dict) else value
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters", {}))
    if not isinstance(name, str) or not name:
        raise ValueError("no name")
    return Call(name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))


def _some(calls: list[Call]) -> list[Call]:
    if not calls:
        raise ValueError("no calls")
    return calls


def _objects(text: str, separators: str) -> Iterable[object]:
    """The JSON values of a text, one behind the other."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        if text[place] in separators:
            place += 1
            continue
        value, place = decoder.raw_decode(text, place)
        yield value


_HERMES = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.S)


def _hermes(text: str, tools: _Tools) -> list[Call]:
    return _some([_call(json.loads(found)) for found in _HERMES.findall(text)])


_FUNCTION = re.compile(r"<function=([^>\n]+)>(.*?)(?:</function>|\Z)", re.S)
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?(?:</parameter>|(?=<parameter=)|\Z)", re.S)


def _qwen_xml(text: str, tools: _Tools) -> list[Call]:
    calls = []
    for name, inner in _FUNCTION.findall(text):
        texts = _text_parameters(name, tools)
        values = {key: value if key in texts else _value(value) for key, value in _PARAMETER.findall(inner)}
        calls.append(Call(name.strip(), json.dumps(values, ensure_ascii=False)))
    return _some(calls)


def _text_parameters(name: str, tools: _Tools) -> set[str]:
    """The parameters of a tool that are texts, and so are no JSON."""
    for tool in tools:
        function = tool.get("function", tool)
        if isinstance(function, Mapping) and function.get("name") == name:
            parameters = function.get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
            if isinstance(properties, Mapping):
                return {
                    key
                    for key, value in properties.items()
                    if isinstance(value, Mapping) and value.get("type") == "string"
                }
    return set()


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _llama(text: str, tools: _Tools) -> list[Call]:
    return _some([_call(value) for value in _objects(text.strip().removeprefix("<|python_tag|>"), "; \n\t")])


_NAMED = re.compile(r"\[TOOL_CALLS\]\s*([\w.-]+)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*(?=\{)")


def _mistral(text: str, tools: _Tools) -> list[Call]:
    calls, decoder = [], json.JSONDecoder()
    for found in _NAMED.finditer(text):
        calls.append(Call(found[1], json.dumps(decoder.raw_decode(text, found.end())[0], ensure_ascii=False)))
    if not calls:
        listed = decoder.raw_decode(text.removeprefix("[TOOL_CALLS]").lstrip())[0]
        calls = [_call(value) for value in (listed if isinstance(listed, list) else [listed])]
    return _some(calls)


HERMES = ToolFormat("hermes", ("<tool_call>",), _hermes, markers=("<tool_call>", "</tool_call>"))
QWEN_XML = ToolFormat("qwen_xml", ("<tool_call>", "<function="), _qwen_xml, markers=("<tool_call>", "</tool_call>"))
LLAMA = ToolFormat("llama", ("<|python_tag|>", "{"), _llama, alone=True, markers=("<|python_tag|>",))
MISTRAL = ToolFormat("mistral", ("[TOOL_CALLS]",), _mistral, markers=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"))
HARMONY = ToolFormat(
    "harmony",
    (),
    lambda text, tools: [],  # answers of this form are read channel by channel
    markers=("<|channel|>", "<|message|>", "<|constrain|>", "<|start|>", "<|end|>"),
)


def tool_format(templates: Iterable[str]) -> ToolFormat | None:
    """The form that chat templates teach; None where it is none of these."""
    text = "\n".join(templates)
    if "<|channel|>" in text and "<|start|>" in text:
        return HARMONY
    if "<tool_call>" in text and "<arg_key>" not in text:
        return QWEN_XML if "<function=" in text else HERMES
    if "[TOOL_CALLS]" in text:
        return MISTRAL
    if "<|python_tag|>" in text or ("<|start_header_id|>" in text and '"parameters"' in text):
        return LLAMA
    return None
