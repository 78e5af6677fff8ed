"""Decode and prefill speed of a checkpoint, beside llama.cpp where llama-cpp-python and a GGUF are given.

    python benchmarks/decode.py [--model DIR] [--threads 2] [--repeats 5] [--gguf FILE]

Sides alternate within one run; medians and ratios are printed. Use an otherwise idle machine.
"""

import argparse
import statistics
import time

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model

PROMPT, TOKENS = 512, 256


def onebuf(model, prompt, tokens):
    """(prefill, decode) in tokens per second; the end token is ignored, so both sides do equal work."""
    generator = p.Generator(model, batch_size=1)
    for _ in generator.run([p.Request(0, tuple(prompt), 1)]):  # builds the chains, warms the caches
        pass
    generator.stats.__init__()
    for _ in generator.run([p.Request(0, tuple(prompt), 1)]):
        pass
    prefill = (len(prompt) - 1) / generator.stats.prefill_seconds
    generator.stats.__init__()
    for _ in generator.run([p.Request(0, tuple(prompt[:8]), tokens)]):
        pass
    return prefill, generator.stats.decode_tokens / generator.stats.decode_seconds


def llama(engine, prompt, tokens):
    engine.reset()
    engine._ctx.kv_cache_clear() if hasattr(engine._ctx, "kv_cache_clear") else None
    start = time.perf_counter()
    engine.eval(list(prompt))
    prefill = len(prompt) / (time.perf_counter() - start)
    engine.reset()
    engine.eval(list(prompt[:8]))
    start = time.perf_counter()
    for i in range(tokens):
        engine.eval([prompt[i % len(prompt)]])
    return prefill, tokens / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(builtin_model()))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gguf", help="the same model for llama.cpp")
    options = parser.parse_args()
    checkpoint = p.open_checkpoint(options.model)
    model = p.load_model(checkpoint, threads=options.threads)
    model.end_tokens = ()
    prompt = [(7 * i + 11) % 4000 + 1 for i in range(PROMPT)]
    sides = {"onebuf": lambda: onebuf(model, prompt, TOKENS)}
    if options.gguf:
        from llama_cpp import Llama

        engine = Llama(
            options.gguf, n_ctx=1024, n_threads=options.threads, n_threads_batch=options.threads, verbose=False
        )
        sides["llama.cpp"] = lambda: llama(engine, prompt, TOKENS)
    results = {name: [] for name in sides}
    for _ in range(options.repeats):
        for name, side in sides.items():
            results[name].append(side())
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
    for name, (prefill, decode) in medians.items():
        spread = [statistics.pstdev(column) for column in zip(*results[name])]
        print(
            f"{name:10} pp{PROMPT} {prefill:9.0f} ± {spread[0]:.0f} tok/s   "
            f"tg{TOKENS} {decode:8.0f} ± {spread[1]:.0f} tok/s"
        )
    if "llama.cpp" in medians:
        ratios = [a / b for a, b in zip(medians["onebuf"], medians["llama.cpp"])]
        print(f"{'ratio':10} pp{PROMPT} {ratios[0]:9.2f} ×            tg{TOKENS} {ratios[1]:8.2f} ×")


if __name__ == "__main__":
    main()
