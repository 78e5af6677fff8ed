"""A conversation of several turns. The built-in model has no chat template, so its story becomes one here."""

import sys

import pipeline

path = sys.argv[1] if len(sys.argv) > 1 else "storyteller"
with pipeline.load(path) as model:
    messages = []
    for question in ("Tell me of a fox.", "And then?"):
        messages.append({"role": "user", "content": question})
        try:
            answer = model.chat(messages, max_tokens=30)
        except pipeline.errors.CheckpointError:  # no template: the conversation as plain text
            text = "".join(f"{message['content']} " for message in messages)
            answer = model.generate(text, max_tokens=30)
        print(f"> {question}\n{answer.strip()}")
        messages.append({"role": "assistant", "content": answer})
