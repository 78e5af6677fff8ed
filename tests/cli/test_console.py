"""The displays: plain lines where there is no terminal, a live one on a real (pseudo) terminal."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console
from support import forked
from support.programs import FAKE

from pipeline.cli.console import PlainDisplay
from pipeline.cli.display import MAX_WARNINGS, Display, blocks_for
from pipeline.cli.live import Bars
from pipeline.cli.summary_table import ASCII_BLOCKS, BLOCKS
from pipeline.printing import printable

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def on_terminal(*arguments, env=None, streams=("stdout", "stderr")):
    """Runs the command line with `streams` on a terminal of 80 columns; exit code and what the terminal got."""
    terminal, end = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"} | (env or {})
    pipe, rest = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    outputs = [end if name in streams else rest for name in ("stdout", "stderr")]
    process = forked.start("support.fakes", [*map(str, arguments)], environment, nothing, *outputs)
    for each in (nothing, end, rest):
        os.close(each)
    shown = b""
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    with open(pipe, "rb") as stream:
        other = stream.read()
    return forked.wait(process), shown.decode("utf-8").replace("\r\n", "\n"), other.decode("utf-8")


def test_story_on_a_terminal():
    code, shown, _ = on_terminal("--seed", 1, env={"FAKE_SLEEP": "0.02"})
    plain = ESCAPES.sub("", shown)
    assert code == 0 and "\x1b[" in shown
    assert "loading storyteller" in plain and "prefill" in plain and re.search(r"decode .* \d+/512 +\d+ tok/s", plain)
    assert "Once upon a time, there was a fox 🦊 who lived by the river." in plain
    final = plain[plain.rindex("The end.") :]
    assert "command buffers per token  1" in final and "peak memory" in final and "│" in final
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor comes back


def test_text_stays_within_the_width():
    code, shown, _ = on_terminal("--prompt", "word " * 60)
    assert code == 0 and max(len(line) for line in ESCAPES.sub("", shown).splitlines()) <= 80


def test_several_prompts_on_a_terminal(tmp_path):
    prompts = tmp_path / "p.txt"
    prompts.write_bytes(b"first\n\xff\nthird\n")
    code, shown, _ = on_terminal("--prompts", prompts, "--batch-size", 2, env={"FAKE_SLEEP": "0.01"})
    plain = ESCAPES.sub("", shown)
    assert code == 1 and "prompts" in plain
    assert "p.txtline2:notUTF-8" in "".join(plain.split())  # the path's length says where the line breaks
    assert plain.index("first there was a fox") < plain.index("third there was a fox") and "1 of 3 prompts" in plain


def test_rows_go_to_the_file_and_progress_to_the_terminal(tmp_path):
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("first\nsecond\n")
    code, shown, _ = on_terminal("--prompts", prompts, "--out", out, env={"FAKE_SLEEP": "0.01"})
    assert (
        code == 0 and "there was a fox" not in shown and "decode" in shown and len(out.read_bytes().splitlines()) == 2
    )


def test_json_is_alone_on_standard_output():
    code, shown, out = on_terminal("--json", streams=("stderr",), env={"FAKE_SLEEP": "0.01"})
    assert code == 0 and out.startswith("{\n") and out.endswith("}\n") and "decode" in shown
    assert "fox" not in shown and "peak memory" not in shown


@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_dumb_terminal(streams):
    code, shown, other = on_terminal("--seed", 1, env={"TERM": "dumb"}, streams=streams)
    assert code == 0 and "\x1b" not in shown + other and "The end." in shown + other and "tok/s" in shown + other


def test_text_in_a_pipe_is_plain_though_errors_go_to_a_terminal():
    code, shown, out = on_terminal("--seed", 1, streams=("stderr",))
    assert code == 0 and "\x1b" not in shown + out and out.startswith("Once upon a time,") and "peak memory" in shown


def test_no_color():
    _, shown, _ = on_terminal("--seed", 1, env={"NO_COLOR": "1"})
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)


def test_control_characters_do_not_reach_a_terminal():
    assert printable("a\x1b[2Jb\x07\x00c\r\x9bd\ne\tf\u202e") == "a\ufffd[2Jb\ufffd\ufffdc\ufffd\ufffdd\ne\tf\ufffd"
    assert printable("日本 🦊 é\u00a0") == "日本 🦊 é\u00a0"
    code, shown, _ = on_terminal("--prompt", "a\x1b]0;title\x07b")
    assert code == 0 and "\x1b]0" not in shown and "title" in shown


def test_interrupted_terminal_gets_its_cursor_back():
    code, shown, _ = on_terminal("--prompts", "/dev/null")
    assert code == 2 and "onebuf: error: /dev/null: no prompts" in shown
    code, shown, _ = on_terminal("--model", "absent")
    assert code == 2 and shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_a_terminal_that_goes_away_ends_no_batch(tmp_path):
    """The rows are what counts: the progress that it would show is not."""
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("a\n" * 40)
    terminal, end = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "FAKE_SLEEP": "0.0005"}
    command = [sys.executable, FAKE, "--prompts", str(prompts), "--out", str(out)]
    process = subprocess.Popen(command, env=environment, stdout=end, stderr=end)
    os.close(end)
    while not (out.exists() and out.stat().st_size):
        assert process.poll() is None
        os.read(terminal, 65536)
    os.close(terminal)
    assert process.wait(timeout=60) == 0 and len(out.read_bytes().splitlines()) == 40


def plain(streams, text=True):
    out, err = io.StringIO(), io.StringIO()
    return PlainDisplay(out if text else None, err, streams), out, err


def test_plain_stream():
    display, out, err = plain(streams=True)
    display.loading("x")
    display.start(1, 2, 3)
    display.prompt("a")
    for piece in ("b", "", "c"):
        display.token(piece)
    display.rest("d")
    display.row({"prompt": "a", "text": "bcd"})
    display.close()
    display.close()
    assert out.getvalue() == "abcd\n" and err.getvalue() == ""


def test_plain_rows():
    display, out, _ = plain(streams=False)
    display.token("never shown")
    display.row({"prompt": "a", "text": "b"})
    display.row({"prompt": None, "text": "", "error": "why"})
    display.close()
    assert out.getvalue() == "ab\n\n"


def test_warnings_end_after_some():
    display, out, err = plain(streams=False, text=False)
    for number in range(MAX_WARNINGS + 5):
        display.warn(f"line {number}")
    assert err.getvalue().count("\n") == MAX_WARNINGS and out.getvalue() == ""


def test_weights_on_their_way_to_a_device():
    bars = Bars(Console(file=io.StringIO()))
    bars.loading("x")
    bars.placing(3 << 20, 12 << 20)
    (task,) = bars.progress.tasks
    assert (task.description, task.percentage, task.fields["count"]) == ("loading x", 25, "3.0 MiB of 12.0 MiB")


def test_bars_of_prompts_that_nobody_has_counted():
    bars = Bars(Console(file=io.StringIO()))
    bars.loading("x")
    bars.start(None, 0, 0)
    bars.left("about 3 min left")
    bars.prefilled(5)
    bars.done(1, 8)
    shown = {task.description: task.fields for task in bars.progress.tasks}
    assert shown["prompts"]["count"] == "1" and shown["prompts"]["rate"] == "about 3 min left"
    assert shown["prefill"]["count"] == "5" and shown["decode"]["count"] == "0"


def test_base_display_shows_nothing(capsys):
    display = Display()
    for name, arguments in {"loading": "x", "warn": "x", "token": "x", "rest": "x", "prompt": "x", "row": {}}.items():
        getattr(display, name)(arguments)
    display.placing(1, 2)
    display.summary({})
    assert capsys.readouterr() == ("", "")


def test_blocks():
    assert blocks_for(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == BLOCKS
    assert blocks_for(io.TextIOWrapper(io.BytesIO(), encoding="latin-1")) == ASCII_BLOCKS
    assert blocks_for(object()) == ASCII_BLOCKS
