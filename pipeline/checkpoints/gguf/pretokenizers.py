"""How each kind of byte-level BPE cuts a text into words before merging: tokenizer.ggml.pre of a GGUF file.

The expressions are those of the models' own tokenizer.json. Several are applied one after the other: each cuts the
pieces further that the one before it made.
"""

from dataclasses import dataclass

__all__ = ["DIGITS", "GPT2", "KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """One kind of byte-level BPE.

    patterns      the expressions that cut a text, one after the other
    whole_words   a word that is a token is that token, whatever the merges say
    add_bos       whether a prompt starts with the beginning token where the file does not say
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
# GPT-2's words; and single digits, which some cut out first.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGITS = r"\p{N}"
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES
_QWEN2 = _LLAMA3.replace("{1,3}", "")

# Words in which small letters follow large ones; gpt-4o keeps a contraction with its word.
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*")
_TEKKEN = "|".join(_CASED) + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACES
_GPT4O = "|".join(f"{case}{_CONTRACTIONS}?" for case in _CASED) + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACES

# The letters that deepseek-llm counts as such, most of those with a case: code points and ranges of them.
_CASED_LETTERS = (
    "41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c "
    "38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b "
    "1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 "
    "1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 "
    "2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b "
    "2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 "
    "fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df "
    "1e900-1e943"
)


def _code_points(ranges: str) -> str:
    """The code points for a class of an expression: "41-5a b5" gives the part of [A-Zµ] between its brackets."""
    return "".join("-".join(rf"\x{{{end}}}" for end in part.split("-")) for part in ranges.split())


_CJK = _code_points("4e00-9fa5 800-4e00 ac00-d7ff")
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    f"[{_code_points('4e00-9fa5 3040-309f 30a0-30ff')}]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    + _SPACES,
)

# Digits in groups of three, counted from the last one; and the scripts that AFMoE's tokenizer takes apart.
_GROUPS_OF_THREE = r"\p{N}{1,2}(?=(?:\p{N}{3})+(?!\p{N}))|\p{N}{3}|\p{N}{1,2}"
_ASIAN = _code_points(
    "4e00-9fff 3400-4dbf f900-faff 3040-309f 30a0-30ff ff65-ff9f 2f00-2fdf e40-e7f e80-eff 1780-17ff 1000-109f "
    "aa60-aa7f a9e0-a9ff ac00-d7af 1100-11ff"
)

_KINDS = {
    # For files that name no kind: a guess that fits many models and none exactly.
    ("default", ""): Kind((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    (
        "gpt-2",
        "phi-2",
        "mpt",
        "olmo",
        "jais",
        "a.x-4.0",
        "mellum",
        "gigachat",
        "exaone4",
        "trillion",
        "granite-docling",
    ): Kind((GPT2,)),
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"): Kind(
        (r"\p{N}", GPT2)
    ),
    ("falcon",): Kind((r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")),
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"): Kind(
        (_LLAMA3,), whole_words=True, add_bos=True
    ),
    ("dbrx", "smaug-bpe", "chatglm-bpe"): Kind((_LLAMA3,)),
    ("glm4", "glm5"): Kind((_LLAMA3,), whole_words=True),
    ("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2", "kormo"): Kind((_QWEN2,)),
    ("qwen35",): Kind(
        (_QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]"),)
    ),
    ("tekken",): Kind((_TEKKEN,), whole_words=True, add_bos=True),
    ("gpt-4o", "llama4", "kanana2", "minimax-m2"): Kind((_GPT4O,)),
    ("deepseek-llm",): Kind(
        (
            r"[\r\n]",
            rf"\s?[{_code_points(_CASED_LETTERS)}]+",
            rf"\s?[!-/:-~{_code_points('ff01-ff0f ff1a-ff5e 2018-201f 3000-3002')}]+",
            r"\s+$",
            f"[{_CJK}]+",
            r"\p{N}+",
        )
    ),
    ("deepseek-coder",): Kind((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", f"[{_CJK}]+", r"\p{N}")),
    ("deepseek-v3", "hunyuan-dense", "joyai-llm"): Kind(_DEEPSEEK3),
    ("bailingmoe", "bailingmoe2", "llada-moe"): Kind(
        (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",)
    ),
    ("seed-coder",): Kind((_CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|" + _SPACES,)),
    ("afmoe",): Kind((_GROUPS_OF_THREE, f"[{_ASIAN}]+", _DEEPSEEK3[2])),
    ("exaone-moe",): Kind(
        (
            _CONTRACTIONS
            + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|"
            + r"\s*[\r\n]|\s+(?!\S)|\s+",
        )
    ),
    ("viking",): Kind((r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}")),
    ("poro-chat", "bloom", "gpt3-finnish"): Kind((r" ?[^(\s|.,!?…。，、।۔،)]+",)),
}

KINDS = {name: kind for names, kind in _KINDS.items() for name in names}
