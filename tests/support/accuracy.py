"""How far a device's next-token distributions are from the oracle's, on stories that the model tells itself."""

import os
import sys

import numpy as np

import pipeline as p
from pipeline.errors import DeviceError
from pipeline.generation.generator import PREFILL_ROWS
from pipeline.generation.requests import Finished
from pipeline.models.row_state import Rows
from support.paths import golden

GOLDEN = golden("golden")["4bit"]
LENGTH = 256  # positions of a story; the eight golden prompts make 2,048
MARGIN = 0.02  # in nats: a greedy token must be the golden one where the golden top two are further apart
ISAS = ("baseline", "avx2", "avx512", "vnni", "amx", "generic")


def open_cpu(isa="", native="1", threads=2):
    """The CPU device with an instruction set ("": its choice), its native kernels on or off. DeviceError
    where the processor has not got it."""
    given = {"OB_ISA": isa, "OB_NATIVE": native}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        return p.open_device("cpu", threads=threads)
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def cpu_settings():
    """(isa, native, kv_cache): every instruction set of this processor; then its best one without native kernels, and
    so with a KV cache of f32."""
    found = []
    for isa in ISAS:
        try:
            open_cpu(isa)
        except DeviceError:
            continue
        found.append((isa, "1", "f16"))
    return [*found, ("", "0", "f16"), ("", "0", "f32")]


def stories(checkpoint):
    """Token lists of LENGTH: the golden prompts continued by the shaders in float32, each token sampled at
    temperature 1; story follows story."""
    device = p.open_device() if sys.platform == "darwin" else open_cpu(native="0")
    model = p.load_model(checkpoint, device=device)
    model.end_tokens = ()
    requests = [
        p.Request(i, tuple(entry["prompt_ids"]), LENGTH - len(entry["prompt_ids"]), 1.0, seed=i)
        for i, entry in enumerate(GOLDEN)
    ]
    events = list(p.Generator(model, batch_size=len(requests), kv_cache="f32").run(requests))
    texts = {event.index: event.tokens for event in events if isinstance(event, Finished)}
    return [[*request.tokens, *texts[request.index]] for request in requests]


def prefill(model, texts, kv_cache):
    """Logits [texts, LENGTH, vocab], the tokens of a text as rows of one run."""
    return np.stack([model.logits(text, PREFILL_ROWS, kv_cache) for text in texts])


def decode(model, texts, kv_cache):
    """The same token by token, each text alone."""
    return np.stack([model.logits(text, 1, kv_cache) for text in texts])


def decode_batch(model, texts, kv_cache):
    """The same token by token, all texts as rows of one run."""
    rows, tokens = Rows.zeros(len(texts)), np.array(texts, np.uint32)
    pipe = p.Pipeline(model.device, rows=len(texts), label="decode")
    logits = model.forward(pipe, rows, model.cache(*tokens.shape, kv_cache))
    chain, result = pipe.build(logits), np.empty((*tokens.shape, model.vocab_size), np.float32)
    rows.slots.write(model.device, np.arange(len(texts)))
    for i in range(tokens.shape[1]):
        rows.tokens.write(model.device, tokens[:, i])
        rows.positions.write(model.device, np.full(len(texts), i))
        chain.commit().wait()
        chain.check_status()
        result[:, i] = chain.view(logits)
    return result


PATHS = {"prefill": prefill, "decode": decode, "batch": decode_batch}


def golden_tokens(logits_of):
    """(greedy tokens that are the golden ones, all) under teacher forcing, where the golden margin is above MARGIN.
    logits_of: from a token list to logits [tokens, vocab]."""
    equal = compared = 0
    for entry in GOLDEN:
        prompt, tokens = entry["prompt_ids"], np.array(entry["tokens"])
        greedy = logits_of((prompt + entry["tokens"])[:-1])[len(prompt) - 1 :].argmax(-1)
        top = np.array(entry["top5_logprobs"])
        clear = top[:, 0] - top[:, 1] > MARGIN
        equal += int((greedy == tokens)[clear].sum())
        compared += int(clear.sum())
    return equal, compared
