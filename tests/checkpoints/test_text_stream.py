"""A stream's pieces add up to what the tokenizer's decoder makes of all tokens at once, for every kind of tokenizer and
wherever a prompt ends and its answer begins."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import gguf_files, shapes
from support.gguf_files import builtin

from pipeline.checkpoints.gguf.header import read_header
from pipeline.checkpoints.gguf.tokenizer import Vocabulary, make_tokenizer
from pipeline.checkpoints.text_stream import MAX_WINDOW, cleaned
from pipeline.checkpoints.tokenizer import Tokenizer
from pipeline.generation.stopping import cut, watch

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LLAMA = "\N{LLAMA}"
KINDS = {
    "byte level": shapes.byte_level,
    "byte level without merges": lambda: shapes.byte_level(merges=False),
    "tokens that are not special": shapes.user_defined,
    "SentencePiece": shapes.sentencepiece,
    "SentencePiece, nothing in front": lambda: shapes.sentencepiece(front="", strip=False),
    "SentencePiece, pre-tokenizer": lambda: shapes.sentencepiece(front="pre-tokenizer"),
    "Gemma": shapes.gemma,
    "unigram": shapes.unigram,
    "unigram without bytes": lambda: shapes.unigram(byte_fallback=False),
    "WordPiece": shapes.wordpiece,
    "end of word": shapes.end_of_word,
    "whole words": shapes.word_level,
}
BYTES_IN_RUNS = ("SentencePiece", "SentencePiece, nothing in front", "SentencePiece, pre-tokenizer", "Gemma", "unigram")


def gguf(folder, metadata):
    (folder / "vocabulary.gguf").write_bytes(gguf_files.gguf(metadata))
    return make_tokenizer(Vocabulary(folder / "vocabulary.gguf", read_header(folder / "vocabulary.gguf").metadata))


def sentencepiece_of_gguf(folder):
    tokens = ["<unk>", "<s>", "</s>", *shapes.BYTES, "▁", "a", "b", "▁a", "日"]
    types = [2, 3, 3, *[6] * 256, *[1] * 5]
    return gguf(folder, gguf_files.keys("llama", tokens, types, scores=gguf_files.array(6, [0.0] * len(tokens))))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    made = {name: build() for name, build in KINDS.items()}
    made["GGUF, byte level"] = gguf(tmp_path_factory.mktemp("v"), builtin())
    made["GGUF, SentencePiece"] = sentencepiece_of_gguf(tmp_path_factory.mktemp("v"))
    return {name: Tokenizer(core) for name, core in made.items()}


ALL = [*KINDS, "GGUF, byte level", "GGUF, SentencePiece"]
each_kind = pytest.mark.parametrize("kind", ALL)


def streamed(tokenizer, tokens, after=()):
    stream = tokenizer.stream(after)
    return "".join([*map(stream.push, tokens), stream.finish()])


def at_once(tokenizer, tokens):
    return tokenizer._tokenizer.decode(list(tokens), skip_special_tokens=True)


def tokens_of(tokenizer, data, size):
    """Random tokens, in half of all cases those of a text, which has characters of several bytes."""
    text = data.draw(st.text(alphabet=" ab.é日🦊\ufffd'<s>", max_size=size // 2))
    if data.draw(st.booleans()):
        return tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
    return data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 1), max_size=size))


def run_at_the_end(tokenizer, tokens):
    """The bytes of the run at the end of `tokens`, where the decoder knows such runs."""
    names = [name for token in tokens if (name := tokenizer._decoding.name(token)) is not None]
    found = b""
    while tokenizer._decoding.byte_fallback and names and re.fullmatch("<0x[0-9A-F]{2}>", names[-1]):
        found = bytes([int(names.pop()[3:5], 16)]) + found
    return found


def is_text(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@each_kind
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_stream_is_the_text_at_once(tokenizers, kind, data):
    tokenizer = tokenizers[kind]
    tokens = tokens_of(tokenizer, data, 4 * MAX_WINDOW)
    assert streamed(tokenizer, tokens) == tokenizer.decode(tokens) == at_once(tokenizer, tokens)


@each_kind
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_prompt_and_answer_are_the_text_at_once(tokenizers, kind, data):
    tokenizer = tokenizers[kind]
    tokens = tokens_of(tokenizer, data, 40)
    place = data.draw(st.integers(0, len(tokens)))
    prompt, answer = tokens[:place], tokens[place:]
    text = tokenizer.decode(answer, prompt)
    assert streamed(tokenizer, answer, prompt) == text
    run = run_at_the_end(tokenizer, prompt)
    if run and is_text(
        run
    ):  # complete, and shown: what comes is a run of its own, though bytes that are no text follow
        whole = len(answer)
        while whole and not is_text(run_at_the_end(tokenizer, tokens[: place + whole])):
            whole -= 1
        assume(is_text(run + run_at_the_end(tokenizer, answer)) and whole == len(answer))
        assume(all(is_text(run_at_the_end(tokenizer, tokens[:i])) or not tokens[i:] for i in range(place, len(tokens))))
    assert tokenizer.decode_prompt(prompt) + text == at_once(tokenizer, tokens)


@pytest.mark.parametrize("kind", BYTES_IN_RUNS)
def test_every_split_of_characters_in_bytes(tokenizers, kind):
    tokenizer = tokenizers[kind]
    tokens = tokenizer._tokenizer.encode(f"ab {LLAMA}{LLAMA} c日本 {LLAMA}").ids
    whole = at_once(tokenizer, tokens)
    assert whole.endswith(f"ab {LLAMA}{LLAMA} c日本 {LLAMA}")
    for place in range(len(tokens) + 1):
        text = streamed(tokenizer, tokens[place:], tokens[:place])
        assert text == tokenizer.decode(tokens[place:], tokens[:place])
        assert tokenizer.decode_prompt(tokens[:place]) + text == whole


@pytest.mark.parametrize("kind", BYTES_IN_RUNS)
def test_complete_prompt_and_an_answer_that_ends_within_a_character(tokenizers, kind):
    """The prompt's characters are known; the bytes of the answer are decoded as the run that they are."""
    tokenizer = tokenizers[kind]
    prompt, more = (list(tokenizer._tokenizer.encode(text).ids) for text in (f"a{LLAMA}{LLAMA}", LLAMA))
    more = [token for token in more if run_at_the_end(tokenizer, [token])]
    for count in range(1, 9):
        answer = (more * 2)[:count]
        expected = LLAMA * (count // 4) if count % 4 == 0 else REPLACEMENT * count
        assert tokenizer.decode(answer, prompt) == streamed(tokenizer, answer, prompt) == expected
        assert at_once(tokenizer, answer) == expected


@pytest.mark.parametrize("kind", BYTES_IN_RUNS)
def test_bytes_that_are_no_text_change_their_whole_run(tokenizers, kind):
    tokenizer = tokenizers[kind]
    tokens = [token for token in tokenizer._tokenizer.encode(LLAMA).ids if run_at_the_end(tokenizer, [token])]
    stream = tokenizer.stream()
    assert [stream.push(token) for token in tokens] == [""] * 4 and stream.open() == LLAMA
    assert stream.push(tokens[1]) == "" and stream.open() == ""
    assert stream.finish() == REPLACEMENT * 5 == at_once(tokenizer, [*tokens, tokens[1]])


@pytest.mark.parametrize("kind", ["byte level", "byte level without merges", *BYTES_IN_RUNS, "GGUF, byte level"])
@pytest.mark.parametrize("stop", [LLAMA, LLAMA * 2, f"{LLAMA}a", "日本", "é 日"])
def test_stop_text_of_several_bytes(tokenizers, kind, stop):
    """The row ends with the token that completes the stop text, wherever the prompt ends."""
    tokenizer = tokenizers[kind]
    tokens = tokenizer._tokenizer.encode(f"a b{LLAMA}{LLAMA}a é 日本 b", add_special_tokens=False).ids
    whole = at_once(tokenizer, tokens)
    for place in range(2):
        ends = watch(tokenizer, (stop,), tokens[:place])
        count = next(i for i, token in enumerate(tokens[place:], 1) if ends(token))
        text = tokenizer.decode(tokens[place : place + count], tokens[:place])
        assert (
            stop in text and cut(text, (stop,)) == whole[len(tokenizer.decode_prompt(tokens[:place])) :].split(stop)[0]
        )
        assert stop not in tokenizer.decode(tokens[place : place + count - 1], tokens[:place])


def test_replacement_character_that_the_prompt_itself_has(tokenizers):
    """It is complete, though it looks like the beginning of a character."""
    for kind in ("byte level", "SentencePiece"):
        tokenizer = tokenizers[kind]
        prompt = tokenizer._tokenizer.encode(f"a{REPLACEMENT}", add_special_tokens=False).ids
        answer = tokenizer._tokenizer.encode("b", add_special_tokens=False).ids[-1:]
        assert tokenizer.decode_prompt(prompt) == f"a{REPLACEMENT}"
        assert tokenizer.decode(answer, prompt) == streamed(tokenizer, answer, prompt) == "b"


def test_special_tokens_do_not_end_a_character(tokenizers):
    for kind, special in (("byte level", "<|im_end|>"), ("SentencePiece", "</s>")):
        tokenizer = tokenizers[kind]
        tokens = tokenizer._tokenizer.encode(f"a{LLAMA}", add_special_tokens=False).ids
        with_special = [tokens[0], tokens[1], tokenizer._tokenizer.token_to_id(special), *tokens[2:]]
        assert streamed(tokenizer, with_special) == at_once(tokenizer, with_special) == at_once(tokenizer, tokens)


def test_only_special_tokens_before(tokenizers):
    """The first word of a text has no space in front, however many special tokens stand before it."""
    tokenizer = tokenizers["SentencePiece"]
    word = tokenizer._tokenizer.encode("a", add_special_tokens=False).ids
    assert tokenizer.decode(word, [1] * 9) == streamed(tokenizer, word, [1] * 9) == "a"
    assert tokenizer.decode(word, [*word, *[1] * 9]) == " a"


def test_endless_bytes_are_shown_in_time(tokenizers):
    """A continuation byte without its start, again and again: nothing is held back for ever."""
    tokenizer = tokenizers["byte level"]
    byte = tokenizer._tokenizer.token_to_id("Ģ")  # 0x80
    stream = tokenizer.stream()
    shown = "".join(stream.push(byte) for _ in range(400))
    assert shown == REPLACEMENT * 400 and len(stream._window) <= MAX_WINDOW


def test_hidden_tokens_add_nothing(tokenizers):
    tokenizer = Tokenizer(shapes.byte_level(specials=("<|im_end|>",)))
    (letter,) = tokenizer.encode("a")
    tokenizer.set_ends([letter], ["<|im_end|>"])
    assert tokenizer.decode([letter, tokenizer._tokenizer.token_to_id("<|im_end|>"), letter]) == "aa"


# Spaces before punctuation

PUNCTUATION = st.lists(
    st.sampled_from(["a", " ", ".", "'", "n't", "m", "s", "ve", "re", ",", "?", " '", "'s"]), max_size=24
)


@pytest.mark.parametrize("kind", ["unigram without bytes", "WordPiece", "end of word"])
@settings(max_examples=80, deadline=None)
@given(parts=PUNCTUATION, place=st.integers(0, 30))
def test_cleaned_text_streams_to_itself(tokenizers, kind, parts, place):
    tokenizer = Tokenizer(tokenizers[kind]._tokenizer, clean_up=True)
    tokens = tokenizer._tokenizer.encode("".join(parts), add_special_tokens=False).ids
    assert streamed(tokenizer, tokens) == tokenizer.decode(tokens) == cleaned(at_once(tokenizer, tokens))
    assert streamed(tokenizer, tokens[place:], tokens[:place]) == tokenizer.decode(tokens[place:], tokens[:place])
