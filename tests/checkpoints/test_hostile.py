"""Checkpoints that mean harm, beside damaged ones: files that are no files, tokenizers that panic, text that a terminal
would obey, messages without end."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import pipeline as p
from pipeline import inspect, run
from pipeline.checkpoints import Chat
from pipeline.checkpoints.chat import read_template
from pipeline.checkpoints.config import read_json
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.checkpoints.tokenizer import Tokenizer
from pipeline.errors import CheckpointError, DTypeError, OnebufError, PromptError, ShapeError, UsageError
from pipeline.printing import brief, one_line, printable, shown, to_json

pytestmark = pytest.mark.one_processor
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


@pytest.fixture
def folder(tmp_path):
    """A copy of the built-in model."""
    shutil.copytree(builtin_model(), tmp_path / "model")
    return tmp_path / "model"


def loaded(path):
    """Opens everything that a run opens."""
    with p.open_checkpoint(path) as checkpoint:
        checkpoint.tokenizer().encode("Once upon a time")
        checkpoint.chat()
        return p.load_model(checkpoint)


def refusal(path):
    with pytest.raises(OnebufError) as refused:
        loaded(path)
    text = str(refused.value)
    assert "\n" not in text and len(text) < 3000 and text == printable(text), text
    return text


# Files that are no files

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors")
KINDS = {
    "a FIFO": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_regular_file(folder, name, kind):
    """Nothing waits for a writer, and nothing reads without end."""
    path = folder / name
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    text = refusal(folder)
    assert name in text and kind in text


@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
def test_no_regular_gguf_file_and_no_regular_template(folder, tmp_path, kind):
    for path in (tmp_path / "x.gguf", folder / "chat_template.jinja"):
        KINDS[kind](path)
    assert kind in refusal(tmp_path / "x.gguf")
    with pytest.raises(CheckpointError, match=kind):
        read_template(folder / "chat_template.jinja")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_files_larger_than_memory(folder, name):
    with open(folder / name, "wb") as stream:
        stream.truncate(1 << 40)  # without data
    text = refusal(folder)
    assert name in text and "1,099,511,627,776 bytes" in text


@pytest.mark.parametrize("name", ["x" * 300, "é" * 200, "\ud800.safetensors"])
def test_names_of_shards_that_no_file_has(folder, name):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "is no file name" in refusal(folder)


def test_a_path_that_no_file_has(tmp_path):
    assert "File name too long" in refusal(tmp_path / ("x" * 300))
    assert "no such folder or file" in refusal(tmp_path / "x\0y")


# Tokenizers

PANICS = {
    "loading": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "encoding": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "a template": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": ESCAPES, "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        }
    },
}


@pytest.mark.parametrize("panic", PANICS)
def test_a_tokenizer_that_panics(folder, panic, capfd):
    """It is one clear line, and Rust's own words reach nobody."""
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | PANICS[panic]))
    text = refusal(folder)
    assert "tokeni" in text and capfd.readouterr() == ("", "")


def test_what_others_write_meanwhile_is_kept(capfd):
    from pipeline.checkpoints.panics import panics_become

    with panics_become(CheckpointError, silent=True):
        os.write(2, b"kept\n")
    assert capfd.readouterr().err == "kept\n"
    with pytest.raises(ZeroDivisionError), panics_become(CheckpointError, silent=True):
        os.write(2, b"kept, too\n")
        raise ZeroDivisionError
    assert capfd.readouterr().err == "kept, too\n"


def test_a_closed_standard_error_does_not_matter(folder):
    for closed in ("2>&-", "2>&- <&-"):
        command = f'exec "$0" -m pipeline.inspect "$1" {closed}'
        done = subprocess.run(["sh", "-c", command, sys.executable, str(folder)], stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0 and "family" in done.stdout


def test_a_tokenizer_is_open_with_its_file_descriptors(folder):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    tokenizer = Tokenizer.open(folder / "tokenizer.json")
    for _ in range(50):
        tokenizer.encode("a text")
    assert not before or len(os.listdir("/proc/self/fd")) == before


# Text for a terminal


def test_printable():
    assert (
        printable(f"a{ESCAPES}b\n\té 日本 🦊\u00a0")
        == "a\ufffd]0;owned\ufffd\ufffd[2J\ufffd31m\ufffdb\n\té 日本 🦊\u00a0"
    )
    assert one_line(" a \n b\x1b ") == "a b\ufffd"
    assert len(one_line("x" * 10**6, 100)) == len(brief("x" * 10**6)) + 20 == 100
    assert json.loads(to_json({ESCAPES: [ESCAPES, "é\n"]})) == {ESCAPES: [ESCAPES, "é\n"]}
    assert printable(to_json([ESCAPES], indent=2)) == to_json([ESCAPES], indent=2)


def test_text_of_a_model_for_a_terminal_and_for_a_pipe():
    """A terminal obeys what it is sent; a program wants what the model wrote."""

    class Stream:
        def __init__(self, terminal):
            self.isatty = lambda: terminal

    assert shown(ESCAPES, Stream(False)) == shown(ESCAPES, None) == ESCAPES
    assert shown(ESCAPES, Stream(True)) == printable(ESCAPES)


def test_every_error_is_printable():
    assert str(CheckpointError(f"tensor {ESCAPES}")) == f"tensor {printable(ESCAPES)}"


def with_names(folder, name):
    """The model with a tensor of that name, which no family has a place for."""
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    size = max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")
    header[name] = {"dtype": "U8", "shape": [1], "data_offsets": [size, size + 1]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + raw[end:] + b"0")


def test_names_of_tensors(folder, capfd):
    """In what inspect says, with all tensors and as JSON, and in a run's notes."""
    with_names(folder, f"x{ESCAPES}\ny")
    for arguments in ([], ["--tensors"], ["--json"]):
        assert inspect.main([str(folder), *arguments]) == 0
    assert run.main(["--model", str(folder), "--max-tokens", "1", "--device", "cpu"]) == 0
    out, err = capfd.readouterr()
    assert printable(out) == out and printable(err) == err and "owned" in out and "owned" in err


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": ESCAPES},
        {"hidden_act": "x" * 10**6},
        {"rope_parameters": ESCAPES},
        {"rope_parameters": {"rope_type": ESCAPES + "x" * 10**6}},
        {"rope_scaling": {"rope_type": "x" * 10**6}, "rope_parameters": None},
        {"quantization": {"bits": ESCAPES}},
        {"eos_token_id": ["x" * 10**6]},
    ],
)
def test_values_of_a_configuration(folder, change):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    refusal(folder)


