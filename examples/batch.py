"""Many prompts together: every step is one command buffer for all of them."""

import pipeline

animals = ["cat", "dog", "fox", "bird", "frog", "bear"]
with pipeline.load(batch_size=len(animals)) as model:
    texts = model.generate([f"The little {animal} wanted to" for animal in animals], max_tokens=16)
for animal, text in zip(animals, texts):
    print(f"The little {animal} wanted to{text}")
