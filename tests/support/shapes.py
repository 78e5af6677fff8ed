"""Small tokenizers of every kind with their settings, each as a folder has them: what Onebuf and transformers are
compared on. They are built here, so nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPACE = "▁"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class Shape:
    """One folder: `build` makes its tokenizer.json; the others are its files by their names."""

    build: Callable[[], Tokenizer]
    model_type: str = "llama"
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] | None = None
    special: dict[str, Any] | None = None

    def write(self, folder: Path, **config: Any) -> Path:
        """Writes the folder's JSON files; `config` adds to config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = self.build()
        tokenizer.save(str(folder / "tokenizer.json"))
        files = {
            "config.json": {"model_type": self.model_type, **self.config, **config},
            "tokenizer_config.json": self.tokenizer,
            "special_tokens_map.json": self.special,
        }
        for name, content in files.items():
            if content is not None:
                (folder / name).write_text(json.dumps(content))
        return folder


def byte_level(
    *, specials: tuple[str, ...] = CHAT, begin: str = "", regex: bool = False, merges: bool = True
) -> Tokenizer:
    """Byte-level BPE with some merges. begin: the token that its post-processor puts first."""
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    pairs = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "a"), ("o", "n"), ("Ã", "©"), ("ð", "Ł")] if merges else []
    for left, right in pairs:
        vocab[left + right] = len(vocab)
    for text in specials:
        vocab[text] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in specials])
    return _beginning(tokenizer, begin)


def sentencepiece(*, begin: str = "", front: str = "normalizer", strip: bool = True) -> Tokenizer:
    """BPE with byte fallback. front: where the space in front comes from: a normalizer, a pre-tokenizer or nowhere."""
    vocab = {text: i for i, text in enumerate(["<unk>", "<s>", "</s>", *BYTES])}
    for letter in SPACE + "abcdefghijklmnopqrstuvwxyz.,'":
        vocab[letter] = len(vocab)
    pairs = [("t", "h"), ("th", "e"), (SPACE, "the"), (SPACE, "a"), ("o", "n"), (SPACE, SPACE)]
    for left, right in pairs:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if front == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    elif front == "pre-tokenizer":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    shown = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*shown, decoders.Strip(" ", 1, 0)] if strip else shown)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return _beginning(tokenizer, begin)


def gemma() -> Tokenizer:
    vocab = {text: i for i, text in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *BYTES])}
    for letter in SPACE + "\nabcdefghijklmnopqrstuvwxyz.,'":
        vocab[letter] = len(vocab)
    for text in ("<start_of_turn>", "<end_of_turn>", SPACE * 2, "th", "the"):
        vocab[text] = len(vocab)
    pairs = [(SPACE, SPACE), ("t", "h"), ("th", "e")]
    tokenizer = Tokenizer(models.BPE(vocab, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"])
    return _beginning(tokenizer, "<bos>")


def unigram(*, byte_fallback: bool = True) -> Tokenizer:
    """SentencePiece's other kind, with bytes for what it has no piece for."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(byte, -20.0) for byte in BYTES] if byte_fallback else []
    pieces += [(letter, -5.0) for letter in SPACE + "abcdefghijklmnopqrstuvwxyz.,'!?"]
    pieces += [(text, -3.0) for text in (SPACE + "the", "on", SPACE + "a")]
    tokenizer = Tokenizer(models.Unigram(pieces, 0, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=True)
    shown = [decoders.ByteFallback()] if byte_fallback else []
    tokenizer.decoder = decoders.Sequence([*shown, decoders.Metaspace(SPACE, prepend_scheme="always", split=True)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return _beginning(tokenizer, "<s>")


def wordpiece() -> Tokenizer:
    words = [
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *"abcdefghijklmnopqrstuvwxyz.,'!?",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    tokenizer = Tokenizer(
        models.WordPiece({word: i for i, word in enumerate([*words, "the", "##on"])}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece("##", cleanup=False)
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


def end_of_word() -> Tokenizer:
    """BPE whose words end in a suffix, as the first of OpenAI's had it."""
    vocab = {text: i for i, text in enumerate(["<unk>", *"abcdefghijklmnopqrstuvwxyz.,"])}
    for letter in "abcdefghijklmnopqrstuvwxyz.,":
        vocab[f"{letter}</w>"] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def word_level() -> Tokenizer:
    """Whole words, and no decoder."""
    words = ["<unk>", "<s>", "</s>", "a", "the", "on", "b", "."]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return _beginning(tokenizer, "<s>")


def user_defined() -> Tokenizer:
    """Byte-level BPE with added tokens that are not special: one of letters, one that takes spaces with it."""
    tokenizer = byte_level()
    tokenizer.add_tokens(["<tool>", "été", AddedToken("<r>", rstrip=True), AddedToken("<l>", lstrip=True)])
    return tokenizer


def _beginning(tokenizer: Tokenizer, begin: str) -> Tokenizer:
    if begin:
        token = tokenizer.token_to_id(begin)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, token)]
        )
    return tokenizer


def _words(pattern: str) -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_CHAT = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
_FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
_TOKEN = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}

