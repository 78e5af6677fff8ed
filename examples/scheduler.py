"""Requests of tokens and their events: what stands below texts."""

import pipeline as p
from pipeline.checkpoints import builtin_model
from pipeline.generation import Finished, Sampling

with p.open_checkpoint(builtin_model()) as checkpoint:
    tokenizer = checkpoint.tokenizer()
    scheduler = p.Scheduler(p.load_model(checkpoint), batch_size=2, context=256)
    prompts = ["Once upon a time, a cat", "The old fox"]
    for index, text in enumerate(prompts):
        request = p.Request(
            index, tokenizer.encode(text), 20, temperature=0.8, seed=index, sampling=Sampling(top_p=0.9)
        )
        scheduler.submit(request)
    while not scheduler.idle:
        for event in scheduler.step():  # Prefilled, Token, Finished or Failed
            if isinstance(event, Finished):
                print(prompts[event.index] + tokenizer.decode(event.tokens))
    print(scheduler.stats.command_buffers, "command buffers")
