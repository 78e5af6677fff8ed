"""Programs of the package as real processes: `run` starts the real one; `fake` the same with the generator of fakes.py,
where a test needs to slow it down or to make it fail."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.run import main
from support import fakes
from support.paths import ROOT

FAKE = Path(__file__).with_name("fakes.py")


def heed_interrupts():
    """In a child before its program starts: Ctrl-C interrupts it, though the tests may run where SIGINT is ignored (in
    the background of a script), which children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(program, arguments, env=None, **options):
    environment = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "OB_THREADS")} | (env or {})
    environment["PYTHONPATH"] = str(ROOT)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, preexec_fn=heed_interrupts, **pipes)


def finish(process, data=None):
    out, err = process.communicate(data, timeout=60)
    return process.returncode, out.decode("utf-8"), err.decode("utf-8")


def run(*arguments, data=None, env=None):
    stdin = {"stdin": subprocess.PIPE} if data is not None else {}
    return finish(start(["-m", "pipeline.run"], arguments, env, **stdin), data)


def fake(*arguments, env=None):
    return finish(start([FAKE], arguments, env))


def within(capsys, *arguments):
    """`fake` in this process, where a test may change what is slow to reach."""
    code = main([*map(str, arguments)], engine=fakes)
    return code, *capsys.readouterr()


def rows_of(file):
    content = Path(file).read_bytes()
    assert not content or content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def refuse(*arguments, words, data=None, program=run):
    code, out, err = program(*arguments, **({"data": data} if data is not None else {}))
    assert code == 2 and out == ""
    assert err.startswith("onebuf: error: ") and err.count("\n") == 1
    for word in words:
        assert word in err
    return err


def certain(case):
    """The golden tokens before the first near tie of the top two, which rounding may decide."""
    gaps = [top[0] - top[1] for top in case["top5_logprobs"]]
    return case["tokens"][: next((i for i, gap in enumerate(gaps) if gap <= 0.01), len(gaps))]
