"""tokenizer.model in place of tokenizer.json: the ids are SentencePiece's, and the rest transformers' ways."""

import gzip
import json
import shutil

import pytest
from fuzz import tiny
from fuzz.pieces import field
from support.families.files import write_folder
from support.sentencepiece_goldens import FOLDER, MODELS

import pipeline as p
from pipeline.checkpoints.sentencepiece_file import BPE, make_tokenizer, read_pieces
from pipeline.errors import CheckpointError, UnsupportedError

GOLDEN = json.loads(gzip.decompress((FOLDER / "encoded.json.gz").read_bytes()))


def tokenizer(name, **options):
    file = FOLDER / f"{name}.model"
    return make_tokenizer(read_pieces(file), file, **options)


def ids(made, text):
    return made.encode(text, add_special_tokens=False).ids


def same(name, found, wanted) -> bool:
    """Whether they are the same ids; of a unigram model, also other pieces that are exactly as probable."""
    if found == wanted or not name.startswith("unigram"):
        return found == wanted
    scores = [score for _, score, _ in read_pieces(FOLDER / f"{name}.model").pieces]
    return len(found) == len(wanted) and sorted(scores[i] for i in found) == sorted(scores[i] for i in wanted)


@pytest.mark.parametrize("name", MODELS)
def test_ids_are_those_of_sentencepiece(name):
    made = tokenizer(name)
    pairs = zip(GOLDEN["texts"], GOLDEN["ids"][name], strict=True)
    assert [text for text, wanted in pairs if not same(name, ids(made, text), wanted)] == []
    assert len(GOLDEN["texts"]) > 250


@pytest.mark.parametrize("name", MODELS)
def test_against_sentencepiece_itself(name):
    sentencepiece = pytest.importorskip("sentencepiece")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / f"{name}.model"))
    made = tokenizer(name)
    for text in GOLDEN["texts"]:
        found = ids(made, text)
        assert same(name, found, processor.encode(text)), text
        if processor.unk_id() not in found:  # which is shown there, and left out here
            assert made.decode(found) == processor.decode(found), text


@pytest.mark.parametrize("name", ("llama", "gemma", "unigram_bytes"))
def test_texts_come_back(name):
    """Where single bytes stand for what is no piece, nothing is lost."""
    made = tokenizer(name)
    assert all(made.decode(ids(made, text)) == text for text in GOLDEN["texts"] if "▁" not in text)


def test_what_the_file_says():
    llama, trimmed = read_pieces(FOLDER / "llama.model"), read_pieces(FOLDER / "trimmed.model")
    assert (llama.model, llama.fallback, llama.prefix, llama.trimmed, llama.charsmap) == (BPE, True, True, False, b"")
    assert trimmed.charsmap and trimmed.trimmed and not trimmed.fallback
    assert (llama.unknown, llama.begin, llama.end, len(llama.pieces)) == (0, 1, 2, 600)
    assert not read_pieces(FOLDER / "gemma.model").prefix


@pytest.fixture
def folder(tmp_path):
    """A model's folder, whose tokenizer is a test's."""
    write_folder(tmp_path, "llama", tiny.described("llama"))
    return tmp_path


def with_pieces(folder, name="llama", **config):
    shutil.copy(FOLDER / f"{name}.model", folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"} | config))
    checkpoint = p.open_checkpoint(folder)
    return checkpoint, checkpoint.tokenizer()


def test_beginning_and_end(folder):
    plain = tuple(GOLDEN["ids"]["llama"][GOLDEN["texts"].index("12345 3.14")])
    for config, first, last in (
        ({}, (1,), ()),
        ({"add_bos_token": False}, (), ()),
        ({"add_eos_token": True, "bos_token": "<s>", "eos_token": "</s>"}, (1,), (2,)),
    ):
        checkpoint, made = with_pieces(folder, **config)
        assert made.encode("12345 3.14") == (*first, *plain, *last)
        assert checkpoint.bos_token == (first[0] if first else None)
    assert checkpoint.end_tokens == (2,)


@pytest.mark.parametrize(
    "config, model_type, wanted",
    [
        ({}, "llama", "<s> ▁ x </s> ▁ x"),
        ({"legacy": True}, "llama", "<s> ▁ x </s> ▁ x"),
        ({"legacy": False}, "mistral", "<s> ▁ x </s> ▁ x"),
        ({}, "mistral", "<s> ▁ ▁ x </s> ▁ ▁ x"),
    ],
)
def test_the_space_in_front(config, model_type, wanted, folder):
    """As transformers puts it: before each part, or before the text alone; there is one already, or there are two."""
    config_file = folder / "config.json"
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | {"model_type": model_type}))
    _, made = with_pieces(folder, **config)
    assert [made._tokenizer.id_to_token(i) for i in made.encode(" x</s> x")] == wanted.split()
    assert [made._tokenizer.id_to_token(i) for i in made.encode("x</s>x")][1:] == (
        ["▁", "x", "</s>", "x"] if config.get("legacy") is False or (model_type == "llama" and not config) else
        ["▁", "x", "</s>", "▁", "x"]
    )  # fmt: skip


def test_added_tokens(folder):
    (folder / "added_tokens.json").write_text(json.dumps({"<b>": 601, "<a>": 600}))
    _, made = with_pieces(folder)
    assert made.encode("<a><b>")[-1] == 601 and made.id_of("<a>") == 600
    (folder / "added_tokens.json").write_text(json.dumps({"<b>": 700}))
    with pytest.raises(CheckpointError, match=r"added_tokens.json: token '<b>' has id 700, but 600 is next"):
        with_pieces(folder)


def test_gpt2_files(folder):
    """vocab.json and merges.txt, with the rules of the class."""
    content = tiny.BYTE_LEVEL["model"]
    (folder / "vocab.json").write_text(json.dumps(content["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(content["merges"]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    with p.open_checkpoint(folder) as checkpoint:
        wanted = [content["vocab"][text] for text in ("abcd", "Ġa", "the")]
        assert list(checkpoint.tokenizer().encode("abcd athe")) == wanted
    (folder / "merges.txt").write_text("a b c\n")
    with p.open_checkpoint(folder) as checkpoint, pytest.raises(CheckpointError, match="a merge is not two tokens"):
        checkpoint.tokenizer()


PIECE = field(1, b"a") + field(2, -1.0)


@pytest.mark.parametrize(
    "content, kind, words",
    [
        (b"", CheckpointError, "has 0 pieces"),
        (b"\x0a\xff", CheckpointError, "a number at byte 2 has no end"),
        (b"\x0a\x7fabc", CheckpointError, "takes 127 bytes, 3 are left"),
        (b"{}", CheckpointError, "wire type 3"),
        (field(1, PIECE) * 2, CheckpointError, "a piece twice"),
        (field(1, PIECE + field(3, 9)), CheckpointError, "type 9"),
        (field(1, PIECE) + field(2, field(3, 4)), UnsupportedError, "a model of characters"),
        (field(1, PIECE) + field(2, field(24, 1)), UnsupportedError, "spaces behind words"),
        (field(1, PIECE), CheckpointError, "ends behind 1 pieces, in the middle"),
        (field(1, PIECE) + field(2, field(3, 2)), CheckpointError, "ends behind 1 pieces, in the middle"),
        (b"IQ== 0\nIg== 1\n", UnsupportedError, "is a list of tiktoken"),
    ],
)
def test_damaged_files(content, kind, words, tmp_path):
    file = tmp_path / "tokenizer.model"
    file.write_bytes(content)
    with pytest.raises(kind, match=words) as caught:
        read_pieces(file)
    assert "\n" not in str(caught.value)
