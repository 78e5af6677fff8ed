"""What models of each family say when they call tools, and a tokenizer that has their special tokens."""

import json

import tokenizers

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.checkpoints.tokenizer import Tokenizer
from pipeline.language.answers import Answer

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }
]
ASKED = {"city": "Köln", "days": 2}
TEMPLATES = {
    "hermes": "{{ tools }}<tool_call>{{ messages[-1].content }}",
    "qwen_xml": "{{ tools }}<tool_call><function=f><parameter=x>{{ messages[-1].content }}",
    "llama": '{{ tools }}<|start_header_id|>"parameters"<|python_tag|>{{ messages[-1].content }}',
    "mistral": "{{ tools }}[TOOL_CALLS]{{ messages[-1].content }}",
    "harmony": "{{ tools }}<|start|>assistant<|channel|>{{ messages[-1].content }}",
}
ARGUMENTS = json.dumps(ASKED, ensure_ascii=False)
HERMES = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
XML = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
    "</function>\n</tool_call>"
)
LLAMA = f'{{"name": "get_weather", "parameters": {ARGUMENTS}}}'
MISTRAL = f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {ARGUMENTS}}}]'
COMMENTARY = f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ARGUMENTS}"
SAYS = [  # form, what the model says, content, calls, reasoning
    ("hermes", HERMES, None, 1, ""),
    ("hermes", f"Let me look.\n{HERMES}\n{HERMES}", "Let me look.", 2, ""),
    ("hermes", "It is <b>warm</b>.", "It is <b>warm</b>.", 0, ""),
    ("hermes", "<tool_call>\nnot JSON\n</tool_call>", "<tool_call>\nnot JSON\n</tool_call>", 0, ""),
    ("qwen_xml", XML, None, 1, ""),
    ("qwen_xml", f"I look. {XML}\n{XML}", "I look.", 2, ""),
    ("llama", LLAMA, None, 1, ""),
    ("llama", f"<|python_tag|>{LLAMA}; {LLAMA}", None, 2, ""),
    ("llama", "Use {braces}, please.", "Use {braces}, please.", 0, ""),
    ("llama", "{braces} first", "{braces} first", 0, ""),
    ("mistral", MISTRAL, None, 1, ""),
    ("mistral", f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}", None, 2, ""),
    ("mistral", "A fox.", "A fox.", 0, ""),
    (
        "harmony",
        f"<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant{COMMENTARY}",
        None,
        1,
        "I need it.",
    ),
    (
        "harmony",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi",
        "Hi",
        0,
        "Hm.",
    ),
    ("harmony", "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant" + COMMENTARY, "I look.", 1, ""),
    ("harmony", "Just a text.", "Just a text.", 0, ""),
]


def form_tokenizer():
    """The built-in one, with the special tokens of all forms; hermes's are ordinary text, as where a vocabulary has
    none of them."""
    core = tokenizers.Tokenizer.from_file(str(builtin_model() / "tokenizer.json"))
    names = "<|python_tag|> [TOOL_CALLS] [ARGS] <|channel|> <|message|> <|constrain|> <|start|> <|end|>".split()
    core.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in names])
    return Tokenizer(core)


def parts_of(tokenizer, form, says, tools=TOOLS, stops=()):
    answer = Answer(tokenizer, (), stops, form, tools)
    return [part for token in tokenizer.encode(says, complete=True) for part in answer.push(token)[1]] + answer.finish()
