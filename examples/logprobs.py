"""Prints each token with the tokens that were likeliest in its place."""

import pipeline

with pipeline.load() as model:
    text = model.generate("The fox was", max_tokens=6, logprobs=3)
    for token, logprob, top in zip(text.tokens, text.logprobs, text.top):
        others = ", ".join(f"{model.tokenizer.decode([other])!r} {value:.2f}" for other, value in top)
        print(f"{model.tokenizer.decode([token])!r:12} {logprob:6.2f}   of {others}")
