"""A checkpoint's tokenizer and chat templates as the metadata of a GGUF file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..checkpoints.chat import DEFAULT
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.gguf.pretokenizers import DIGITS, GPT2, KINDS
from ..checkpoints.gguf.tokenizer import PREFIX
from ..checkpoints.sentencepiece_file import TokenType
from ..errors import UnsupportedError
from .gguf_file import I32, Typed

__all__ = ["SAMPLES", "vocabulary"]

BYTE = re.compile(r"<0x[0-9A-F]{2}>")

# Texts that the tokenizer and what it becomes must cut alike.
SAMPLES = (
    "Once upon a time, there was a fox.",
    " Two  spaces,\ttabs\n\n and lines \r\n",
    "It's 1234567.89 € — “naïve” café, don't WE'LL 12:30",
    "def f(x):\n    return x[0] != {'a': 1}  # 你好，世界 مرحبا Привет 😀",
)


def vocabulary(checkpoint: Checkpoint, rows: int) -> dict[str, Any]:
    """The keys of the tokenizer. rows: of the embedding; ids without a token get one that no text contains."""
    tokenizer = checkpoint.tokenizer()
    content = json.loads(tokenizer.to_json())
    model = content["model"]

    def refuse(what: str) -> UnsupportedError:
        return UnsupportedError(f"{checkpoint.path}: {what}, which GGUF has no form for")

    if model.get("type") != "BPE":
        raise refuse(f"its tokenizer is {model.get('type')}")
    added = {token["id"]: token for token in content["added_tokens"]}
    texts = {i: text for text, i in model["vocab"].items()} | {i: token["content"] for i, token in added.items()}
    if max(texts) >= rows:
        raise refuse(f"its tokenizer has ids up to {max(texts):,} and the embedding {rows:,} rows")
    found: dict[str, Any] = _byte_level(content, refuse) if _names(content, "ByteLevel") else _spaces(content, texts)
    tokens = [texts.get(i, f"[UNUSED_{i}]") for i in range(rows)]
    found["tokens"] = tokens
    found["token_type"] = [Typed(I32, int(kind)) for kind in _types(tokens, texts, added, model)]
    if found["model"] == "llama":
        found["scores"] = _scores(tokens, model)
    found |= _special(checkpoint)
    found["add_bos_token"], found["add_eos_token"] = checkpoint.bos_token is not None, False
    keys: dict[str, Any] = {PREFIX + key: value for key, value in found.items()}
    for name, template in checkpoint.chat().templates.items():
        keys["tokenizer.chat_template" + ("" if name == DEFAULT else f".{name}")] = template
    return keys


def _special(checkpoint: Checkpoint) -> dict[str, int]:
    """The ids of the tokens that the file names."""
    found = dict(zip(("eos_token_id", "eot_token_id", "eom_token_id"), checkpoint.end_tokens))
    return found if checkpoint.bos_token is None else found | {"bos_token_id": checkpoint.bos_token}


def _byte_level(content: Mapping[str, Any], refuse: Any) -> dict[str, Any]:
    patterns: list[str] = []
    for part in _flat(content.get("pre_tokenizer")):
        kind = part.get("type")
        if kind == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
            pattern = part["pattern"]
            patterns.append(pattern["Regex"] if "Regex" in pattern else re.escape(pattern["String"]))
        elif kind == "Digits" and part.get("individual_digits"):
            patterns.append(DIGITS)
        elif kind == "ByteLevel" and not part.get("add_prefix_space"):
            patterns += [GPT2] if part.get("use_regex", True) else []
        else:
            raise refuse(f"its tokenizer cuts words by {kind}")
    whole = bool(content["model"].get("ignore_merges"))
    names = [name for name, kind in KINDS.items() if kind.patterns == tuple(patterns)]
    name = next((name for name in names if KINDS[name].whole_words == whole), None)
    if name is None:
        raise refuse("its tokenizer cuts words by other expressions than any known")
    merges = content["model"]["merges"]
    return {
        "model": "gpt2",
        "pre": name,
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
    }


def _spaces(content: Mapping[str, Any], texts: Mapping[int, str]) -> dict[str, Any]:
    """SentencePiece's BPE."""
    prefix = any(part.get("type") == "Prepend" for part in _flat(content.get("normalizer"))) or any(
        part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never"
        for part in _flat(content.get("pre_tokenizer"))
    )
    return {"model": "llama", "pre": "default", "add_space_prefix": prefix}


def _scores(tokens: list[str], model: Mapping[str, Any]) -> list[float]:
    """The rank of the merge that makes a token, the first one highest, as SentencePiece's scores stand."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        ranks.setdefault(left + right, rank)
    return [-float(ranks.get(token, len(ranks))) for token in tokens]


def _types(
    tokens: list[str], texts: Mapping[int, str], added: Mapping[int, Mapping[str, Any]], model: Mapping[str, Any]
) -> list[TokenType]:
    kinds = []
    for i, token in enumerate(tokens):
        if i not in texts:
            kind = TokenType.UNUSED
        elif token == model.get("unk_token"):
            kind = TokenType.UNKNOWN
        elif i in added:
            kind = TokenType.CONTROL if added[i]["special"] else TokenType.USER_DEFINED
        elif model.get("byte_fallback") and BYTE.fullmatch(token):
            kind = TokenType.BYTE
        else:
            kind = TokenType.NORMAL
        kinds.append(kind)
    return kinds


def _names(content: Mapping[str, Any], kind: str) -> bool:
    return any(part.get("type") == kind for part in _flat(content.get("pre_tokenizer")))


def _flat(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The parts of a sequence, or the part itself."""
    if part is None:
        return []
    for key in ("pretokenizers", "normalizers"):
        if key in part:
            return [each for inner in part[key] for each in _flat(inner)]
    return [part]
