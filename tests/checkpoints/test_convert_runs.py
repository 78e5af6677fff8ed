"""python -m pipeline.convert as a program: what it writes runs, and no end of a run leaves what looks complete and is
not."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fuzz import tiny
from support.converting.quiet import Quiet
from support.converting.sources import SMALL, small_shapes, write_safetensors, write_source
from support.paths import ROOT
from support.programs import fresh, heed_signals, run

import pipeline as p
from pipeline import convert
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.converting import conversion, journal, writer
from pipeline.converting.settings import Settings
from pipeline.errors import UsageError
from pipeline.models import load_model, surveyed


def program(*arguments, start=run):
    return subprocess.CompletedProcess(arguments, *start(*arguments, module="pipeline.convert"))


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "hf", SMALL, small_shapes())


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def storyteller(folder: Path) -> Path:
    """The built-in model as Hugging Face would store it: dequantised, in f32, expert by expert."""
    folder.mkdir()
    with p.open_checkpoint(builtin_model()) as checkpoint:
        tensors = {}
        for name in checkpoint.tensors:
            module = name.removesuffix(".weight")
            if name.endswith((".scales", ".biases")):
                continue
            scheme = checkpoint.quantization(module) if f"{module}.scales" in checkpoint.tensors else None
            values = checkpoint.view(name) if scheme is None else dequantised(checkpoint, module, scheme)
            dtype = "BF16" if values.dtype == np.uint16 else "F32"
            if ".switch_mlp." in name:
                before, projection = module.split(".switch_mlp.")
                tensors |= {f"{before}.experts.{e}.{projection}.weight": (dtype, values[e]) for e in range(len(values))}
            else:
                tensors[name] = (dtype, values)
        config = {key: value for key, value in checkpoint.config.items() if not key.startswith("quantization")}
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (builtin_model() / name).exists():
            shutil.copy(builtin_model() / name, folder)
    return folder


def dequantised(checkpoint, module, scheme) -> np.ndarray:
    words = checkpoint.view(f"{module}.weight")
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 1), axis=1, bitorder="little")
    codes = (bits.reshape(-1, scheme.bits) * (1 << np.arange(scheme.bits))).sum(-1).reshape(*words.shape[:-1], -1)
    scale, bias = (
        (checkpoint.view(f"{module}.{part}").astype(np.uint32) << 16).view(np.float32) for part in ("scales", "biases")
    )
    return codes.astype(np.float32) * np.repeat(scale, scheme.group_size, -1) + np.repeat(bias, scheme.group_size, -1)


def test_the_story_goes_on(tmp_path):
    """The built-in model, dequantised and converted again in 8 bits, tells the story that it tells."""
    done = program(storyteller(tmp_path / "hf"), tmp_path / "out", "--bits", 8, start=fresh)
    assert done.returncode == 0 and done.stderr == "onebuf: model.safetensors (1 of 1)\n", done.stderr
    assert str(tmp_path / "out") in done.stdout and "times smaller" in done.stdout
    names = {str(name) for name in contents(tmp_path / "out")}
    assert {"config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"} <= names
    assert not any("unfinished" in name for name in names)
    stories = [
        run("--model", model, "--prompt", "Once upon a time,", "--max-tokens", 24)[1]
        for model in (builtin_model(), tmp_path / "out")
    ]
    assert stories[0] == stories[1] and len(stories[0]) > 60


def test_a_model_that_grows_is_not_called_smaller(tmp_path):
    done = program(builtin_model(), tmp_path / "out.gguf", "--format", "F32")
    assert done.returncode == 0 and " times larger than " in done.stdout and "smaller" not in done.stdout
    (said,) = re.findall(r"([\d.]+) times larger", done.stdout)
    assert 5 < float(said) < 10  # 32 bits in place of 4 to 8, and of 16


@pytest.mark.parametrize("bits", (4, 8))
def test_logits_are_near_those_of_the_source(source, bits, tmp_path):
    done = program(source, tmp_path / "out", "--bits", bits, "--group-size", 32)
    assert done.returncode == 0, done.stderr
    logits = []
    for path in (source, tmp_path / "out"):
        with p.open_checkpoint(path) as checkpoint:
            model, survey = surveyed(checkpoint)
            assert not survey.problems and not checkpoint.unused
            logits.append(load_model(checkpoint, device="cpu", threads=1).logits(list(range(1, 20))))
    error = np.sqrt(((logits[1] - logits[0]) ** 2).mean()) / logits[0].std()
    assert 0 < error < {4: 0.8, 8: 0.05}[bits]  # of weights without a pattern, which 4 bits hold to 15%


def test_other_files_come_along(source, tmp_path):
    files = {
        "tokenizer.json": "{}",
        "tokenizer_config.json": "{}",
        "generation_config.json": "{}",
        "chat_template.jinja": "hi",
        "additional_chat_templates/rag.jinja": "rag",
        "merges.txt": "a b",
        "tokenizer.model": "m",
        "LICENSE": "free",
    }
    for name, text in files.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    (source / "pytorch_model.bin").write_bytes(b"x" * 1000)
    (source / "pytorch_model.bin.index.json").write_text("{}")
    assert program(source, tmp_path / "out").returncode == 0
    found = contents(tmp_path / "out")
    assert {name: found[name].decode() for name in files} == files
    assert set(found) == set(files) | {"config.json", "model.safetensors", "model.safetensors.index.json"}


SLOW = """
import os, sys, time
from pipeline import convert
from pipeline.converting import conversion, writer
writer.SYNC_BYTES = 0
conversion.plan.__defaults__ = (60_000,)
def write(self, output, shard, file, plain=writer.Writer._convert):
    plain(self, output, shard, file)
    print(output.name, flush=True)
    time.sleep(0.01)
    while os.path.exists(sys.argv[2] + ".hold"):
        time.sleep(0.05)
