"""Renders chat templates, which are programs that came with a model, where they can do no harm.

chat.py starts this file as a script, in an isolated process of its own. Its arguments are folders that may have Jinja,
where the interpreter itself finds none. Jinja's sandbox keeps a template from files and from
Python's insides, and the operating system ends a rendering that takes too long or wants too much memory. Standard input
has one request per line, {"template": text, "variables": object}; each is answered by one line, {"text": text} or
{"error": why, "refused": whether the template said so itself}.
"""

import json
import resource
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, NoReturn

NO_JINJA, NO_MEMORY = 3, 4  # exit codes
if __name__ == "__main__":
    sys.path += sys.argv[1:]
try:
    from jinja2 import TemplateError, TemplateSyntaxError, nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace
except ImportError:
    if __name__ == "__main__":
        sys.exit(NO_JINJA)
    raise

SECONDS, PATIENCE = 5.0, 60.0  # of the processor and by the clock, for one rendering; real ones take milliseconds
MEMORY = 1 << 28  # bytes of address space, of which Python and Jinja take some 30 MB
CHARACTERS = 1 << 24  # of a rendered text
MESSAGE = 4000  # characters of an error, which may hold whatever the template likes


class Refused(TemplateError):
    """The error of a template's raise_exception: the conversation is not one that it takes."""


class Generation(Extension):
    """{% generation %} marks the assistant's words, for training; here it stands for the text that it holds."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class TemplateNamespace(Namespace):
    """Jinja's namespace without names that start with an underscore, which Python's insides have."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: object) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def make_environment() -> ImmutableSandboxedEnvironment:
    """The environment that templates are written for (transformers' apply_chat_template).

    It has no loader: a template can include, import and extend nothing."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.globals.pop("lipsum")
    environment.globals.update(
        raise_exception=_raise,
        strftime_now=lambda form: datetime.now().strftime(form),
        namespace=TemplateNamespace,
        dict=lambda *args, **kwargs: dict(*args, **kwargs),
    )
    environment.filters["tojson"] = _to_json
    return environment


def _raise(message: object) -> NoReturn:
    raise Refused(str(message))


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter tojson, without the escapes for HTML that Jinja's own has."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def render(environment: ImmutableSandboxedEnvironment, template: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    try:
        pieces: list[str] = []
        count = 0
        for piece in environment.from_string(template).generate(**variables):
            count += len(piece)
            if count > CHARACTERS:
                return {"error": f"makes more than {CHARACTERS:,} characters"}
            pieces.append(piece)
        return {"text": "".join(pieces)}
    except Refused as error:
        return {"error": str(error)[:MESSAGE], "refused": True}
    except TemplateSyntaxError as error:
        return {"error": f"line {error.lineno}: {error.message}"[:MESSAGE]}
    except MemoryError:
        pass
    except RecursionError:
        return {"error": "calls itself without end"}
    except Exception as error:  # a template can raise anything
        line = _line(error.__traceback__)
        return {"error": f"{f'line {line}: ' if line else ''}{_message(error)}"[:MESSAGE]}
    return {"error": f"needs more memory than {MEMORY >> 20} MB"}


def _message(error: Exception) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # the text of what the template raised may be too much, too
        return type(error).__name__


def _line(traceback: TracebackType | None) -> int | None:
    """The last line of the template that the error came through."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _limit(what: int, most: int) -> None:
    """Lowers a limit, where this system lets one."""
    try:
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    except (ValueError, OSError):
        pass  # macOS refuses some; the time is limited all the same


def _set_timers(processor: float, clock: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, processor)
    signal.setitimer(signal.ITIMER_REAL, clock)


def main() -> None:
    """Answers requests until standard input ends."""
    for end in (signal.SIGPROF, signal.SIGALRM):  # the timers' signals end the process in the middle of anything
        signal.signal(end, signal.SIG_DFL)
    environment = make_environment()
    _limit(resource.RLIMIT_AS, MEMORY)
    _limit(resource.RLIMIT_CORE, 0)
    for line in sys.stdin.buffer:
        _set_timers(SECONDS, PATIENCE)
        answer = answer_to(environment, line)
        _set_timers(0, 0)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def answer_to(environment: ImmutableSandboxedEnvironment, line: bytes) -> str:
    """The line that answers a request's line."""
    try:
        request = json.loads(line)
    except RecursionError:
        return json.dumps({"error": "the conversation is nested too deeply", "refused": True})
    return json.dumps(render(environment, request["template"], request["variables"]))


if __name__ == "__main__":
    try:
        main()
    except MemoryError:
        sys.exit(NO_MEMORY)
