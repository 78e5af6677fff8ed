"""A text in two lines."""

import pipeline

model = pipeline.load("storyteller")  # or a folder, or a .gguf file
print(model.generate("Once upon a time, a cat", max_tokens=30))
