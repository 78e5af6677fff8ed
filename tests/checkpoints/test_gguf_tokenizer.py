"""Tokenizers from GGUF metadata, against tokenizer.json, an own SentencePiece, and llama.cpp where it is installed."""

import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import gguf_files as files
from support.gguf_files import BYTE, CONTROL, NORMAL, UNKNOWN, USER, builtin, keys

from pipeline.checkpoints.gguf.header import read_header
from pipeline.checkpoints.gguf.pretokenizers import KINDS
from pipeline.checkpoints.gguf.tokenizer import Vocabulary, make_tokenizer
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.checkpoints.tokenizer import Tokenizer
from pipeline.errors import CheckpointError, UnsupportedError


def vocabulary(folder, metadata: dict) -> Vocabulary:
    file = folder / "vocabulary.gguf"
    file.write_bytes(files.gguf(metadata))
    return Vocabulary(file, read_header(file).metadata)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    return make_tokenizer(vocabulary(tmp_path_factory.mktemp("v"), builtin()))


TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces\n\n\tand\ttabs ",
    "I'm sure you're RIGHT, we'Ll see",
    "日本語 🦊 é e\u0301 ﬁ",
    "123456 3.14 ½ Ⅷ",
    "<|endoftext|>once<|endoftext|>",
    "def f(x):\r\n    return x**2  # done",
    "a\u200bb\u00a0c\u3000d",
]
ANY_TEXT = st.one_of(st.text(max_size=40), st.text(alphabet=" \n\tab.A1'é日🦊<|>", max_size=40))


@settings(max_examples=300)
@given(text=st.one_of(st.sampled_from(TEXTS), ANY_TEXT))
def test_byte_level_is_the_tokenizer_that_it_was_made_from(byte_level, text):
    reference = Tokenizer.open(builtin_model() / "tokenizer.json")._tokenizer
    ids = byte_level.encode(text).ids
    assert ids == reference.encode(text, add_special_tokens=False).ids
    assert byte_level.decode(ids, skip_special_tokens=True) == reference.decode(ids, skip_special_tokens=True)


# How each kind cuts "It's 12345 HTTPServers,\n\n  don'T\t日本 x²!!" and so on: checked against llama.cpp's tokens.
WORDS = {
    "gpt-2": ["It", "'s", " 12345", " HTTPServers", ",", "\n\n ", " don", "'", "T", "\t", "日本x", "²", "!!"],
    "smollm": [
        "It",
        "'s",
        " ",
        "1",
        "2",
        "3",
        "4",
        "5",
        " HTTPServers",
        ",",
        "\n\n ",
        " don",
        "'",
        "T",
        "\t",
        "日本x",
        "²",
        "!!",
    ],
    "llama-bpe": ["It", "'s", " ", "123", "45", " HTTPServers", ",\n\n", " ", " don", "'T", "\t日本x", "²", "!!"],
    "qwen2": [
        "It",
        "'s",
        " ",
        "1",
        "2",
        "3",
        "4",
        "5",
        " HTTPServers",
        ",\n\n",
        " ",
        " don",
        "'T",
        "\t日本x",
        "²",
        "!!",
    ],
    "tekken": [
        "It",
        "'s",
        " ",
        "1",
        "2",
        "3",
        "4",
        "5",
        " HTTPServers",
        ",\n\n",
        " ",
        " don",
        "'T",
        "\t日本x",
        "²",
        "!!",
    ],
    "gpt-4o": ["It's", " ", "123", "45", " HTTPServers", ",\n\n", " ", " don'T", "\t日本x", "²", "!!"],
    "deepseek-llm": [
        "It",
        "'",
        "s",
        " ",
        "12345",
        " HTTPServers",
        ",",
        "\n",
        "\n",
        " ",
        " don",
        "'",
        "T",
        "\t",
        "日本",
        "x",
        "²",
        "!!",
    ],
    "deepseek-v3": [
        "It",
        "'s",
        " ",
        "123",
        "45",
        " HTTPServers",
        ",\n\n",
        " ",
        " don",
        "'T",
        "\t",
        "日本",
        "x",
        "²",
        "!!",
    ],
    "falcon": [
        "It",
        "'",
        "s",
        " ",
        "123",
        "45",
        " HTTPServers",
        ",",
        "\n\n ",
        " don",
        "'",
        "T",
        "\t",
        "日本x",
        "²",
        "!!",
    ],
    "default": [
        "It",
        "'",
        "s",
        " ",
        "123",
        "45",
        " HTTPServers",
        ",",
        "\n\n ",
        " don",
        "'",
        "T",
        "\t",
        "日本x",
        "²",
        "!!",
    ],
}


