"""The tokenizer of a folder against transformers' AutoTokenizer for the same folder: tokens and texts are equal.

data/tokenizers.json.gz holds what transformers gives for the folders of support/shapes.py; where it is installed, it is
asked again.
"""

import gzip
import json

import pytest
from support import tokenizer_goldens
from support.shapes import SHAPES, byte_level

from pipeline.checkpoints.config import read_json
from pipeline.checkpoints.folder import Folder
from pipeline.errors import CheckpointError, PromptError

GOLDEN = json.loads(gzip.decompress(tokenizer_goldens.FILE.read_bytes()))
each_shape = pytest.mark.parametrize("name", SHAPES)


def opened(folder):
    return Folder(folder, read_json(folder / "config.json"), [], {})


def encoded(tokenizer, text, special):
    try:
        return list(tokenizer.encode(text, complete=not special))
    except PromptError as error:
        assert "empty" in str(error)
        return []


@each_shape
def test_tokens_and_texts_are_those_of_transformers(tmp_path, name):
    tokenizer, golden = opened(SHAPES[name].write(tmp_path)).tokenizer(), GOLDEN[name]
    assert tokenizer.vocab_size == golden["tokens"]
    for text, special, plain in golden["prompts"]:
        assert (text, encoded(tokenizer, text, True)) == (text, special)
        assert (text, encoded(tokenizer, text, False)) == (text, plain)
    for tokens, text in golden["texts"]:
        stream = tokenizer.stream()
        assert tokenizer.decode(tokens) == "".join([*map(stream.push, tokens), stream.finish()]) == text


@each_shape
def test_beginning_token(tmp_path, name):
    begin = opened(SHAPES[name].write(tmp_path)).bos_token
    longer = [special[0] for _, special, plain in GOLDEN[name]["prompts"] if len(special) > len(plain)]
    assert ([begin] if begin is not None else []) == sorted(set(longer))


def test_shapes_are_of_many_kinds():
    """A beginning token comes from the post-processor, whatever add_bos_token says, and classes differ."""
    begins = {
        name for name in SHAPES if any(len(special) > len(plain) for _, special, plain in GOLDEN[name]["prompts"])
    }
    assert "byte level, the post-processor begins" in begins and "byte level, add_bos_token" not in begins
    assert "GPTNeoXTokenizer" not in begins
    text = "<s>a</s> a <unk><s> the"
    tokens = {name: [row for row in GOLDEN[name]["prompts"] if row[0] == text][0][2] for name in SHAPES}
    rows = [tokens[name] for name in ("SentencePiece", "LlamaTokenizer", "LlamaTokenizer, legacy")]
    assert rows[0] != rows[1] != rows[2] != rows[0]


def test_impossible_tokens_are_named(tmp_path):
    shape = SHAPES["tokens of tokenizer_config.json"]
    folder = shape.write(tmp_path)
    for value in ({"x": {"content": "a"}}, {"1": 5}, {"1": {}}, {"1": {"content": "a", "lstrip": "no"}}):
        (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": value, "eos_token": "a"}))
        with pytest.raises(
            CheckpointError, match="tokenizer_config.json: describes a token that cannot be: "
        ) as caught:
            opened(folder).tokenizer()
        assert "\n" not in str(caught.value)


def test_missing_tokenizer(tmp_path):
    """A model can be used with token ids alone."""
    (tmp_path / "config.json").write_text('{"model_type": "llama", "eos_token_id": 7}')
    folder = opened(tmp_path)
    assert (folder.end_tokens, folder.bos_token) == ((7,), None)
    with pytest.raises(CheckpointError, match="tokenizer.json: not found"):
        folder.tokenizer()


def test_one_tokenizer_serves_all(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text("{}")
    folder = opened(tmp_path)
    assert folder.tokenizer() is folder.tokenizer()


# transformers as the other side


@each_shape
def test_goldens_are_what_transformers_gives(tmp_path, name):
    pytest.importorskip("transformers", reason="transformers is not installed")
    folder = SHAPES[name].write(tmp_path, **tokenizer_goldens.SIZES)
    assert json.loads(json.dumps(tokenizer_goldens.from_transformers(folder))) == GOLDEN[name]
