"""The tokenizer of a folder, with the tokens and rules that transformers' AutoTokenizer gives it.

tokenizer.json has nearly all of it: whether a prompt begins with a token, its post-processor alone says (transformers
ignores `add_bos_token` beside it). tokenizer_config.json adds tokens, makes others special, and names a class. Some
classes put rules of their own in place of the file's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ..errors import CheckpointError

__all__ = ["SPECIAL", "special_texts", "with_transformers_rules"]

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

Config = Mapping[str, Any]
SPACE = "▁"


def special_texts(tokenizer_config: Config, special_map: Config) -> dict[str, str]:
    """The texts of the special tokens by their names; templates write them. tokenizer_config.json comes first."""
    found: dict[str, str] = {}
    for name in SPECIAL:
        for source in (tokenizer_config, special_map):
            text = _content(source.get(name))
            if text:
                found.setdefault(name, text)
    return found


def with_transformers_rules(
    tokenizer: Tokenizer, model_type: object, tokenizer_config: Config, special_map: Config, source: Path
) -> Tokenizer:
    """Gives `tokenizer`, which comes from tokenizer.json, what transformers adds to it, and returns it.

    CheckpointError where tokenizer_config.json (`source`) describes a token that cannot be.
    """
    name = _class_name(tokenizer, model_type, tokenizer_config)
    known = _CLASSES.get(name)
    named: dict[str, Any] = {}
    if known is not None and isinstance(tokenizer.model, models.BPE):
        named = dict(known[0])
        known[1](tokenizer, tokenizer_config)
    if "added_tokens_decoder" not in tokenizer_config:
        more = [*_extra(tokenizer_config), *_extra(special_map)]
        tokenizer_config = {**tokenizer_config, **special_map, "extra_special_tokens": more}
    named |= {key: value for key in SPECIAL if (value := tokenizer_config.get(key)) is not None}
    tokenizer.encode_special_tokens = bool(tokenizer_config.get("split_special_tokens"))
    try:
        added = _added(tokenizer, tokenizer_config, named)
        tokenizer.add_tokens(added)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: describes a token that cannot be: {error}; download it again") from error
    return tokenizer


def _added(tokenizer: Tokenizer, config: Config, named: Config) -> list[AddedToken]:
    """The tokens that tokenizer_config.json knows and tokenizer.json does not, in the order of their ids; of those that
    both know, the ones that it makes special."""
    listed = config.get("added_tokens_decoder")
    by_id = {int(i): value for i, value in listed.items()} if isinstance(listed, dict) else {}
    tokens = [_token(by_id[i]) for i in sorted(by_id)]
    values = [*named.values(), *_extra(config)]
    values += [value for key, value in config.items() if key.endswith("_token") and key not in SPECIAL]
    names = {token.content for token in tokenizer.get_added_tokens_decoder().values()} | {t.content for t in tokens}
    for value in values:
        text = _content(value)
        if text and text not in names:
            names.add(text)
            token = _token(value)
            token.special = True
            tokens.append(token)
    return tokens


def _extra(config: Config) -> list[object]:
    """The special tokens without a name of their own."""
    more = config.get("extra_special_tokens") or config.get("additional_special_tokens")
    return list(more.values()) if isinstance(more, dict) else more if isinstance(more, list) else []


def _token(value: object) -> AddedToken:
    text = _content(value)
    if text is None:
        raise ValueError(f"{value!r:.60} is no token")
    options = value if isinstance(value, dict) else {"special": True}
    names = ("lstrip", "rstrip", "single_word", "normalized", "special")
    return AddedToken(text, **{key: options[key] for key in names if key in options})


def _content(value: object) -> str | None:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


# The classes that put rules of their own in place of tokenizer.json's


def _class_name(tokenizer: Tokenizer, model_type: object, config: Config) -> str:
    """The class that AutoTokenizer takes, without "Fast"; empty for the general one."""
    declared = config.get("tokenizer_class")
    declared = declared.removesuffix("Fast") if isinstance(declared, str) else ""
    own = _CLASS_OF_MODEL.get(model_type, "") if isinstance(model_type, str) else ""
    if declared == "LlamaTokenizer" and model_type != "qwen2" and _is_byte_level(tokenizer):
        return ""
    if not declared:
        return own
    if model_type in _GENERAL:
        return ""
    return own if model_type == "qwen2" and own else declared


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    return any(part is not None and b'"ByteLevel"' in part.__getstate__() for part in _parts(tokenizer))


def _parts(tokenizer: Tokenizer) -> tuple[Any, ...]:
    return tokenizer.pre_tokenizer, tokenizer.decoder, tokenizer.post_processor


def _llama(tokenizer: Tokenizer, config: Config) -> None:
    prefix = config.get("add_prefix_space")
    in_front = prefix is None or bool(prefix)
    scheme = ("always" if config.get("legacy") else "first") if in_front else "never"
    _bpe(tokenizer, None, byte_fallback=True, fuse_unk=True)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme, split=False)
    shown = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*shown, decoders.Strip(content=" ", left=1)] if in_front else shown)


def _gemma(tokenizer: Tokenizer, config: Config) -> None:
    _bpe(tokenizer, _content(config.get("unk_token")) or "<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern=" ", behavior="merged_with_previous", invert=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])


def _qwen2(tokenizer: Tokenizer, config: Config) -> None:
    _bpe(tokenizer, None)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=bool(config.get("add_prefix_space")), use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()


def _gpt2(tokenizer: Tokenizer, config: Config) -> None:
    _bpe(tokenizer, None)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(config.get("add_prefix_space")))
    tokenizer.decoder = decoders.ByteLevel()


def _gpt_neox(tokenizer: Tokenizer, config: Config) -> None:
    """It forgets the post-processor, too."""
    _gpt2(tokenizer, config)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])


def _bpe(tokenizer: Tokenizer, unknown: str | None, *, byte_fallback: bool = False, fuse_unk: bool = False) -> None:
    model = tokenizer.model
    model.unk_token, model.byte_fallback, model.fuse_unk, model.ignore_merges = unknown, byte_fallback, fuse_unk, False


_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
_END_OF_TEXT = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")
# class -> (the special tokens that it has where nothing names them, what it does to a tokenizer)
_CLASSES: dict[str, tuple[dict[str, str], Callable[[Tokenizer, Config], None]]] = {
    "LlamaTokenizer": ({"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}, _llama),
    "GemmaTokenizer": (
        {
            "unk_token": "<unk>",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
        },
        _gemma,
    ),
    "Qwen2Tokenizer": ({key: "<|endoftext|>" for key in ("unk_token", "eos_token", "pad_token")}, _qwen2),
    "GPT2Tokenizer": (_END_OF_TEXT, _gpt2),
    "CodeGenTokenizer": (_END_OF_TEXT, _gpt2),
    "GPTNeoXTokenizer": (_END_OF_TEXT | {"pad_token": "<|padding|>"}, _gpt_neox),
}
_CLASS_OF_MODEL = {
    **dict.fromkeys(("qwen2", "qwen3", "qwen3_moe", "qwen2_moe", "qwen3_vl_moe_text"), "Qwen2Tokenizer"),
    **dict.fromkeys(("gemma3_text", "gemma3"), "GemmaTokenizer"),
    "olmoe": "GPTNeoXTokenizer",
}
# model_types for which AutoTokenizer takes the general class whatever tokenizer_config.json names
_GENERAL = (
    "ernie4_5",
    "ernie4_5_moe",
    "glm4_moe",
    "glm4_moe_lite",
    "glm4v_moe_text",
    "granite",
    "granitemoe",
    "granitemoeshared",
    "internlm3",
    "iquestcoder",
    "mimo_v2_flash",
    "minimax_m2",
    "ministral",
    "ministral3",
    "mistral",
    "mistral4",
    "mixtral",
    "olmo2",
    "olmo3",
    "phi3",
)
