"""A checkpoint's chat templates: a conversation as the text that the model was trained on.

A template is a program in Jinja that came with the model. It runs in a process of its own, which keeps it from files
and ends it when it loops: see chat_worker.py.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import CheckpointError, PromptError
from ..printing import brief, one_line
from .files import read_file
from .tensor_info import listed

__all__ = ["DEFAULT", "Chat", "read_template"]

DEFAULT = "default"
MAX_TEMPLATE_BYTES = 1 << 22
_WORKER = Path(__file__).with_name("chat_worker.py")


class Chat:
    """The templates of one checkpoint, by name; a context manager that ends the process which renders them.

    source      for messages: the file that the templates come from
    templates   name -> template; most checkpoints have "default" alone
    special     the texts of the special tokens by the names that templates have for them: "bos_token" -> "<s>"
    """

    def __init__(self, source: Path | str, templates: Mapping[str, str], special: Mapping[str, str]) -> None:
        self.source = str(source)
        self.templates = dict(templates)
        self.special = dict(special)
        self._worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the process early, so that it is ready when it is needed. CheckpointError without a template."""
        self.template()
        self._running()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._worker is None or self._worker.poll() is not None:
            self.close()
            self._worker = subprocess.Popen(
                [sys.executable, "-P", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C does not reach it
            )
        return self._worker

    def template(self, name: str | None = None) -> str:
        """The template of that name, without one the default. CheckpointError where there is none."""
        if not self.templates:
            raise CheckpointError(f"{self.source}: has no chat template; use it without --chat")
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
        add_generation_prompt: bool = True,
        **variables: object,
    ) -> str:
        """The text of a conversation.

        Args:
            messages: each with "role" and "content".
            name: which template; None is the default one.
            add_generation_prompt: the text ends with the words that an answer begins with.
            variables: further names that the template may ask for (`tools`, `enable_thinking`).

        PromptError where the template does not take the conversation, CheckpointError where it fails or is stopped.
        """
        known = {"tools": None, "documents": None} | self.special | variables
        known |= {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        answer = self._ask({"template": self.template(name), "variables": known})
        if "text" in answer:
            return str(answer["text"])
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
        worker = self._running()
        into, out = cast(BinaryIO, worker.stdin), cast(BinaryIO, worker.stdout)  # pipes, as _running asks for
        try:
            into.write(json.dumps(request).encode() + b"\n")
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
            raise self._failed("was stopped because it took more than 5 s; it may loop without end")
        if status == 1:
            raise self._failed("cannot be run: Jinja2 3.1 is needed; pip install jinja2")
        raise self._failed(f"ended the process that renders it (status {status}); use another version of the file")

    def _failed(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.source}: chat template: {what}")


def read_template(file: Path) -> str:
    """The template in `file`."""
    try:
        return read_file(file, MAX_TEMPLATE_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: not UTF-8 at byte {error.start}; download it again") from error