def words(kind: str, text: str) -> list[str]:
    from tokenizers import Regex, pre_tokenizers

    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in KINDS[kind].patterns]
    return [word for word, _ in pre_tokenizers.Sequence(cuts).pre_tokenize_str(text)]


@pytest.mark.parametrize("kind", WORDS)
def test_words(kind):
    assert words(kind, "It's 12345 HTTPServers,\n\n  don'T\t日本x²!!") == WORDS[kind]


# One kind for each way of cutting: many names share one.
@pytest.mark.parametrize("kind", {found.patterns: kind for kind, found in KINDS.items()}.values())
@given(text=ANY_TEXT)
@settings(max_examples=20)
def test_every_kind_loses_nothing(kind, text):
    assert "".join(words(kind, text)) == text


def test_words_that_are_tokens_are_taken_whole(tmp_path):
    """Llama 3: "abc" is a token that no merge makes."""
    letters = [*"abc", "ab", "abc"]
    merges = files.array(8, ["a b"])
    found = {
        pre: make_tokenizer(vocabulary(tmp_path, keys("gpt2", letters, pre=pre, merges=merges))).encode("abc").ids
        for pre in ("llama-bpe", "qwen2")
    }
    assert found == {"llama-bpe": [4], "qwen2": [3, 2]}


def test_merges_that_make_no_token_are_left_out(tmp_path):
    merges = files.array(8, ["a b", "b c", "x y", "ab", "", " ", "a b"])
    tokenizer = make_tokenizer(vocabulary(tmp_path, keys("gpt2", [*"abc", "ab"], pre="gpt-2", merges=merges)))
    assert tokenizer.encode("abc").ids == [3, 2]


# SentencePiece

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def sentencepiece(tokens: list[str], scores, **rest) -> dict:
    """Specials, bytes, then `tokens`."""
    everything = ["<unk>", "<s>", "</s>", *BYTES, *tokens]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(tokens)]
    return keys("llama", everything, types, scores=files.array(6, [0.0] * 259 + list(scores)), **rest)


def reference(text: str, tokens: list[str], scores) -> list[int]:
    """Kudo's merging, straight from its description: the best pair first, the leftmost of equals."""
    known = {token: (i + 259, score) for i, (token, score) in enumerate(zip(tokens, scores))}
    symbols: list[str | None] = list("▁" + text.replace(" ", "▁")) if text else []
    after = list(range(1, len(symbols) + 1))
    before = list(range(-1, len(symbols) - 1))
    queue: list = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right < len(symbols) and (pair := symbols[left] + symbols[right]) in known:
            heapq.heappush(queue, (-known[pair][1], left, right, pair))

    for i in range(len(symbols) - 1):
        offer(i, i + 1)
    while queue:
        _, left, right, pair = heapq.heappop(queue)
        if symbols[left] is None or symbols[right] is None or symbols[left] + symbols[right] != pair:
            continue
        symbols[left], symbols[right] = pair, None
        after[left] = after[right]
        if after[right] < len(symbols):
            before[after[right]] = left
        offer(before[left], left)
        offer(left, after[left])
    ids: list[int] = []
    for symbol in symbols:
        if symbol is not None:
            ids += [known[symbol][0]] if symbol in known else [3 + byte for byte in symbol.encode()]
    return ids


@st.composite
def vocabularies(draw):
    """Tokens of few letters, so that they overlap, and each letter; each one's score its own."""
    tokens = draw(st.lists(st.text(alphabet="▁abcé", min_size=1, max_size=4), min_size=3, max_size=25, unique=True))
    tokens += sorted(set("".join(tokens)) - set(tokens))
    order = draw(st.permutations(range(len(tokens))))
    return tokens, [-float(place) for place in order]


@settings(max_examples=300)
@given(made=vocabularies(), text=st.text(alphabet=" abcéx日", min_size=1, max_size=24))
def test_sentencepiece(tmp_path_factory, made, text):
    tokens, scores = made
    tokenizer = make_tokenizer(vocabulary(tmp_path_factory.getbasetemp(), sentencepiece(tokens, scores)))
    ids = tokenizer.encode(text).ids
    assert raw(ids, tokens).replace("▁", " ") == " " + text
    assert ids == reference(text, tokens, scores)


def test_of_equal_scores_the_earlier_token_is_merged_first(tmp_path):
    made = ["a", "b", "c", "ab", "bc"], [-2.0, -3.0, -4.0, -1.0, -1.0]
    without = vocabulary(tmp_path, sentencepiece(*made, add_space_prefix=False))
    assert make_tokenizer(without).encode("abc").ids == [262, 261]


def raw(ids, tokens) -> str:
    return b"".join(tokens[i - 259].encode() if i >= 259 else bytes([i - 3]) for i in ids).decode()


