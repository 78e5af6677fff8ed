"""Which of several continuations is the most probable: scores need no text to be generated."""

import pipeline

begin, ends = "The little girl was very", [" happy.", " green.", " of."]
with pipeline.load() as model:
    scores = model.score([begin + end for end in ends])
for end, score in sorted(zip(ends, scores), key=lambda pair: pair[1].nll):
    print(f"{score.nll:7.3f} nats  {begin}{end}")
