"""A weights file that is cut short while it is mapped: one line names it, and nothing else is mistaken for that."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from support.paths import ROOT

from pipeline.checkpoints import builtin_model

SAID = "was cut short, or cannot be read any more, while it was in use; make it whole, and start again"
LINE = f"onebuf: error: {{}}: {SAID}\n"

LIBRARY = """
import faulthandler, mmap, os, sys
device, model, handler = sys.argv[1:]
if handler == "traceback": faulthandler.enable(all_threads=False)
import pipeline as p
loaded = p.load_model(p.open_checkpoint(model), device=device)
generator = p.Generator(loaded)
os.truncate(os.path.join(model, "model.safetensors"), 4096)
print("cut", flush=True)
list(generator.run([p.Request(0, (0, 819), max_tokens=1)]))
"""

ANOTHER = """
import faulthandler, mmap, os, sys
model, handler = sys.argv[1:]
if handler == "traceback": faulthandler.enable(all_threads=False)
import pipeline as p
loaded = p.load_model(p.open_checkpoint(model), device="cpu")
with open(os.path.join(model, "other"), "wb+") as file:
    file.write(bytes(8192))
    file.flush()
    other = mmap.mmap(file.fileno(), 8192)
    file.truncate(0)
print("cut", flush=True)
other[5000]
"""


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(builtin_model(), tmp_path / "a model")


def ended(code, *arguments):
    """(exit code, standard error) of a program that uses the library and gets as far as the cut."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OB_THREADS": "2"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == "cut\n", done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_a_program_names_the_file_and_exits_with_2(model, threads):
    file = model / "model.safetensors"
    command = [sys.executable, "-m", "pipeline.run", "--model", model, "--prompt", "Once", "--max-tokens", "250"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    environment = {**os.environ, "OB_THREADS": str(threads)}
    with subprocess.Popen([*map(str, command), "--temperature", "0"], env=environment, **options) as process:
        assert process.stdout.read(5)
        os.truncate(file, 4096)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (2, LINE.format(file))


def test_a_program_of_others_gets_the_line_and_the_signal(model):
    assert ended(LIBRARY, "cpu", model, "none") == (-signal.SIGBUS, LINE.format(model / "model.safetensors"))


def test_a_device_with_memory_of_its_own_needs_the_file_no_more(model):
    assert ended(LIBRARY, "checker", model, "none") == (0, "")


def test_an_earlier_handler_is_called_too(model):
    code, err = ended(LIBRARY, "cpu", model, "traceback")
    assert code == -signal.SIGBUS
    assert err.startswith(LINE.format(model / "model.safetensors")) and "Fatal Python error: Bus error" in err


def test_another_file_is_not_ours(model):
    assert ended(ANOTHER, model, "none") == (-signal.SIGBUS, "")
    code, err = ended(ANOTHER, model, "traceback")
    assert code == -signal.SIGBUS and err.startswith("Fatal Python error: Bus error")


def test_control_characters_of_the_name_do_not_reach_the_terminal(model):
    strange = model.rename(model.with_name("a\x1b[31mred\nmodel"))
    code, err = ended(LIBRARY, "cpu", strange, "none")
    assert (code, err) == (
        -signal.SIGBUS,
        LINE.format(str(strange / "model.safetensors").translate({27: "?", 10: "?"})),
    )
