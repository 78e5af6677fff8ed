"""Programs of the package as processes: `run` is the real one; `fake` the same with the generator of fakes.py, where a
test needs to slow it down or to make it fail. Both are forked (support/forked.py). `start` begins a fresh process, for
tests of its start and its end; `fresh` runs the real program in one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.run import main
from support import fakes, forked
from support.paths import ROOT

FAKE = Path(__file__).with_name("fakes.py")


def heed_signals():
    """In a child before its program starts: Ctrl-C and the end of a terminal end it, though the tests may run where
    these are ignored (in the background of a script, under nohup), which children inherit."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def environment_of(env):
    environment = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "OB_THREADS")} | (env or {})
    return environment | {"PYTHONPATH": str(ROOT)}


def start(program, arguments, env=None, **options):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment_of(env), preexec_fn=heed_signals, **pipes)


def finish(process, data=None):
    out, err = process.communicate(data, timeout=60)
    return process.returncode, out.decode("utf-8"), err.decode("utf-8")


def fresh(*arguments, data=None, env=None, module="pipeline.run"):
    """A program in a fresh interpreter: exit code, standard output and error."""
    stdin = {"stdin": subprocess.PIPE} if data is not None else {}
    program = [FAKE] if module == fakes.__name__ else ["-m", module]
    return finish(start(program, arguments, env, **stdin), data)


def run(*arguments, data=None, env=None, module="pipeline.run"):
    """The same, forked where the variables of `env` allow it."""
    if not forked.can_run(env or {}):
        return fresh(*arguments, data=data, env=env, module=module)
    code, out, err = forked.run(module, [*map(str, arguments)], environment_of(env), data)
    return code, out.decode("utf-8"), err.decode("utf-8")


def fake(*arguments, env=None):
    return run(*arguments, env=env, module=fakes.__name__)


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
