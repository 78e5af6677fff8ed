"""Prompt files: what is a prompt, which line was bad, and when nothing can run."""

import io
import json
import os
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.axes import each

from pipeline.cli.feed import Feed
from pipeline.cli.prompts import OnePrompt, open_prompts
from pipeline.errors import PromptError, UsageError


class Makes:
    """Makes no jobs: prompts stay what they are."""

    def make(self, prompt):
        return prompt

    def close(self):
        pass


def read_prompts(source):
    """All prompts of a source, which it must have at once; PromptError as a run has it."""
    prompts, found = open_prompts(source), []
    while not prompts.ended:
        prompt = prompts.take(None)
        found += [prompt] if prompt is not None else []
    return found


def refuse_all(source):
    """Looks ahead as a run does that no prompt of the source lets begin."""
    Feed(open_prompts(source), Makes(), 1).look_ahead()


@pytest.fixture
def read(tmp_path):
    def read(content, name="p.jsonl"):
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_prompts(str(file))

    return read


@pytest.fixture
def standard_input(monkeypatch):
    def feed(content: bytes):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return read_prompts("-")

    return feed


def test_single_prompt():
    prompts = OnePrompt("a\nb")
    prompt = prompts.take(None)
    assert prompts.ended and prompts.take(None) is None
    assert (prompt.index, prompt.id, prompt.text, prompt.error) == (0, 0, "a\nb", None)


def test_text_lines(read):
    prompts = read("one\n\n  two  \r\n \t\nthree", "p.txt")
    assert [p.text for p in prompts] == ["one", "  two  ", "three"]
    assert [p.index for p in prompts] == [p.id for p in prompts] == [0, 1, 2]
    assert [p.where.rsplit(" ", 2)[1:] for p in prompts] == [["line", "1"], ["line", "3"], ["line", "5"]]


def test_text_is_never_json(read):
    assert read('{"prompt": "x"}\n', "p.txt")[0].text == '{"prompt": "x"}'


@pytest.mark.parametrize("name", ["p.txt", "p.TXT"])
def test_byte_order_mark_and_other_line_ends(read, name):
    """A form feed or a Unicode line separator is part of a line."""
    assert [p.text for p in read("\ufeffa\u2028b\x0cc\n", name)] == ["a\u2028b\x0cc"]


def test_json_lines(read):
    prompts = read('{"prompt": "a\\nb"}\n\n{"tokens": [0, 5], "id": "x"}\n{"prompt": "", "id": 7, "extra": [1]}\n')
    assert [(p.index, p.id, p.text, p.tokens) for p in prompts] == [
        (0, 0, "a\nb", None),
        (1, "x", None, (0, 5)),
        (2, 7, "", None),
    ]


def test_null_means_absent(read):
    assert read('{"prompt": "a", "tokens": null, "id": null}')[0].id == 0


BAD_LINES = [
    ("{", "not JSON at column"),
    ("[1]", "not an object"),
    ("3", "not an object"),
    ("{}", "neither prompt"),
    ('{"prompt": 3}', "prompt must be a string; it is 3"),
    ('{"prompt": "a", "prompt": "b"}', 'the key "prompt" twice in one object'),
    ('{"messages": [{"role": "user", "role": "x", "content": "a"}]}', 'the key "role" twice'),
    ('{"custom_id": "a", "body": {"n": 1, "n": 2}}', 'the key "n" twice'),
    ('{"tokens": [1, "x"]}', 'item 2 of 2 is "x"'),
    ('{"tokens": [1, 2, 3.5]}', "item 3 of 3 is 3.5, and ids are whole numbers of at least 0"),
    ('{"tokens": {"a": 1}}', 'token ids; it is {"a": 1}'),
    ('{"prompt": [1, null]}', "item 2 of 2 is null"),
    ('{"prompt": "a", "tokens": [1]}', "both"),
    ('{"tokens": []}', "empty"),
    ('{"tokens": [1, -1]}', "token ids"),
    ('{"tokens": [1.0]}', "token ids"),
    ('{"tokens": [true]}', "token ids"),
    ('{"tokens": "1 2"}', "token ids"),
    ('{"prompt": ["a", "b"]}', "prompt must be one string or one list of token ids"),
    ('{"prompt": []}', "prompt is empty"),
    ('{"prompt": "a", "id": 1.5}', "id must"),
    ('{"prompt": "a", "id": [1]}', "id must"),
    ('{"prompt": "a", "id": true}', "id must"),
    ('{"tokens": [' + "9" * 5000 + "]}", "too long a number"),
    ('{"prompt": ' + "[" * 200_000, "too deep"),
]