def test_space_in_front(tmp_path):
    made = ["▁", "a", "▁a"], [-1.0, -2.0, -3.0]
    assert make_tokenizer(vocabulary(tmp_path, sentencepiece(*made))).encode("a a").ids == [261, 261]
    without = vocabulary(tmp_path, sentencepiece(*made, add_space_prefix=False))
    assert make_tokenizer(without).encode("a a").ids == [260, 261]
    special = make_tokenizer(vocabulary(tmp_path, sentencepiece(*made))).encode("a</s>a")
    assert special.ids == [261, 2, 261]  # after a control token, too, as llama.cpp does


def test_unknown_without_bytes(tmp_path):
    tokens = keys(
        "llama",
        ["<unk>", "<s>", "</s>", "▁", "a"],
        [UNKNOWN, CONTROL, CONTROL, NORMAL, NORMAL],
        scores=files.array(6, [0.0, 0.0, 0.0, -1.0, -2.0]),
    )
    assert make_tokenizer(vocabulary(tmp_path, tokens)).encode("a日本").ids == [3, 4, 0]


def test_tokens_that_users_defined(tmp_path):
    """Gemma's runs of spaces are found before anything is cut, and decoding shows them."""
    metadata = sentencepiece(["▁", "a", "  "], [-1.0, -2.0, -3.0], add_space_prefix=False)
    metadata["tokenizer.ggml.token_type"] = files.array(
        5, [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, NORMAL, NORMAL, USER]
    )
    tokenizer = make_tokenizer(vocabulary(tmp_path, metadata))
    assert tokenizer.encode("a  a a").ids == [260, 261, 260, 259, 260]
    assert tokenizer.decode([260, 261, 260, 1], skip_special_tokens=True) == "a  a"


def test_merges_with_visible_spaces(tmp_path):
    """Gemma 4: merges, spaces as letters, bytes where nothing fits, lines apart."""
    tokens = ["<unk>", "<s>", *BYTES, "▁", "a", "▁a", "\n", "\n\n"]
    types = [UNKNOWN, CONTROL, *[BYTE] * 256, *[NORMAL] * 5]
    metadata = keys("gemma4", tokens, types, merges=files.array(8, ["▁ a", "\n \n"]), bos_token_id=1)
    made = vocabulary(tmp_path, metadata)
    tokenizer = make_tokenizer(made)
    assert tokenizer.encode("a a\n\n a日").ids == [259, 260, 262, 260, 2 + 0xE6, 2 + 0x97, 2 + 0xA5]
    assert (
        tokenizer.decode([259, 260, 262, 260, 2 + 0xE6, 2 + 0x97, 2 + 0xA5]) == "a a\n\n a日" and made.bos_token() == 1
    )


# Special tokens


@pytest.mark.parametrize(
    "metadata, begin",
    [
        ({"bos_token_id": 5}, None),
        ({"bos_token_id": 5, "add_bos_token": True}, 5),
        ({"add_bos_token": True}, None),
        ({"bos_token_id": 5, "pre": "llama-bpe"}, 5),
        ({"bos_token_id": 5, "pre": "llama-bpe", "add_bos_token": False}, None),
        ({"bos_token_id": 99, "add_bos_token": True}, None),
    ],
)
def test_beginning_token(tmp_path, metadata, begin):
    base = {"pre": "gpt-2", "merges": files.array(8, [])}
    assert vocabulary(tmp_path, keys("gpt2", list("abcdefgh"), **base | metadata)).bos_token() == begin


def test_beginning_token_of_sentencepiece(tmp_path):
    made = ["a"], [-1.0]
    assert vocabulary(tmp_path, sentencepiece(*made)).bos_token() == 1
    assert vocabulary(tmp_path, sentencepiece(*made, bos_token_id=2)).bos_token() == 2
    assert vocabulary(tmp_path, sentencepiece(*made, add_bos_token=False)).bos_token() is None


def test_end_tokens(tmp_path):
    texts = ["a", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "b", "<|end|>", "c"]
    types = [NORMAL, CONTROL, CONTROL, NORMAL, NORMAL, CONTROL, NORMAL]
    base = keys("gpt2", texts, types, pre="gpt-2", merges=files.array(8, []))
    assert vocabulary(tmp_path, base).end_tokens() == (1, 2, 3, 5)  # whatever its type
    named = base | {
        "tokenizer.ggml.eos_token_id": 4,
        "tokenizer.ggml.eot_token_id": 1,
        "tokenizer.ggml.eom_token_id": 999,
    }
    assert vocabulary(tmp_path, named).end_tokens() == (4, 1, 2, 3, 5)
    harmony = keys(
        "gpt2", ["<|end|>", "<|return|>", "<|call|>"], [CONTROL] * 3, pre="gpt-4o", merges=files.array(8, [])
    )
    assert vocabulary(tmp_path, harmony).end_tokens() == (1, 2)  # <|end|> ends one message of several
    assert vocabulary(tmp_path, {"general.architecture": "llama"}).end_tokens() == ()