SHAPES = {
    "byte level, no settings": Shape(byte_level),
    "byte level, a beginning token that is only named": Shape(byte_level, tokenizer=_CHAT | _FAST),
    "byte level, add_bos_token": Shape(byte_level, tokenizer=_CHAT | _FAST | {"add_bos_token": True}),
    "byte level, the post-processor begins": Shape(
        lambda: byte_level(begin="<|endoftext|>"), tokenizer=_CHAT | _FAST | {"add_bos_token": False}
    ),
    "GPT2Tokenizer": Shape(byte_level, tokenizer=_CHAT | {"tokenizer_class": "GPT2Tokenizer"}),
    "CodeGenTokenizer": Shape(byte_level, tokenizer=_CHAT | {"tokenizer_class": "CodeGenTokenizer"}),
    "GPTNeoXTokenizer": Shape(
        lambda: byte_level(begin="<|endoftext|>"),
        "olmoe",
        tokenizer={"eos_token": "<|endoftext|>", "tokenizer_class": "GPTNeoXTokenizerFast", "add_bos_token": True},
    ),
    "Qwen2Tokenizer": Shape(
        lambda: _words(r"\w+|\W+"), "qwen2", tokenizer={"eos_token": "<|im_end|>", "tokenizer_class": "Qwen2Tokenizer"}
    ),
    "qwen3 without a class": Shape(lambda: _words(r"\w+|\W+"), "qwen3_moe", tokenizer={"eos_token": "<|im_end|>"}),
    "LlamaTokenizer of bytes": Shape(
        lambda: byte_level(begin="<|endoftext|>"), tokenizer=_CHAT | {"tokenizer_class": "LlamaTokenizerFast"}
    ),
    "SentencePiece": Shape(lambda: sentencepiece(begin="<s>"), tokenizer=_LLAMA | _FAST),
    "LlamaTokenizer": Shape(
        lambda: sentencepiece(begin="<s>"), tokenizer=_LLAMA | {"tokenizer_class": "LlamaTokenizer", "legacy": False}
    ),
    "LlamaTokenizer, legacy": Shape(
        lambda: sentencepiece(begin="<s>"), tokenizer=_LLAMA | {"tokenizer_class": "LlamaTokenizerFast", "legacy": True}
    ),
    "LlamaTokenizer, nothing in front": Shape(
        sentencepiece, tokenizer={"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False, "add_bos_token": True}
    ),
    "Mistral with LlamaTokenizer": Shape(
        lambda: sentencepiece(begin="<s>"), "mistral", tokenizer=_LLAMA | {"tokenizer_class": "LlamaTokenizer"}
    ),
    "Mixtral without a class": Shape(lambda: sentencepiece(front="pre-tokenizer"), "mixtral", tokenizer=_LLAMA),
    "SentencePiece without a space in front": Shape(lambda: sentencepiece(front="", strip=False), special=_LLAMA),
    "GemmaTokenizer": Shape(
        gemma,
        "gemma3_text",
        tokenizer={"bos_token": "<bos>", "eos_token": "<eos>", "tokenizer_class": "GemmaTokenizer"},
    ),
    "Gemma 4": Shape(gemma, "gemma4_text", tokenizer={"eos_token": "<end_of_turn>"} | _FAST),
    "unigram": Shape(unigram, tokenizer=_LLAMA | _FAST | {"clean_up_tokenization_spaces": True}),
    "unigram without bytes": Shape(lambda: unigram(byte_fallback=False), tokenizer=_LLAMA | _FAST),
    "WordPiece": Shape(wordpiece, tokenizer=_FAST | {"unk_token": "[UNK]", "clean_up_tokenization_spaces": True}),
    "end of word": Shape(end_of_word, tokenizer=_FAST | {"clean_up_tokenization_spaces": True}),
    "whole words": Shape(word_level, "granitemoe", tokenizer=_LLAMA | _FAST),
    "tokens that are not special": Shape(user_defined, tokenizer=_CHAT | _FAST),
    "tokens of tokenizer_config.json": Shape(
        byte_level,
        tokenizer=_FAST
        | {
            "added_tokens_decoder": {
                "266": {"content": "<|im_end|>"} | _TOKEN,
                "270": {"content": "<think>"} | _TOKEN | {"special": False},
                "269": {"content": "<|eot|>"} | _TOKEN,
            },
            "eos_token": "<|eot|>",
            "pad_token": {"__type": "AddedToken", "content": "the"} | _TOKEN,
            "additional_special_tokens": ["<|tool|>", "<|eot|>"],
        },
    ),
    "special tokens of a map": Shape(
        lambda: byte_level(specials=("<|endoftext|>",)),
        tokenizer=_FAST,
        special={"eos_token": {"content": "<|end|>"} | _TOKEN, "extra_special_tokens": ["<|a|>"]},
    ),
    "special tokens are split": Shape(byte_level, tokenizer=_CHAT | _FAST | {"split_special_tokens": True}),
    "an end token that is an ordinary token": Shape(
        lambda: byte_level(specials=()), tokenizer=_FAST | {"eos_token": "the", "bos_token": None}
    ),
}

TEXTS = (
    "",
    " ",
    "a",
    " the  on",
    "the on, a. b's don't!",
    "é日本 \N{LLAMA}\N{LLAMA} x\n\n y",
    "<s>a</s> a <unk><s> the",
    "<|endoftext|>on<|im_start|> the<|im_end|>\na",
    "<bos>a<end_of_turn> \na<eos>",
    "a<tool> été <r>  b  <l><think> <|eot|>the<|tool|><|a|><|end|> ",
    "THE ½ cafe\u0301 \u00a0x",
)
