"""The command line of `python -m pipeline.serve`, turned into checked options."""

from __future__ import annotations

import argparse
import ipaddress
import os
from dataclasses import dataclass

from ..cli.program import Parser, file_path
from ..cli.settings import CheckedSettings, Settings
from ..errors import UsageError
from ..generation.settings import OWN_MEMORY_BATCH, PROMPT_ROWS
from ..graph.formats import CACHE_DTYPES
from ..host import DEVICES

__all__ = ["BATCH", "Options", "is_loopback", "parse_arguments"]

BATCH = 16  # texts at the same time on a device that shares the host's memory
HOST, PORT = "127.0.0.1", 8000
REQUESTS, BODY, DRAIN = 256, 8, 30.0
EPILOG = """\
exit codes: 0 ended by SIGTERM or Ctrl-C, after the requests that ran; 2 it could not start, one line says why
"""


@dataclass(frozen=True)
class Options:
    """settings: of the model and of texts that do not say. requests: texts that run or wait at the same time, above
    which there is no room for more. body: the most bytes of a request. drain: seconds that requests have at the end."""

    settings: CheckedSettings
    host: str = HOST
    port: int = PORT
    name: str | None = None
    api_key: str | None = None
    requests: int = REQUESTS
    body: int = BODY << 20
    drain: float = DRAIN


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server at `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_arguments(arguments: list[str] | None = None) -> Options:
    """Checked options from `arguments` (default: the process's own). UsageError says what to fix."""
    values = vars(_parser().parse_args(arguments))
    own = {name: values.pop(name) for name in ("host", "port", "name", "api_key", "max_requests", "max_body", "drain")}
    settings = Settings(**values, prompts="-").checked()
    key = own["api_key"] if own["api_key"] is not None else os.environ.get("OB_API_KEY")
    if key is not None and (not key or not key.isascii() or not key.isprintable() or " " in key):
        raise UsageError("--api-key: must be one word of printable ASCII characters")
    for name, least, most in (("port", 0, 65535), ("max_requests", 1, 10**6), ("max_body", 1, 1024)):
        if not least <= own[name] <= most:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} {own[name]}: impossible; give a whole number from {least} to {most:,}")
    if not 0 <= own["drain"] <= 86400:
        raise UsageError(f"--drain {own['drain']:g}: impossible; give seconds from 0 to 86,400")
    if own["name"] is not None and not own["name"].strip():
        raise UsageError("--name: is empty; leave it out, or give what clients call the model")
    return Options(
        settings, own["host"], own["port"], own["name"], key, own["max_requests"], own["max_body"] << 20, own["drain"]
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "serve",
        description="Serve a model to OpenAI's clients, with a page to talk to it. Needs pip install onebuf[serve].",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--model",
        metavar="PATH",
        type=file_path,
        help="checkpoint folder, .gguf file, smollm2, or org/name on the Hugging Face hub (default: the built-in "
        "storyteller)",
    )
    add("--host", metavar="ADDRESS", default=HOST, help="where to listen (default: %(default)s, this machine alone)")
    add("--port", metavar="N", type=int, default=PORT, help="0 takes a free one (default: %(default)s)")
    add("--name", metavar="NAME", help="what clients call the model (default: its folder or file)")
    add("--api-key", metavar="KEY", help="what clients must send (default: OB_API_KEY, else nothing)")
    add(
        "--max-requests",
        metavar="N",
        type=int,
        default=REQUESTS,
        help="texts that run or wait at the same time; more are refused with 429 (default: %(default)s)",
    )
    add("--max-body", metavar="MIB", type=int, default=BODY, help="of a request; larger: 413 (default: %(default)s)")
    add(
        "--drain",
        metavar="S",
        type=float,
        default=DRAIN,
        help="seconds that requests have to end after SIGTERM (default: %(default)g)",
    )
    add("--max-tokens", metavar="N", type=int, help="where a request does not say (default: what the context leaves)")
    add(
        "--temperature",
        metavar="T",
        type=float,
        default=1.0,
        help="where a request does not say (default: %(default)g)",
    )
    add("--seed", metavar="S", type=int, help="for requests without one (default: random)")
    add(
        "--batch-size",
        metavar="N",
        type=int,
        help=f"texts decoded together (default: {BATCH}; {OWN_MEMORY_BATCH} where the device has its own memory)",
    )
    add("--context", metavar="N", type=int, help="positions of prompt and text together (default: what memory allows)")
    add(
        "--prompt-rows",
        metavar="N",
        type=int,
        default=PROMPT_ROWS,
        help="most tokens of prompts in a step beside texts that are decoded (default: %(default)s)",
    )
    add("--device", metavar="NAME", default="auto", help=f"{', '.join(DEVICES)} (default: %(default)s)")
    add("--threads", metavar="N", type=int, default=0, help="of the cpu device (default: OB_THREADS or all cores)")
    add("--isa", metavar="NAME", help="instruction set of the cpu device (default: OB_ISA or the processor's best)")
    add("--kv-cache", metavar="TYPE", default=CACHE_DTYPES[0], help="f16, f32 or q8 (default: %(default)s)")
    return parser