writer.Writer._convert = write
sys.exit(convert.main(sys.argv[1:]))
"""


def begun(source, out, outputs, *options):
    """A process that converts slowly, after it converted some outputs."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(source), str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=heed_signals,
    )
    names = [process.stdout.readline().strip() for _ in range(outputs)]
    assert all(names), process.stderr.read()
    return process, names


@pytest.mark.parametrize("outputs", (1, 20))
def test_a_killed_run_goes_on_where_it_was(source, outputs, tmp_path):
    """And what is there at the end is the same, byte for byte; a file has its final name only when it is complete."""
    plain, out = tmp_path / "plain", tmp_path / "out"
    process, _ = begun(source, plain, 1)
    process.communicate(timeout=120)
    assert process.returncode == 0
    process, first = begun(source, out, outputs)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = contents(out)
    assert journal.NAME in left and "config.json" not in left
    wanted = contents(plain)
    assert all(left[name] == wanted[name] for name in left if "unfinished" not in name)
    process, second = begun(source, out, 1)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and contents(out) == wanted
    again = set(first) & {*second, *rest.split()}
    assert len(again) <= 1  # what was being written when it was killed


def test_a_killed_gguf_file_goes_on_where_it_was(source, tmp_path, capfd):
    """It has its name when it is whole; the journal beside it keeps another command out."""
    (source / "tokenizer.json").write_text(json.dumps(tiny.BYTE_LEVEL))
    (tmp_path / "made").mkdir()
    tmp_path = tmp_path / "made"
    plain, out = tmp_path / "plain.gguf", tmp_path / "out.gguf"
    assert convert.main([str(source), str(plain), "--format", "Q8_0"]) == 0
    process, first = begun(source, out, 10, "--format", "Q8_0")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(contents(tmp_path)) == ["out.gguf.conversion.unfinished", "out.gguf.unfinished", "plain.gguf"]
    one_line(
        program(source, out, "--format", "Q4_0"), "of an unfinished conversion of another checkpoint or with other"
    )
    process, second = begun(source, out, 1, "--format", "Q8_0")
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and out.read_bytes() == plain.read_bytes()
    assert sorted(contents(tmp_path)) == ["out.gguf", "plain.gguf"]
    assert len(set(first) & {*second, *rest.split()}) <= 1


def test_ctrl_c(source, tmp_path):
    process, _ = begun(source, tmp_path / "out", 5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "onebuf: interrupted; the same command again goes on from there"
    assert not (tmp_path / "out" / "config.json").exists()
    done = program(source, tmp_path / "out")
    assert done.returncode == 2 and "with other options" in done.stderr  # of files of another size, here
    process, _ = begun(source, tmp_path / "out", 1)
    process.communicate(timeout=120)
    assert process.returncode == 0 and (tmp_path / "out" / "config.json").exists()


def test_two_at_once(source, tmp_path):
    hold = tmp_path / "out.hold"  # the first one waits while this is there
    hold.touch()
    process, _ = begun(source, tmp_path / "out", 1)
    try:
        done = program(source, tmp_path / "out")
        assert done.returncode == 2 and "another process is converting into it" in done.stderr
    finally:
        hold.unlink()
        process.communicate(timeout=120)
    assert process.returncode == 0


def one_line(done, *words):
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("onebuf: error: "), (
        done.stderr
    )
    assert all(word in done.stderr for word in words), done.stderr


def test_a_disk_that_fills(source, tmp_path):
    """A limit on the size of a file stands for the disk."""
    limit = 40_000
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.convert", source, tmp_path / "out"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2 and "make room and give the same command again" in done.stderr.splitlines()[-1], (
        done.stderr
    )
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert program(source, tmp_path / "out").returncode == 0
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        assert not surveyed(checkpoint)[1].problems


