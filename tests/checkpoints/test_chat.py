"""Chat templates: what transformers gives, where they are found, and that a template can do no harm."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import gguf_files as files
from support.paths import ROOT, golden

from pipeline.checkpoints import chat as chat_room
from pipeline.checkpoints import chat_worker
from pipeline.checkpoints.chat import Chat
from pipeline.checkpoints.opening import open_checkpoint
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import CheckpointError, PromptError

# Templates in the styles of real models; what transformers 5.23 makes of them (render_jinja_template).
GOLDEN = golden("chat_templates")
HELLO = [{"role": "user", "content": "Hello"}]


def render(template: str, messages=HELLO, **variables) -> str:
    with Chat("file.jinja", {"default": template}, GOLDEN["special"]) as chat:
        return chat.render(messages, **variables)


@pytest.mark.parametrize("case", GOLDEN["templates"], ids=lambda case: case["name"])
def test_golden(case):
    with Chat("file.jinja", {"default": case["template"]}, GOLDEN["special"]) as chat:
        for conversation, result in zip(GOLDEN["conversations"], case["results"], strict=True):
            if "text" in result:
                assert chat.render(**conversation) == result["text"]
            else:
                with pytest.raises((PromptError, CheckpointError)) as caught:
                    chat.render(**conversation)
                assert " ".join(result["error"].split()) in str(caught.value)


@pytest.mark.parametrize("case", GOLDEN["templates"], ids=lambda case: case["name"])
def test_a_last_message_is_continued(case):
    """What transformers 5.24 makes of the same conversations with continue_final_message."""
    with Chat("file.jinja", {"default": case["template"]}, GOLDEN["special"]) as chat:
        for conversation, result in zip(GOLDEN["continued"], case["continued"], strict=True):
            if "text" in result:
                assert chat.render(**conversation, continue_final_message=True) == result["text"]
            else:
                with pytest.raises((PromptError, CheckpointError)):
                    chat.render(**conversation, continue_final_message=True)


def test_what_is_continued_may_be_no_content():
    thinking = [{"role": "assistant", "thinking": "hm ", "content": "x"}]
    with Chat("f", {"default": "{{ messages[0].thinking }}|{{ messages[0].content }}"}, {}) as chat:
        assert chat.render(thinking, continue_final_message="thinking") == "hm "
        for messages, key in ([{"role": "assistant", "content": None}], True), (thinking, "reasoning"), ([], True):
            with pytest.raises(PromptError, match="cannot be continued"):
                chat.render(messages, continue_final_message=key)
        assert chat.render(thinking, continue_final_message=False) == "hm |x"


def test_words_before_an_answer():
    template = "{% if add_generation_prompt %}yes{% else %}no{% endif %}{{ messages[0].content }}"
    assert render(template) == "yesHello" and render(template, add_generation_prompt=False) == "noHello"
    assert render(template, continue_final_message=True) == "noHello"


def test_the_template_for_tools():
    with Chat("f", {"default": "d", "tool_use": "t"}, {}) as chat:
        assert chat.render(HELLO, tools=[]) == "t" and chat.render(HELLO) == "d"
        assert chat.render(HELLO, tools=[], name="default") == "d"


def test_a_conversation_that_is_too_much_for_the_process():
    """Neither ends the rendering of others."""
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with Chat("f", {"default": "{{ messages[0].content }}"}, {}) as chat:
        with pytest.raises(PromptError, match="nested too deeply"):
            chat.render([{"role": "user", "content": deep}])
        with pytest.raises((PromptError, CheckpointError), match="memory"):
            chat.render([{"role": "user", "content": "x" * (1 << 28)}])
        assert chat.render(HELLO) == "Hello"


def test_a_template_that_loops_is_not_tried_for_ever(monkeypatch):
    with Chat("f", {"default": "x"}, {}) as chat:
        for _ in range(chat_room.MAX_STOPPED):
            chat.start()
            os.kill(chat._worker.pid, signal.SIGPROF)
            chat._worker.wait()
            with pytest.raises(CheckpointError, match="more than 5 s"):
                monkeypatch.setattr(chat, "_running", lambda worker=chat._worker: worker)
                chat.render(HELLO)
            monkeypatch.undo()
        with pytest.raises(CheckpointError, match="stopped 3 times .* not tried again"):
            chat.render(HELLO)
        assert chat._worker is None
        chat.most_stopped = None  # as in a server, where a conversation of one client is not the others'
        assert chat.render(HELLO) == "x"


def test_the_date():
    assert render("{{ strftime_now('%Y') }}") == time.strftime("%Y")


def test_one_process_renders_many():
    with Chat("f", {"default": "{{ messages[0].content }}"}, {}) as chat:
        assert [chat.render([{"role": "user", "content": str(i)}]) for i in range(50)] == [str(i) for i in range(50)]
        worker = chat._worker
        chat.close()
        assert worker.poll() is not None and chat.render(HELLO) == "Hello"


def test_several_templates():
    with Chat("f", {"default": "d", "tool_use": "t"}, {}) as chat:
        assert chat.render(HELLO) == "d" and chat.render(HELLO, name="tool_use") == "t"
        with pytest.raises(CheckpointError, match="no chat template 'rag', but 'default', 'tool_use'"):
            chat.render(HELLO, name="rag")
    with Chat("f", {"rag": "r"}, {}) as chat:
        assert chat.render(HELLO) == "r"
    with Chat("f", {"rag": "r", "tool_use": "t"}, {}) as chat, pytest.raises(CheckpointError, match="'default'"):
        chat.render(HELLO)
    with Chat("f", {}, {}) as chat, pytest.raises(CheckpointError, match="f: has no chat template"):
        chat.start()


# What a template must not do


HARM = {
    "memory at once": ("{{ 'x' * 10 ** 11 }}", "memory"),
    "memory by doubling": (
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s | length }}",
        "memory",
    ),
    "memory of a list": (
        "{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "memory",
    ),
    "much text": ("{% for i in range(99999) %}{{ 'y' * 1000 }}{% endfor %}", "characters"),
    "recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself"),
    "wide range": ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
    "including a file": ("{% include '/etc/passwd' %}", "no loader"),
    "importing a file": ("{% import '/etc/passwd' as p %}", "no loader"),
    "extending a file": ("{% extends '/etc/passwd' %}", "no loader"),
    "from a file": ("{% from '/etc/passwd' import x %}", "no loader"),
    "classes": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    "globals": ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "unsafe"),
    "globals of a function": ("{{ strftime_now.__globals__ }}{{ strftime_now.__globals__.x }}", "unsafe"),
    "globals by format": (
        "{{ '{0.__class__.__init__}'.format(messages) }}{{ '{0.__class__.x}'.format(messages) }}",
        "unsafe",
    ),
    "a namespace's insides": ("{% set n = namespace(__class__=1) %}", "namespace"),
    "changing the messages": ("{{ messages.append(1) }}", "unsafe"),
    "not a template": ("a\n{% if %}", "line 2"),
    "an unknown tag": ("{% frobnicate %}", "frobnicate"),
    "nothing there": ("a\n\n{{ messages[0].x.y }}", "line 3: 'dict object' has no attribute 'x'"),
    "dividing by zero": ("{{ 1 // 0 }}", "line 1"),
}


@pytest.mark.parametrize("harm", HARM)
def test_harm(harm):
    template, word = HARM[harm]
    with pytest.raises(CheckpointError) as caught:
        render(template)
    message = str(caught.value)
    assert message.startswith("file.jinja: chat template: ") and word in message and "\n" not in message


LOOPS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 10 ** (10 ** 9) }}",
    "{% set n = namespace(s='aaaa') %}{% for i in range(9999) %}{% set x = ('a' * 9999999).count('aab') %}{% endfor %}",
)


@pytest.fixture
def impatient(monkeypatch, tmp_path):
    """The process that renders, with half a second in place of five."""
    worker = Path(chat_worker.__file__).read_text()
    assert worker.count("SECONDS, PATIENCE = 5.0,") == 1
    (tmp_path / "worker.py").write_text(worker.replace("SECONDS, PATIENCE = 5.0,", "SECONDS, PATIENCE = 0.5,"))
    monkeypatch.setattr(chat_room, "_WORKER", tmp_path / "worker.py")


@pytest.mark.parametrize("template", LOOPS, ids=["loops", "one endless operation", "long operations"])
def test_a_template_that_loops_is_stopped(template, impatient):
    with Chat("file.jinja", {"default": template, "good": "fine"}, {}) as chat:
        with pytest.raises(CheckpointError, match="stopped because it took more than 5 s"):
            chat.render(HELLO)
        assert chat.render(HELLO, name="good") == "fine"


def test_a_template_has_five_seconds():
    start = time.monotonic()
    with Chat("file.jinja", {"default": LOOPS[0]}, {}) as chat:
        with pytest.raises(CheckpointError, match="stopped because it took more than 5 s"):
            chat.render(HELLO)
    assert time.monotonic() - start > 4 and chat_worker.SECONDS == 5


def test_a_template_that_refuses():
    with pytest.raises(PromptError, match="does not take this conversation: no system role"):
        render("{{ raise_exception('no\nsystem role') }}")


def test_worker_that_dies():
    with Chat("f", {"default": "x"}, {}) as chat:
        chat.start()
        chat._worker.send_signal(signal.SIGKILL)
        chat._worker.wait()
        assert chat.render(HELLO) == "x"  # another one
        worker = chat._worker
        worker.send_signal(signal.SIGSTOP)
        later = threading.Timer(0.3, os.kill, (worker.pid, signal.SIGKILL))  # once it is waited for
        later.start()
        with pytest.raises(CheckpointError, match="status -9"):
            chat._ask({"template": "x", "variables": {}})
        later.join()


def test_jinja_is_found_where_the_package_is(monkeypatch):
    """-S leaves out the folders in which an interpreter finds packages by itself."""
    command = chat_room._command()
    assert command[1] == "-I"
    command.insert(1, "-S")
    monkeypatch.setattr(chat_room, "_command", lambda: command)
    assert render("{{ messages[0].content }}") == "Hello"
    del command[4:]
    with pytest.raises(CheckpointError, match="pip install jinja2"):
        render("x")


@pytest.mark.parametrize("path", ["", ".", "/nowhere:"], ids=["empty", "dot", "a colon too many"])
def test_nothing_of_the_current_folder_is_executed(tmp_path, path):
    for name in ("jinja2", "markupsafe", "json", "token", "numpy", "sitecustomize", "resource"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r})")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pipeline.checkpoints import chat; import os\n"
        f"os.environ['PYTHONPATH'] = {path!r}\n"
        "with chat.Chat('f', {'default': '{{ messages[0].content }}'}, {}) as c:\n"
        "    print(c.render([{'role': 'user', 'content': 'fine'}]))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "fine\n", done.stderr
    assert not (tmp_path / "executed").exists()


def test_jinja_is_not_loaded_here():
    code = (
        "import sys; from pipeline.checkpoints.chat import Chat\n"
        "with Chat('f', {'default': 'x'}, {}) as c: c.render([])\n"
        "print([m for m in ('jinja2', 'numpy', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


# Where templates are


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(builtin_model(), tmp_path / "model"))


def found(path) -> Chat:
    with open_checkpoint(path) as checkpoint:
        return checkpoint.chat()


def test_folder_without_a_template(folder):
    assert found(folder).templates == {}


def test_template_in_tokenizer_config(folder):
    config = folder / "tokenizer_config.json"
    config.write_text(
        json.dumps({"chat_template": "one", "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": None})
    )
    chat = found(folder)
    assert chat.templates == {"default": "one"} and chat.source == str(config)
    assert chat.special == {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<b>", "unk_token": {"content": "<u>"}}))
    assert found(folder).special == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<u>"}
    config.write_text(
        json.dumps({"chat_template": [{"name": "default", "template": "a"}, {"name": "rag", "template": "b"}]})
    )
    assert found(folder).templates == {"default": "a", "rag": "b"}


def test_files_of_their_own_come_first(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old"}))
    (folder / "chat_template.jinja").write_bytes("\ufeffnew é".encode())
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("r")
    assert found(folder).templates == {"default": "new é", "rag": "r"}


def test_old_file(folder):
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "old"}))
    assert found(folder).templates == {"default": "old"}


@pytest.mark.parametrize("value", [3, [3], [{"name": "x"}], [{"template": "x"}], {"a": 1}])
def test_damaged_template_of_a_folder(folder, value):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    with pytest.raises(CheckpointError, match="tokenizer_config.json.*chat_template"):
        found(folder)


@pytest.mark.parametrize("content, word", [(b"\xff", "UTF-8"), (b"x" * (1 << 23), "8,388,608 bytes, more than")])
def test_damaged_file(folder, content, word):
    (folder / "chat_template.jinja").write_bytes(content)
    with pytest.raises(CheckpointError, match=word):
        found(folder)


def test_templates_in_gguf(tmp_path):
    file = tmp_path / "model.gguf"
    metadata = files.llama() | {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "a"],
        "tokenizer.chat_template": "one",
        "tokenizer.chat_template.rag": "two",
        "tokenizer.chat_templates": ["rag"],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 99,
    }
    file.write_bytes(files.gguf(metadata, [("token_embd.weight", (64, 4), 0)]))
    chat = found(file)
    assert chat.templates == {"default": "one", "rag": "two"} and chat.source == str(file)
    assert chat.special == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    file.write_bytes(files.gguf(files.llama() | {"tokenizer.chat_template": 3}, [("token_embd.weight", (64, 4), 0)]))
    assert found(file).templates == {} and found(file).special == {}