@pytest.mark.parametrize("line, word", BAD_LINES)
def test_bad_lines(read, tmp_path, line, word):
    """Among good lines one fails alone; where there are no others, nothing can run."""
    prompts = read('{"prompt": "a"}\n' + line + '\n{"prompt": "b"}\n')
    assert [p.text for p in prompts if p.error is None] == ["a", "b"]
    bad = prompts[1]
    assert bad.index == 1 and bad.where.endswith("p.jsonl line 2") and word in bad.error and "\n" not in bad.error
    file = tmp_path / "p.jsonl"
    file.write_text("\n" + line)
    with pytest.raises(PromptError) as caught:
        refuse_all(str(file))
    assert "p.jsonl line 2" in str(caught.value) and word in str(caught.value)
    file.write_text(f"{line}\n{line}\n{line}")
    with pytest.raises(PromptError, match="and 2 more"):
        refuse_all(str(file))


def test_invalid_utf8(read):
    prompts = read(b"good\nb\xffd\n", "p.txt")
    assert prompts[0].error is None and "not UTF-8 at byte 2" in prompts[1].error and prompts[1].text is None
    assert read(b"\xff\xfea\0", "p.txt")[0].error.startswith("not UTF-8 at byte 1")


@each("content, name", [b"", b"\n\n", b"  \r\n\t", b"\xef\xbb\xbf"], ["p.txt", "p.jsonl"])
def test_empty_file(read, name, content):
    with pytest.raises(PromptError, match=f"{name}: no prompts"):
        read(content, name)


def test_missing_file_folder_and_unknown_kind(tmp_path, read):
    with pytest.raises(PromptError, match="no such file"):
        read_prompts(str(tmp_path / "absent.txt"))
    with pytest.raises(PromptError, match="a folder"):
        read_prompts(str(tmp_path))
    with pytest.raises(UsageError, match="p.csv.*.txt.*.jsonl"):
        read("a,b", "p.csv")


def test_standard_input(standard_input):
    assert [p.text for p in standard_input(b"a\nb\n")] == ["a", "b"]
    assert [p.text for p in standard_input(b'\n {"prompt": "a"}\n')] == ["a"]
    assert [p.text for p in standard_input(b'\xef\xbb\xbf{"prompt": "a"}\n')] == ["a"]
    with pytest.raises(PromptError, match="standard input: no prompts"):
        standard_input(b"")


@pytest.mark.parametrize("content, text", [(b"hello\n", "hello"), (b'{"prompt": "hello"}\n', "hello")])
def test_pipe_with_a_name(tmp_path, content, text):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    assert [p.text for p in read_prompts(str(pipe))] == [text]
    writer.join()


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b), max_size=5), suffix=st.booleans())
def test_any_bytes(tmp_path_factory, lines, suffix):
    """Whatever the bytes: prompts in order, one a line that is not blank, or one clear line."""
    file = tmp_path_factory.getbasetemp() / ("any.jsonl" if suffix else "any.txt")
    file.write_bytes(b"\n".join([*lines, json.dumps({"prompt": "x"}).encode()]))
    prompts = read_prompts(str(file))
    assert [p.index for p in prompts] == list(range(len(prompts)))
    for prompt in prompts:
        assert (prompt.error is None) == (prompt.text is not None or prompt.tokens is not None)
        assert "\n" not in (prompt.error or "")
