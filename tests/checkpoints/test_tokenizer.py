"""Text to tokens and back, with the built-in model's tokenizer; test_text_stream.py has the other kinds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import golden

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.checkpoints.tokenizer import Tokenizer, read_tokenizer
from pipeline.errors import CheckpointError, PromptError

GOLDEN = golden("golden")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.open(builtin_model() / "tokenizer.json")


def stream(tokenizer, tokens):
    decoder = tokenizer.stream()
    pieces = [decoder.push(token) for token in tokens]
    return [*pieces, decoder.finish()]


@pytest.mark.parametrize("case", GOLDEN["4bit"], ids=lambda case: case["prompt"][:20])
def test_golden(tokenizer, case):
    assert list(tokenizer.encode(case["prompt"])) == case["prompt_ids"]
    assert tokenizer.decode(case["tokens"]) == case["text"]
    assert "".join(stream(tokenizer, case["tokens"])) == case["text"]


def test_beginning_token(tokenizer):
    """The built-in model's own file says that it needs one; a text that has one already gets another, as elsewhere."""
    assert tokenizer.encode("") == (0,) and tokenizer.begins_with == 0
    assert tokenizer.encode("<|endoftext|>hi") == (0, 0, *tokenizer.encode("hi", complete=True))
    assert tokenizer.encode("hi", complete=True) == tokenizer.encode("hi")[1:]
    with pytest.raises(PromptError, match="empty"):
        tokenizer.encode("", complete=True)


def test_tokens_besides_those_of_the_file():
    """A GGUF file names its own."""
    core = read_tokenizer(builtin_model() / "tokenizer.json")
    plain = tuple(core.encode("hi", add_special_tokens=False).ids)
    core.post_processor = None
    for begin, end in ((None, None), (5, None), (None, 6), (5, 6)):
        tokenizer = Tokenizer(core, begin, end)
        expected = [token for token in (begin, *plain, end) if token is not None]
        assert tokenizer.encode("hi") == tuple(expected) and tokenizer.encode("hi", complete=True) == plain
        assert tokenizer.begins_with == begin


def test_half_a_surrogate_pair(tokenizer):
    with pytest.raises(PromptError, match="surrogate"):
        tokenizer.encode("a\ud800b")


def test_special_tokens_are_left_out(tokenizer):
    assert tokenizer.decode([0, *tokenizer.encode("hi")[1:], 0]) == "hi"
    assert tokenizer.vocab_size == 4096


def test_characters_come_whole(tokenizer):
    pieces = stream(tokenizer, tokenizer.encode("a 🦊日é!")[1:])
    assert all(REPLACEMENT not in piece for piece in pieces) and "".join(pieces) == "a 🦊日é!"


def test_incomplete_character_at_the_end(tokenizer):
    tokens = tokenizer.encode("🦊")[1:-1]
    assert "".join(stream(tokenizer, tokens)[:-1]) == "" and stream(tokenizer, tokens)[-1] == REPLACEMENT


def test_replacement_character_of_the_text_itself(tokenizer):
    text = f"a{REPLACEMENT}{REPLACEMENT}{REPLACEMENT}{REPLACEMENT}b"
    assert "".join(stream(tokenizer, tokenizer.encode(text)[1:])) == text


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_streams_to_itself(tokenizer, text):
    tokens = tokenizer.encode(text)[1:]
    assert "".join(stream(tokenizer, tokens)) == tokenizer.decode(tokens)


@settings(max_examples=300, deadline=None)
@given(tokens=st.lists(st.one_of(st.integers(1, 256), st.integers(0, 4095)), max_size=63))
def test_any_tokens_stream_to_their_text(tokenizer, tokens):
    """Random bytes, mostly invalid UTF-8."""
    assert "".join(stream(tokenizer, tokens)) == tokenizer.decode(tokens)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"model": 3}'])
def test_file_that_is_no_tokenizer(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    with pytest.raises(CheckpointError, match="not found"):
        Tokenizer.open(file)
    file.write_text(content)
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.open(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_text_goes_on_from_what_was_before_it(tmp_path):
    """A SentencePiece tokenizer's decoder takes the first space away, which is right at the start of a text alone."""
    import tokenizers
    from tokenizers import decoders, models

    vocabulary = {"<s>": 0, "\u2581a": 1, "b": 2, "<0xC3>": 3, "<0xA9>": 4}
    core = tokenizers.Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    core.add_special_tokens(["<s>"])
    core.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    wrapped = Tokenizer(core)
    for before, text in [((), "a ab"), ((2,), " a ab"), ((0,), "a ab"), ((1, 1, 1, 1, 1, 1), " a ab")]:
        assert wrapped.decode([1, 1, 2], before) == text
        stream = wrapped.stream(before)
        assert "".join([*map(stream.push, [1, 1, 2]), stream.finish()]) == text
    assert wrapped.decode([4, 2], (3,)) == "\u00e9b"  # with the character that was begun before,
    assert wrapped.decode_prompt((2, 3)) == "b"  # which the prompt's text leaves to it
    assert wrapped.decode([3, 4], (2,)) == "\u00e9"
