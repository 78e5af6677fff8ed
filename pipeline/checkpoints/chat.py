"""A checkpoint's chat templates: a conversation as the text that the model was trained on.

A template is a program in Jinja that came with the model. It runs in a process of its own, which keeps it from files
and ends it when it loops: see chat_worker.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import CheckpointError, PromptError
from ..printing import brief, one_line
from .chat_end import cut_at_mark, with_mark
from .files import read_file
from .tensor_info import listed

__all__ = ["DEFAULT", "Chat", "read_template"]

DEFAULT, TOOL_USE = "default", "tool_use"
MAX_TEMPLATE_BYTES = 1 << 22
MAX_STOPPED = 3  # renderings that take too long; no more are tried then, because each one takes seconds
_WORKER = Path(__file__).with_name("chat_worker.py")
_NO_JINJA, _NO_MEMORY = 3, 4  # exit codes of chat_worker.py, which is not imported because it loads Jinja


class Chat:
    """The templates of one checkpoint, by name; a context manager that ends the process which renders them.

    source      for messages: the file that the templates come from
    templates   name -> template; most checkpoints have "default" alone
    special     the texts of the special tokens by the names that templates have for them: "bos_token" -> "<s>"
    most_stopped   renderings that take too long, after which no more are tried; None where conversations come from
                many, and those of one are not to keep the others from theirs
    """

    def __init__(self, source: Path | str, templates: Mapping[str, str], special: Mapping[str, str]) -> None:
        self.source = str(source)
        self.templates = dict(templates)
        self.special = dict(special)
        self._worker: subprocess.Popen[bytes] | None = None
        self.most_stopped: int | None = MAX_STOPPED
        self._stopped = 0
        self._asking = threading.Lock()  # one conversation goes through the process at a time

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the process early, so that it is ready when it is needed. CheckpointError without a template."""
        if not self.templates:
            raise self._none()
        self._running()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._worker is None or self._worker.poll() is not None:
            self.close()
            self._worker = subprocess.Popen(
                _command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C does not reach it
            )
        return self._worker

    def template(self, name: str | None = None) -> str:
        """The template of that name, without one the default. CheckpointError where there is none."""
        if not self.templates:
            raise self._none()
        wanted = name or (DEFAULT if len(self.templates) > 1 else next(iter(self.templates)))
        if wanted not in self.templates:
            raise CheckpointError(
                f"{self.source}: has no chat template {brief(wanted)}, but {listed(map(brief, self.templates))}"
            )
        return self.templates[wanted]

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        name: str | None = None,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool | str = False,
        **variables: object,
    ) -> str:
        """The text of a conversation.

        Args:
            messages: each with "role" and "content".
            name: which template; None is the default one, or with tools the one for tool use, where there is one.
            add_generation_prompt: the text ends with the words that an answer begins with; the default is yes, and
                no where the last message is continued.
            continue_final_message: the text ends where the last message does, so that the model goes on with it. A
                text instead of True is what is continued of the message, in place of its content.
            variables: further names that the template may ask for (`tools`, `enable_thinking`).

        PromptError where the template does not take the conversation, CheckpointError where it fails or is stopped.
        """
        known = {"tools": None, "documents": None} | self.special | variables
        if add_generation_prompt is None:
            add_generation_prompt = not continue_final_message
        last = ""
        if continue_final_message:
            key = continue_final_message if isinstance(continue_final_message, str) else "content"
            messages, last = with_mark(messages, key)
        known |= {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        if name is None and variables.get("tools") is not None and TOOL_USE in self.templates:
            name = TOOL_USE
        with self._asking:
            answer = self._ask({"template": self.template(name), "variables": known})
        if "text" in answer:
            text = str(answer["text"])
            return cut_at_mark(text, last) if continue_final_message else text
        reason = one_line(answer["error"])
        if answer.get("refused"):
            raise PromptError(f"the chat template does not take this conversation: {reason}")
        raise self._failed(f"{reason}; use another version of the file")

    def close(self) -> None:
        """Ends the process. The next rendering starts another one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            worker.communicate()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.most_stopped is not None and self._stopped >= self.most_stopped:
            raise self._failed(
                f"was stopped {self._stopped} times because it took more than 5 s; it is not tried again"
            )
        try:
            line = json.dumps(request).encode() + b"\n"
        except RecursionError:
            raise PromptError("the conversation is nested too deeply") from None
        worker = self._running()
        into, out = cast(BinaryIO, worker.stdin), cast(BinaryIO, worker.stdout)  # pipes, as _running asks for
        try:
            into.write(line)
            into.flush()
        except BrokenPipeError:
            pass  # it ended: the empty answer says so
        line = out.readline()
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = worker.wait()
        self.close()
        if status in (-signal.SIGPROF, -signal.SIGALRM):
            self._stopped += 1
            raise self._failed("was stopped because it took more than 5 s; it may loop without end")
        if status == _NO_JINJA:
            raise self._failed("cannot be run: Jinja2 3.1 is needed; pip install jinja2")
        if status == _NO_MEMORY:
            raise PromptError("the conversation is too large for the memory of the process that renders it")
        raise self._failed(f"ended the process that renders it (status {status}); use another version of the file")

    def _failed(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.source}: chat template: {what}")

    def _none(self) -> CheckpointError:
        return CheckpointError(f"{self.source}: has no chat template; give prompts as texts, without --chat")


def _command() -> list[str]:
    """The command of the process: isolated, so that files of the current folder and PYTHONPATH are not executed.

    Jinja may be where an isolated interpreter does not look, such as in the folder of the user's own packages. Its
    place is given for that case.
    """
    folders = []
    for package in ("jinja2", "markupsafe"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            folder = os.path.dirname(os.path.abspath(list(spec.submodule_search_locations)[0]))
            if folder != os.getcwd():
                folders.append(folder)
    return [sys.executable, "-I", str(_WORKER), *folders]


def read_template(file: Path) -> str:
    """The template in `file`."""
    try:
        return read_file(file, MAX_TEMPLATE_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: not UTF-8 at byte {error.start}; download it again") from error