def test_a_disk_without_room(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with (
        p.open_checkpoint(source) as checkpoint,
        pytest.raises(UsageError, match="61.2 MiB are needed and 976.6 KiB are free"),
    ):
        conversion.run(conversion.plan(checkpoint, tmp_path / "out", Settings.of("out")), 1, Quiet())
    assert not list((tmp_path / "out").glob("*safetensors*"))


def test_bad_arguments(source, tmp_path):
    one_line(program(source, tmp_path / "out", "--bits", 7), "--bits")
    one_line(program(source, tmp_path / "out", "--group-size", 48), "--group-size")
    one_line(program(tmp_path / "nothing", tmp_path / "out"), "no such folder")
    one_line(program(source, source), "is not empty")
    one_line(program(source, source / "config.json"), "is a file")
    (tmp_path / "readonly").write_text("")
    one_line(program(source, tmp_path / "readonly" / "out"), "readonly")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_conversion_of_something_else(source, tmp_path):
    process, _ = begun(source, tmp_path / "out", 2)
    process.kill()
    process.wait()
    time.sleep(0.01)
    os.utime(source / "model.safetensors")
    one_line(program(source, tmp_path / "out"), "unfinished conversion of another checkpoint")


def test_memory_is_that_of_one_expert(tmp_path, monkeypatch):
    """A stack of experts that takes 64 MB is converted in far less; numbers are counted, not pages of files."""
    import tracemalloc

    config = SMALL | {"hidden_size": 512, "moe_intermediate_size": 1024, "num_experts": 32, "num_hidden_layers": 1}
    source = write_source(tmp_path / "hf", config, small_shapes(config))
    with p.open_checkpoint(source) as checkpoint:
        work = conversion.plan(checkpoint, tmp_path / "out", Settings.of("out"))
        largest = max(output.stored_bytes for output in work.outputs)
        monkeypatch.setattr(writer, "ROWS_OF", 1 << 16)
        tracemalloc.start()
        conversion.run(work, 2, Quiet())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert largest == 32 * 1024 * 512 * 2 and peak < largest / 8


def test_memory_of_a_gguf_file_is_that_of_some_rows(tmp_path, monkeypatch):
    """Also where weights are decoded first: 9 MB of a matrix in 8 bits become 5 MB."""
    import tracemalloc

    from support import gguf_files as files

    from pipeline.converting import source as decoding

    keys = files.llama(1, **{"llama.embedding_length": 1024}) | files.builtin()
    shapes = [("token_embd.weight", (1024, 8192), 8), ("output_norm.weight", (1024,), 0)]
    zeros = bytes(8192 * 34 * 32 + 4096)
    (tmp_path / "in.gguf").write_bytes(files.gguf(keys, shapes, zeros))
    with p.open_checkpoint(tmp_path / "in.gguf") as checkpoint:
        work = conversion.plan(checkpoint, tmp_path / "out.gguf", Settings.of("out.gguf", format="Q4_0"))
        monkeypatch.setattr(writer, "ROWS_OF", 1 << 16)
        monkeypatch.setattr(decoding, "ROWS_OF", 1 << 16)
        tracemalloc.start()
        conversion.run(work, 2, Quiet())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert max(output.stored_bytes for output in work.outputs) == 17 << 19 and peak < 7 << 20


def test_a_terminal_sees_a_bar(monkeypatch, capsys):
    from pipeline.converting import bar
    from pipeline.converting import progress as chosen

    monkeypatch.setattr(chosen, "is_live", lambda stream: True)
    monkeypatch.setenv("TERM", "xterm")
    with chosen.make_progress() as progress:
        assert isinstance(progress, bar.Bar)
        progress.start(1000)
        progress.shard("model.safetensors", 1, 1)
        progress.advance(1000)
        task = progress._progress.tasks[0]
        assert task.finished and task.description == "model.safetensors"


def test_greedy_tokens_are_those_of_mlx_lm(tmp_path):
    """Where mlx-lm is installed: it loads the output, and chooses the tokens that Onebuf chooses."""
    mx = pytest.importorskip("mlx.core")
    utils = pytest.importorskip("mlx_lm.utils")
    from support.converting.tokens import compare

    source = storyteller(tmp_path / "hf")
    assert program(source, tmp_path / "out").returncode == 0
    report = compare(tmp_path / "out", mx, utils, [[0, 7, 99, 1234], [0, 401, 5, 88, 3000, 12]], 48)
    assert report.tokens == 96 and report.worst_margin < 0.05
