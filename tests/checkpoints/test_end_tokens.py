"""What ends a text: all that config.json, generation_config.json, the tokenizer's files and the chat templates name."""

import json

import pytest
from support import gguf_files
from support.shapes import Shape, byte_level, gemma

from pipeline.checkpoints.config import read_json
from pipeline.checkpoints.end_tokens import END_TEXTS, only_ends, template_ends
from pipeline.checkpoints.folder import Folder
from pipeline.checkpoints.gguf.header import read_header
from pipeline.checkpoints.gguf.tokenizer import Vocabulary, make_tokenizer
from pipeline.checkpoints.text_part import text_part
from pipeline.checkpoints.tokenizer import Tokenizer

TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "</s>")
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
LLAMA3 = "{{ '<|start|>' + m['role'] + '\\n\\n' + m['content'] | trim + '<|eot_id|>' }}"
OTHER = "{{ m.content }}{{ eos_token }}"


def folder(path, *, config=None, generation=None, tokenizer=None, special=None, template=None, specials=TOKENS):
    shape = Shape(lambda: byte_level(specials=specials, merges=False), tokenizer=tokenizer, special=special)
    shape.write(path, **(config or {}))
    if generation is not None:
        (path / "generation_config.json").write_text(json.dumps(generation))
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    return Folder(path, read_json(path / "config.json"), [], {})


def texts(opened):
    return [opened.tokenizer()._tokenizer.id_to_token(token) for token in opened.end_tokens]


def eos(value):
    return {"eos_token_id": value}


END, IM_END, EOT, S = 256, 258, 259, 261


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"config": eos(END)}, {"<|endoftext|>"}),
        ({"config": eos(END), "tokenizer": {"eos_token": "<|im_end|>"}}, {"<|endoftext|>", "<|im_end|>"}),
        ({"config": eos(END), "generation": eos([IM_END, EOT])}, {"<|endoftext|>", "<|im_end|>", "<|eot_id|>"}),
        ({"config": eos(-1), "tokenizer": {"eos_token": {"content": "<|im_end|>"}}}, {"<|im_end|>"}),
        ({"config": eos(None), "tokenizer": {"eos_token": "<|im_end|>"}}, {"<|im_end|>"}),
        ({"config": eos([END, None, -1]), "generation": eos(None)}, {"<|endoftext|>"}),
        ({"tokenizer": {"eos_token": "<|im_end|>"}}, {"<|im_end|>"}),
        ({"special": {"eos_token": "<|im_end|>"}}, {"<|im_end|>"}),
        (
            {"special": {"eos_token": "<|im_end|>"}, "tokenizer": {"eos_token": "<|eot_id|>"}},
            {"<|im_end|>", "<|eot_id|>"},
        ),
        ({"config": eos(END), "template": CHATML}, {"<|endoftext|>", "<|im_end|>"}),
        ({"config": eos(END), "template": LLAMA3}, {"<|endoftext|>", "<|eot_id|>"}),
        ({"config": eos(END), "tokenizer": {"chat_template": CHATML}}, {"<|endoftext|>", "<|im_end|>"}),
        ({"config": eos(END), "tokenizer": {"chat_template": OTHER, "eos_token": "</s>"}}, {"<|endoftext|>", "</s>"}),
        ({"config": eos(None)}, set()),
        ({"tokenizer": {"eos_token": None}}, set()),
    ],
)
def test_union(tmp_path, files, expected):
    opened = folder(tmp_path, **files)
    assert set(texts(opened)) == expected and len(opened.end_tokens) == len(expected)
    assert opened.tokenizer().decode([*opened.end_tokens, 65, *opened.end_tokens]) == opened.tokenizer().decode([65])


def test_templates_of_several_names(tmp_path):
    named = [{"name": "default", "template": OTHER}, {"name": "tool", "template": CHATML}]
    opened = folder(tmp_path, config=eos(END), tokenizer={"chat_template": named})
    assert set(texts(opened)) == {"<|endoftext|>", "<|im_end|>"}


def test_class_has_the_last_word(tmp_path):
    """Llama's class says 2 where no file names an end; that counts where it is a special token."""
    assert folder(tmp_path).end_tokens == ()  # here 2 is a letter
    byte_level(specials=()).save(str(tmp_path / "tokenizer.json"))
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    letter = next(text for text, i in made["model"]["vocab"].items() if i == 2)
    made["added_tokens"] = [
        {"id": 2, "content": letter, "special": True, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False}
    ]
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    assert Folder(tmp_path, {"model_type": "llama"}, [], {}).end_tokens == (2,)
    assert Folder(tmp_path, {"model_type": "llama", "eos_token_id": None}, [], {}).end_tokens == ()