def test_special_tokens_are_found_and_left_out(tmp_path):
    wrapped = Tokenizer(make_tokenizer(vocabulary(tmp_path, builtin())), 0)
    assert wrapped.encode("hi<|endoftext|>hi")[0] == 0 and wrapped.encode("hi<|endoftext|>").count(0) == 2
    assert wrapped.decode(wrapped.encode("hi<|endoftext|>hi")) == "hihi"
    stream = wrapped.stream()
    assert "".join([*map(stream.push, wrapped.encode("日本 🦊!")), stream.finish()]) == "日本 🦊!"


# What is wrong


def refuse(folder, metadata: dict, *wanted, error=CheckpointError):
    with pytest.raises(error) as caught:
        make_tokenizer(vocabulary(folder, metadata))
    message = str(caught.value)
    assert "\n" not in message and "vocabulary.gguf" in message
    for word in wanted:
        assert word in message


def test_unsupported_kinds_are_named(tmp_path):
    refuse(
        tmp_path, builtin(pre="kimi-k2"), "tokenizer.ggml.pre", '"kimi-k2"', "tokenizer.json", error=UnsupportedError
    )
    refuse(tmp_path, keys("bert", ["a"]), '"bert"', "gpt2", "llama", error=UnsupportedError)
    refuse(tmp_path, keys("none", ["a"]), "no tokenizer")
    refuse(tmp_path, {"general.architecture": "llama"}, "no tokenizer")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"tokens": None}, ["tokens", "missing"]),
        ({"tokens": "abc"}, ["tokens", "array of strings"]),
        ({"tokens": files.array(4, [1])}, ["tokens", "array of strings"]),
        ({"tokens": files.array(8, [])}, ["0 tokens"]),
        ({"tokens": files.array(8, ["a", "b", "a"])}, ['"a" twice']),
        ({"merges": None}, ["merges", "missing"]),
        ({"merges": files.array(5, [1])}, ["merges", "array of strings"]),
        ({"token_type": files.array(5, [1])}, ["token_type", "1 elements", "3 tokens"]),
        ({"token_type": files.array(8, ["a"])}, ["token_type", "numbers"]),
        ({"pre": 3}, ["pre", "str"]),
        ({"tokens": files.array(8, ["a", b"\xff", "c"])}, ["tokens", "number 1", "UTF-8"]),
    ],
)
def test_damaged_byte_level(tmp_path, changes, words):
    metadata = keys("gpt2", ["a", "b", "ab"], [1, 1, 1], pre="gpt-2", merges=files.array(8, ["a b"]))
    metadata |= {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    refuse(tmp_path, {key: value for key, value in metadata.items() if value is not None}, *words)


def test_damaged_sentencepiece(tmp_path):
    metadata = sentencepiece(["a"], [-1.0])
    refuse(tmp_path, metadata | {"tokenizer.ggml.scores": files.array(6, [0.0])}, "scores", "1 elements", "260 tokens")
    refuse(tmp_path, metadata | {"tokenizer.ggml.add_space_prefix": 1}, "add_space_prefix", "bool")
    del metadata["tokenizer.ggml.scores"]
    refuse(tmp_path, metadata, "scores", "missing")


def test_tokens_without_a_text_get_names(tmp_path):
    tokens = vocabulary(tmp_path, keys("gpt2", ["a", "", ""])).tokens()
    assert tokens == ["a", "[EMPTY_1]", "[EMPTY_2]"]


# llama.cpp as the other side


@pytest.fixture(scope="module")
def llama_cpp():
    return pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


@pytest.mark.parametrize(
    "pre", ["gpt-2", "smollm", "llama-bpe", "qwen2", "deepseek-llm", "deepseek-v3", "falcon", "default"]
)
def test_llama_cpp_gives_the_same_tokens(llama_cpp, tmp_path, pre):
    file = tmp_path / "vocabulary.gguf"
    metadata = builtin(pre=pre) | {"llama.context_length": 8}
    file.write_bytes(files.gguf(metadata))
    peer = llama_cpp.Llama(str(file), vocab_only=True, verbose=False)
    tokenizer = make_tokenizer(Vocabulary(file, read_header(file).metadata))
    for text in TEXTS[1:]:
        assert tokenizer.encode(text).ids == peer.tokenize(text.encode(), add_bos=False, special=True)