def test_a_file_that_is_named_so(tmp_path, capfd):
    for main, arguments in ((inspect.main, []), (run.main, ["--model"])):
        assert main([*arguments, str(tmp_path / f"{ESCAPES}.gguf")]) == 2
    err = capfd.readouterr().err
    assert printable(err) == err and err.count("\n") == 2


@pytest.mark.parametrize(
    "template",
    [
        f"{{{{ raise_exception('{ESCAPES}' ~ 'x' * 1000000) }}}}",
        f"{{{{ messages[0]['{ESCAPES}' ~ 'x' * 1000000].y }}}}",
        f"{{% {ESCAPES} {'x' * 100_000} %}}",
    ],
)
def test_messages_of_a_template(template):
    with Chat("x", {"default": template}, {}) as chat, pytest.raises((PromptError, CheckpointError)) as refused:
        chat.render([{"role": "user", "content": "a"}])
    text = str(refused.value)
    assert len(text) < 1000 and printable(text) == text and "\n" not in text


def test_messages_of_broken_json(tmp_path):
    file = tmp_path / "config.json"
    for content in ("[" * 10**5, '{"a": 1' + "0" * 5000 + "}", '{"\x1b": \x1b}'):
        file.write_text(content)
        with pytest.raises(CheckpointError) as refused:
            read_json(file)
        assert len(str(refused.value)) < 600 and printable(str(refused.value)) == str(refused.value)


# The rest


def test_no_home_folder(tmp_path):
    """Nothing needs one, unless something is kept there; then one line says what is missing."""
    code = (
        "import os, sys; os.environ.pop('HOME', None); os.environ.pop('XDG_CACHE_HOME', None)\n"
        "os.environ.pop('OB_CACHE', None)\n"
        "import pwd; pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid))\n"
        "from pipeline import inspect, run, host\n"
        f"assert inspect.main([{str(builtin_model())!r}]) == 0\n"
        "assert run.main(['--max-tokens', '1', '--device', 'cpu']) == 0\n"
        "try: host.cache_folder()\n"
        "except OSError as error: print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "no home folder is known; set OB_CACHE" in done.stdout, done.stderr


@pytest.mark.parametrize("bits", [0, -1, 1, 7, 16, 4.0, True, None, "4"])
def test_bits_that_cannot_be(bits):
    with pytest.raises(UsageError, match="bits = .* is not possible; use 2, 3, 4, 5, 6 or 8"):
        p.quantize(np.zeros((2, 64)), bits)


@pytest.mark.parametrize("group", [0, -64, 16, 48, None, 64.0])
def test_groups_that_cannot_be(group):
    with pytest.raises(UsageError, match="group_size = .* is not possible; use 32, 64 or 128"):
        p.quantize(np.zeros((2, 64)), 4, group)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_weights_that_are_no_numbers(value):
    weights = np.zeros((2, 64))
    weights[1, 3] = value
    with pytest.raises(DTypeError, match="a weight is NaN, infinite or beyond f32"):
        p.quantize(weights)


def test_weights_that_span_too_much():
    with pytest.raises(DTypeError, match="span more than f32 holds"):
        p.quantize(np.array([[3e38, -3e38] * 32]))


@pytest.mark.parametrize("weights", [3.0, np.zeros(0), np.zeros((2, 0)), np.zeros((2, 63))])
def test_weights_that_are_no_groups(weights):
    with pytest.raises(ShapeError, match="are not whole groups of 64"):
        p.quantize(weights)


def test_weights_that_are_no_array():
    with pytest.raises(DTypeError, match="no array of numbers"):
        p.quantize([["a"] * 64])


def test_a_file_that_was_replaced_is_read_anew(folder):
    """Opened again on the same device, it is another file: nothing of the first one is used."""
    device = p.open_device("cpu")
    results = []
    for change in (False, True):
        if change:  # the same sizes; the last layer's norm becomes zero
            with p.open_checkpoint(folder) as checkpoint:
                info = checkpoint.tensors["model.norm.weight"]
            content = bytearray(info.file.read_bytes())
            content[info.offset : info.offset + info.nbytes] = bytes(info.nbytes)
            other = info.file.with_name("other")
            other.write_bytes(content)
            os.replace(other, info.file)
        with p.open_checkpoint(folder) as checkpoint:
            results.append(p.load_model(checkpoint, device=device).logits([1, 2, 3]))
    assert results[0].any() and not results[1].any()