def test_end_that_is_no_token_is_a_stop_text(tmp_path):
    """The vocabulary writes it with several tokens."""
    opened = folder(tmp_path, config=eos(END), template=CHATML, specials=TOKENS[:1])
    assert (texts(opened), opened.tokenizer().end_texts) == (["<|endoftext|>"], ("<|im_end|>",))


def test_ordinary_token_that_a_configuration_names_stays_visible(tmp_path):
    opened = folder(tmp_path, config=eos(65))
    assert opened.end_tokens == (65,) and opened.tokenizer().decode([65])


def test_whole_models_name_ends_in_both_parts(tmp_path):
    config = {"model_type": "gemma3", "eos_token_id": [1, 106], "text_config": {"eos_token_id": 1, "hidden_size": 64}}
    inner, _ = text_part(config, {}, tmp_path)
    assert inner["eos_token_id"] == [1, 106]
    assert text_part(config | {"eos_token_id": None}, {}, tmp_path)[0]["eos_token_id"] == [1]
    gemma().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<end_of_turn>"}')
    assert len(Folder(tmp_path, inner, [], {}).end_tokens) == 3


@pytest.mark.parametrize(
    "template, expected",
    [
        (CHATML, {"<|im_end|>"}),
        (LLAMA3, {"<|eot_id|>"}),
        ("{{ m['content'] + '<|stop|>' }}", {"<|stop|>"}),
        ("{{ m.content | trim }}<stop>\n", {"<stop>"}),
        ("{{- m['content'] -}}\n[|done|]", {"[|done|]"}),
        ('{{ (m.content.strip()) ~ "<|stop|>" }}', {"<|stop|>"}),
        ("{{ '[INST] ' + m['content'] + '[/INST]' }}", set()),  # which ends what the user says
        ("{{ m.content }}{% if more %}<|start|>{% endif %}", set()),
        ("{{ m.content }} <b> {{ eos_token }}", {"<b>"}),
        ("{{ bos_token }}{{ m.role }}<|start|>", set()),
        ("", set()),
    ],
)
def test_ends_of_templates(template, expected):
    assert template_ends([template]) == expected


def test_end_of_one_message_of_several():
    assert only_ends({"<|end|>", "<|im_end|>"}, {"<|return|>", "<|call|>"}.__contains__) == {"<|im_end|>"}
    assert only_ends({"<|end|>"}, {"<|return|>"}.__contains__) == {"<|end|>"}


# GGUF


def vocabulary(path, tokens, types, **keys):
    metadata = gguf_files.keys("gpt2", tokens, types, pre="gpt-2", merges=gguf_files.array(8, []), **keys)
    (path / "v.gguf").write_bytes(gguf_files.gguf(metadata))
    return Vocabulary(path / "v.gguf", read_header(path / "v.gguf").metadata)


@pytest.mark.parametrize("kind", gguf_files.TokenType)
@pytest.mark.parametrize("text", sorted(END_TEXTS))
def test_gguf_tokens_of_any_type(tmp_path, text, kind):
    """llama.cpp goes by the text, because converters wrote other types than CONTROL; the token is then special."""
    made = vocabulary(tmp_path, ["a", text, "b", "<|x|>"], [1, int(kind), 1, 3])
    assert made.end_tokens() == (1,)
    tokenizer = Tokenizer(make_tokenizer(made, made.end_tokens()))
    assert tokenizer.encode(f"a{text}b") == (0, 1, 2) and tokenizer.decode([0, 1, 2]) == "ab"


def test_gguf_keys(tmp_path):
    tokens = ["a", "<|x|>", "<|y|>", "<|z|>", "<|w|>"]
    keys = {"eos_token_id": 1, "eot_token_id": 2, "eom_token_id": 3}
    assert vocabulary(tmp_path, tokens, [1, 3, 4, 1, 3], **keys).end_tokens() == (1, 2, 3)
    signed = {"eos_token_id": (gguf_files.I32, -1), "eot_token_id": 99}
    assert vocabulary(tmp_path, tokens, [1, 3, 4, 1, 3], **signed).end_tokens() == ()
    templates = ["{{ m.content }}<|w|>"]
    assert vocabulary(tmp_path, tokens, [1, 3, 4, 1, 3]).end_tokens(templates) == (4,)


def test_gguf_prompt_that_ends_with_the_end_token(tmp_path):
    tokens = ["a", "<|x|>", "<|y|>"]
    for wanted, expected in ((True, 1), (False, None), (None, None)):
        keys = {} if wanted is None else {"add_eos_token": wanted}
        made = vocabulary(tmp_path, tokens, [1, 3, 3], eos_token_id=1, **keys)
        assert made.eos_token() == expected
    assert Tokenizer(make_tokenizer(made), 2, 1).encode("a") == (2, 0, 1)
    assert Tokenizer(make_tokenizer(made), 2, 1).encode("a", complete=True) == (0,)
