"""Stands for llama-cpp-python, with the part of its interface that the benchmark calls.

It computes nothing. The environment says how it behaves: FAKE_LLAMA_LOG names a file that gets a line of JSON for each
call that matters, FAKE_LLAMA_GPU=1 gives it a GPU, FAKE_LLAMA_EXIT ends the process in the first llama_decode.
"""

import json
import os
from types import SimpleNamespace

__version__ = "0.0"
GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0 = 0, 1, 8


def _note(**what):
    if "FAKE_LLAMA_LOG" in os.environ:
        with open(os.environ["FAKE_LLAMA_LOG"], "a") as stream:
            print(json.dumps(what), file=stream)


def llama_log_callback(function):
    return function


def llama_log_set(callback, data):
    pass


def llama_backend_init():
    print("a word on standard output")  # which must not get among the answers
    _note(shown=os.environ.get("CUDA_VISIBLE_DEVICES"), pid=os.getpid())


def llama_print_system_info():
    return b"CPU : AVX2 = 1"


def llama_supports_gpu_offload():
    return os.environ.get("FAKE_LLAMA_GPU") == "1"


def llama_model_default_params():
    return SimpleNamespace(n_gpu_layers=-1)


def llama_model_load_from_file(file, parameters):
    _note(file=os.fsdecode(file), layers=parameters.n_gpu_layers)
    return 1


def llama_context_default_params():
    return SimpleNamespace()


def llama_init_from_model(model, parameters):
    _note(context=parameters.n_ctx, cache=[parameters.type_k, parameters.type_v], threads=parameters.n_threads)
    return 1


def llama_get_memory(context):
    return 1


def llama_memory_clear(memory, data):
    pass


def llama_batch_init(tokens, embedding, sequences):
    return SimpleNamespace(
        n_tokens=0,
        **{name: [None] * tokens for name in ("token", "pos", "n_seq_id", "logits")},
        seq_id=[[None] * sequences for _ in range(tokens)],
    )


def llama_decode(context, batch):
    if "FAKE_LLAMA_EXIT" in os.environ:
        os.write(2, b"the peer breaks\n")
        os._exit(3)
    _note(tokens=batch.token, positions=batch.pos, sequences=batch.seq_id)
    return 0


def llama_synchronize(context):
    pass


def llama_batch_free(batch):
    pass


def llama_free(context):
    pass


def llama_model_free(model):
    _note(freed=True)
