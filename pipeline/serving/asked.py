"""What a body asks for: its prompts as jobs, and how the answer is to be sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any

from ..checkpoints.tokenizer import Tokenizer
from ..cli.guides import GUIDE_KEYS
from ..cli.jobs import Job, JobMaker
from ..cli.prompt import OPENAI, Prompt
from ..cli.request_body import from_body
from ..errors import PromptError, UsageError
from ..language.tool_formats import ToolFormat
from ..language.tool_grammars import tool_grammar
from .errors import ApiError

__all__ = ["MOST_PROMPTS", "Asked", "read_asked"]

MOST_PROMPTS = 4096  # of one request; the seeds of prompts without one follow from their numbers


@dataclass(frozen=True)
class Asked:
    """jobs: one per prompt. stream: the answer comes in pieces; usage: with the tokens that it took. tools: those that
    may be called."""

    jobs: tuple[Job, ...]
    chat: bool
    stream: bool = False
    usage: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def texts(self) -> int:
        return sum(len(job.samples) for job in self.jobs)

    @property
    def prompt_tokens(self) -> int:
        return sum(len(job.tokens) for job in self.jobs)


def read_asked(
    body: Mapping[str, Any],
    chat: bool,
    name: str,
    number: int,
    maker: JobMaker,
    form: ToolFormat | None,
    tokenizer: Tokenizer,
) -> Asked:
    """What the body of request `number` asks of the model `name`. ApiError where it cannot be had."""
    body = {key: value for key, value in body.items() if value is not None}
    model = body.get("model", name)
    if model != name:
        shown = f" {model[:80]!r}" if isinstance(model, str) else ""
        raise ApiError(
            404, f"there is no model{shown}; this server has {name!r}", code="model_not_found", param="model"
        )
    stream, usage = _stream(body)
    body.pop("stream", None)
    forced = _choose_tools(body, form, tokenizer)
    prompts = body.get("prompt")
    several = isinstance(prompts, list) and bool(prompts) and not all(type(each) is int for each in prompts)
    bodies = [body | {"prompt": each} for each in prompts] if isinstance(prompts, list) and several else [body]
    if len(bodies) > MOST_PROMPTS:
        raise ApiError(400, f"{len(bodies):,} prompts are too many; give at most {MOST_PROMPTS:,}", param="prompt")
    if len(bodies) > 1 and body.get("echo"):
        raise ApiError(400, "echo is for one prompt; give each prompt a request of its own", param="echo")
    try:
        jobs = tuple(_job(each, chat, number, at, maker) for at, each in enumerate(bodies))
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None
    except ApiError as error:
        if forced and error.message.startswith("grammar"):  # which the client knows nothing of
            raise _no_choice(f"cannot be had: {error.message}") from None
        raise
    return Asked(jobs, chat, stream, usage, tuple(body.get("tools", ())) if chat else ())


def _job(body: Mapping[str, Any], chat: bool, number: int, at: int, maker: JobMaker) -> Job:
    prompt = Prompt(number, number, f"request {number}", dialect=OPENAI)
    if isinstance(body.get("prompt"), str):
        prompt = replace(prompt, text=body["prompt"])
    try:
        prompt = from_body(prompt, body, chat, "")
    except (PromptError, UsageError) as error:
        raise ApiError(400, str(error)) from None
    try:
        made = maker.make(prompt)
    except UsageError as error:  # such as a package that this server lacks
        raise ApiError(400, str(error)) from None
    if isinstance(made, Job):
        return made if not at else replace(made, prompt=replace(made.prompt, index=number + at))
    message = made.error or ""
    raise ApiError(400, message, code="context_length_exceeded" if "are too many for" in message else None)


def _stream(body: Mapping[str, Any]) -> tuple[bool, bool]:
    stream, options = body.get("stream", False), body.get("stream_options", {})
    if not isinstance(stream, bool):
        raise ApiError(400, "stream must be true or false", param="stream")
    if not isinstance(options, dict) or not isinstance(options.get("include_usage", False), bool):
        raise ApiError(400, 'stream_options must be an object such as {"include_usage": true}', param="stream_options")
    if options and not stream:
        raise ApiError(400, "stream_options is for streams; leave it out, or set stream", param="stream_options")
    return stream, options.get("include_usage", False)


def _choose_tools(body: dict[str, Any], form: ToolFormat | None, tokenizer: Tokenizer) -> bool:
    """Brings tools into the form that templates take, and leaves out what asks for none of them. Whether a call is
    forced: the body then has a grammar of it."""
    choice = body.pop("tool_choice", "auto")
    if not isinstance(body.get("parallel_tool_calls", None), (bool, NoneType)):
        raise ApiError(400, "parallel_tool_calls must be true or false", param="parallel_tool_calls")
    if choice == "none":
        body.pop("tools", None)
    tools = body.get("tools")
    if tools == []:
        del body["tools"]
    elif isinstance(tools, list):
        _check_tools(tools)
        if form is None:
            message = "the form in which this model calls tools is not known here; leave tools out"
            raise ApiError(400, message, param="tools")
    wanted = _forced(choice, tools if isinstance(tools, list) else [])
    if not wanted or form is None:
        return False
    guided = next((key for key in GUIDE_KEYS if key in body), None)
    if guided is not None:
        raise _no_choice(f"a call has a form of its own; leave {guided} out")
    several = choice == "required" and body.get("parallel_tool_calls") is not False
    try:
        body["guided_grammar"] = tool_grammar(form, wanted, tokenizer, several)
    except PromptError as error:
        raise ApiError(400, str(error), param="tools") from None
    return True


def _forced(choice: object, tools: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The tools of which one must be called; none where nothing is forced."""
    if choice in ("none", "auto"):
        return []
    name = None
    if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("function"), dict):
        name = choice["function"].get("name")
    if choice != "required" and not isinstance(name, str):
        form = '{"type": "function", "function": {"name": ...}}'
        raise _no_choice(f'must be "none", "auto", "required" or {form}')
    found = [tool for tool in tools if name is None or tool["function"]["name"] == name]
    if not found:
        raise _no_choice("needs tools" if name is None else f"there is no tool {name[:80]!r} in tools")
    return found


def _no_choice(message: str) -> ApiError:
    return ApiError(400, f"tool_choice: {message}", param="tool_choice")


def _check_tools(tools: Sequence[object]) -> None:
    for tool in tools:
        function = (
            tool.get("function") if isinstance(tool, dict) and tool.get("type", "function") == "function" else None
        )
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise ApiError(400, 'tools: each is {"type": "function", "function": {"name": ...}}', param="tools")
