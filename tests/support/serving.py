"""Servers for tests: the real program, or the application in a thread behind a driver that says what a test wants."""

import asyncio
import contextlib
import re
import socket
import threading
from types import SimpleNamespace

from pipeline.generation.requests import Finished, Token
from pipeline.serving.app import make_app
from pipeline.serving.options import Options, parse_arguments
from pipeline.serving.running import _Server
from pipeline.serving.service import Service
from support.programs import start


@contextlib.contextmanager
def program(*arguments, env=None):
    """`python -m pipeline.serve` at a free port, as (address, process, lines of its log so far)."""
    process = start(["-m", "pipeline.serve"], ["--port", 0, *arguments], env)
    lines = []
    try:
        while not (found := re.search(r"at (http://\S+),", lines[-1] if lines else "")):
            line = process.stderr.readline().decode()
            assert line, lines
            lines.append(line)
        threading.Thread(target=lambda: lines.extend(map(bytes.decode, process.stderr)), daemon=True).start()
        yield found[1], process, lines
    finally:
        process.kill()
        process.wait()


class Script:
    """A driver whose model says a text, token by token, whatever it is asked."""

    def __init__(self, tokenizer, says, context=4000):
        self.tokenizer, self.says = tokenizer, says
        model = SimpleNamespace(vocab_size=tokenizer.vocab_size, context=context)
        self.scheduler = SimpleNamespace(model=model, context=context, batch_size=1)
        self.asked = []

    def submit(self, request, listener, post=None):
        self.asked.append(request)
        tokens = self.tokenizer.encode(self.says, complete=True)
        for token in tokens:
            post(listener, Token(0, token, -1.0))
        post(listener, Finished(0, list(tokens), [-1.0] * len(tokens), "stop"))
        return SimpleNamespace()

    def cancel(self, handle):
        pass


@contextlib.contextmanager
def application(tokenizer, chat, driver, *arguments):
    """The address of the application, in a thread."""
    options: Options = parse_arguments(["--port", "0", "--name", "m", *arguments])
    service = Service(options, "m", tokenizer, chat, driver, lambda line: None)
    listening = socket.create_server(("127.0.0.1", 0))
    server = _Server(make_app(service, options), options)._server
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
