"""Which tokens end a text, found by what their texts say: the tokenizer's own end, and that of the chat templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = ["END_TEXTS", "only_ends", "template_ends"]

# Tokens that end a text or a turn in the models that have them.
END_TEXTS = frozenset(
    {
        "</s>",
        "<eos>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<｜end▁of▁sentence｜>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|eot|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|calls|>",
        "<|flush|>",
        "<end_of_turn>",
        "<turn|>",
        "<|tool_response>",
        "<|END_OF_TURN_TOKEN|>",
        "[|endofturn|]",
        "<EOT>",
        "_<EOT>",
        "[EOS]",
        "[EOT]",
        "[e~[",
        "<end_of_utterance>",
    }
)

_TOKEN = r"(<[^<>\s{}'\"]{1,40}>|\[[^][/\s{}'\"][^][\s{}'\"]{0,40}\])"
_FILTERS = r"(?:['\"]\])?(?:\s*\|\s*\w+(?:\([^()]*\))?|\.\w+\([^()]*\)|\)|\s)*"
# {{ message.content }}<|im_end|>   and   message['content'] + '<|im_end|>'
_BEHIND_CONTENT = (
    re.compile(r"\{\{[^{}]*\bcontent\b" + _FILTERS + r"-?\}\}\s*" + _TOKEN),
    re.compile(r"\bcontent\b" + _FILTERS + r"[+~]\s*['\"]" + _TOKEN),
)


def template_ends(templates: Iterable[str]) -> set[str]:
    """The texts with which templates end a message: the known ones in them, and those right behind a content."""
    found = set()
    for template in templates:
        found |= {text for text in END_TEXTS if text in template}
        for pattern in _BEHIND_CONTENT:
            found.update(pattern.findall(template))
    return found


def only_ends(texts: Iterable[str], known: Callable[[str], bool]) -> set[str]:
    """`texts` without the end of one message of several, in vocabularies that have another one for the last."""
    several = known("<|return|>") and known("<|call|>") or known("<|flush|>") and known("<|calls|>")
    return set(texts) - ({"<|end|>"} if several else set())
