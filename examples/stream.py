"""Pieces of a text as they are made."""

import pipeline

with pipeline.load() as model, model.stream("The old fox", max_tokens=40, temperature=0.7, seed=4) as pieces:
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    if pieces.result is not None:
        print(f"({len(pieces.result.tokens)} tokens, ended by {pieces.result.finish_reason})")
