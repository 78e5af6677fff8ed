"""Compares Onebuf with engines that nobody here wrote, mlx-lm and llama.cpp, on the same files.

python tests/support/families/peers.py [FAMILY ...]

Both run each file: 64 tokens at once, then the 8 of the prompt with the 32 that Onebuf chooses greedily after them. A
cell has the largest difference of logits, and at how many of the 32 places the other engine chooses the same token.
Which of mlx-lm and llama-cpp-python is not installed is left out. mlx-lm computes in float32. llama.cpp rounds what it
multiplies with quantised weights to 8 bits; so it is given each file twice, once as the gguf package dequantises it:
that column says whether all is read as it is meant, the other one shows what the rounding does. "converted" is what
pipeline.convert makes of transformers' checkpoint.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS.parent / "benchmarks")]

from support.families import golden  # noqa: E402
from support.families.cases import CASES  # noqa: E402
from support.families.files import write_folder  # noqa: E402
from support.families.gguf_layout import ARCHITECTURES, write_gguf  # noqa: E402
from support.families.grid import tokens  # noqa: E402
from support.families.layouts import write_mlx  # noqa: E402

import pipeline as p  # noqa: E402
from pipeline.generation.generator import Generator  # noqa: E402
from pipeline.generation.requests import Finished, Request  # noqa: E402

CONTEXT = 128
SHAPES_OF_EIGHT = {
    "q_proj.weight": [256, 256],
    "q_proj.bias": [256],
    "k_proj.weight": [128, 256],
    "k_proj.bias": [128],
    "v_proj.weight": [128, 256],
    "v_proj.bias": [128],
    "o_proj.weight": [256, 256],
}
EIGHT_HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32}
YARN = {
    "rope_theta": 1e4,
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "mscale": 0.7,
    "mscale_all_dim": 0.7,
}

# What a peer has not, and instead of it: (peers, other values of the configuration, other shapes). Onebuf runs the same
# file.
VARIANTS = {
    # a window in every layer
    "mistral": ("mlx_lm", {"sliding_window": None}, {}),
    # heads that are not all of the hidden size together
    "mixtral": ("mlx_lm", EIGHT_HEADS, SHAPES_OF_EIGHT),
    "qwen2_moe": ("mlx_lm llama_cpp", EIGHT_HEADS, SHAPES_OF_EIGHT),
    # fewer key-value heads than heads
    "olmoe": (
        "llama_cpp",
        {"num_key_value_heads": 6},
        {"k_proj.weight": [768, 768], "v_proj.weight": [768, 768], "k_norm.weight": [768]},
    ),
    # yarn that does not round its range: a base for which there is nothing to round
    "gpt_oss": (
        "mlx_lm llama_cpp",
        {
            "rope_parameters": {
                "rope_theta": 237685.0,
                "rope_type": "yarn",
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 64,
            }
        },
        {},
    ),
    # keys and values of one length
    "qwen3_next": (
        "llama_cpp",
        {"linear_value_head_dim": 32},
        {
            "in_proj_qkvz.weight": [512, 256],
            "conv1d.weight": [320, 1, 4],
            "linear_attn.norm.weight": [32],
            "out_proj.weight": [256, 192],
        },
    ),
    "qwen3_5_moe_text": (
        "llama_cpp",
        {"linear_key_head_dim": 64},
        {"in_proj_qkv.weight": [512, 256], "conv1d.weight": [512, 1, 3]},
    ),
    "qwen3_5_text": (
        "llama_cpp",
        {"linear_value_head_dim": 128},
        {
            "in_proj_qkv.weight": [640, 256],
            "in_proj_z.weight": [384, 256],
            "conv1d.weight": [640, 1, 4],
            "linear_attn.norm.weight": [128],
            "out_proj.weight": [256, 384],
        },
    ),
    # a convolution without biases; weights of experts that nothing scales
    "lfm2": ("llama_cpp", {"conv_bias": False}, {"conv.bias": None, "in_proj.bias": None, "out_proj.bias": None}),
    "lfm2_moe": ("llama_cpp", {"routed_scaling_factor": 1.0}, {}),
    # windows in layers that follow no period
    "gemma3_text": (
        "mlx_lm",
        {
            "_sliding_window_pattern": 3,
            "layer_types": [
                "sliding_attention",
                "sliding_attention",
                "full_attention",
                "sliding_attention",
                "sliding_attention",
            ],
        },
        {},
    ),
    # groups chosen by their best expert (llama.cpp: by the sum of their best two), queries that are not compressed in
    # another number of layers than DeepSeek-V2-Lite's (llama.cpp), rope other than yarn (mlx-lm)
    "deepseek_v2": (
        "mlx_lm llama_cpp",
        {"n_group": 1, "topk_group": 1, "topk_method": "greedy", "rope_parameters": YARN, "num_hidden_layers": 27},
        {},
    ),
}


def onebuf(path: Path, text) -> tuple[list, list]:
    """(`text` and a longer one, the logits after each token of both)."""
    with p.open_checkpoint(path) as checkpoint:
        model = p.load_model(checkpoint, device="cpu")
        generator = Generator(model, kv_cache="f32", context=golden.PROMPT + golden.GREEDY)
        events = generator.run([Request(0, tuple(text[: golden.PROMPT]), golden.GREEDY)])
        (finished,) = (event for event in events if isinstance(event, Finished))
        texts = [text, text[: golden.PROMPT] + finished.tokens]
        return texts, [model.logits(each, len(each), "f32") for each in texts]


def mlx_lm(path: Path, texts) -> list[np.ndarray]:
    import mlx.core as mx
    from mlx_lm.utils import load_model

    model, _ = load_model(path)
    model.set_dtype(mx.float32)
    with mx.stream(mx.cpu):
        return [
            np.array(model(mx.array([text]), cache=model.make_cache() if hasattr(model, "make_cache") else None)[0])
            for text in texts
        ]


def llama_cpp(path: Path, texts) -> list[np.ndarray]:
    import llama_cpp as api

    said: list[str] = []
    log = api.llama_log_callback(lambda level, text, _: said.append(text.decode()) if level >= 4 else None)
    api.llama_log_set(log, None)
    options = api.llama_model_default_params()
    options.n_gpu_layers = 0
    model = api.llama_model_load_from_file(str(path).encode(), options)
    if not model:
        raise RuntimeError("".join(said).strip().splitlines()[0])
    try:
        return [_llama_cpp_logits(api, model, text) for text in texts]
    finally:
        api.llama_model_free(model)


def _llama_cpp_logits(api, model, text) -> np.ndarray:
    """One batch, every row of which has its logits."""
    options = api.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = CONTEXT, CONTEXT, CONTEXT
    options.type_k = options.type_v = api.GGML_TYPE_F32
    options.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
    options.n_threads = options.n_threads_batch = 2
    context, batch = api.llama_init_from_model(model, options), api.llama_batch_init(len(text), 0, 1)
    try:
        batch.n_tokens = len(text)
        for i, token in enumerate(text):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
        if api.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        return np.array(
            [np.ctypeslib.as_array(api.llama_get_logits_ith(context, i), (vocab,)) for i in range(len(text))]
        )
    finally:
        api.llama_batch_free(batch)
        api.llama_free(context)


def dequantised(path: Path, texts) -> list[np.ndarray]:
    from llama_cpp_tokens import exact_copy

    exact_copy(path, path.with_name("exact.gguf"))
    return llama_cpp(path.with_name("exact.gguf"), texts)


def converted(folder: Path, name: str, made: dict) -> None:
    """What `pipeline.convert` makes of transformers' checkpoint, in 4 bits."""
    write_folder(folder / "source", name, made, "BF16")
    command = [
        sys.executable,
        "-m",
        "pipeline.convert",
        folder / "source",
        folder / "mlx",
        "--bits",
        "4",
        "--group-size",
        "32",
    ]
    subprocess.run(command, cwd=TESTS.parent, check=True, capture_output=True)
    for file in (folder / "mlx").iterdir():
        file.rename(folder / file.name)


def gguf(kind: str):
    return lambda folder, name, made: write_gguf(folder / "model.gguf", name, made, kind)


PEERS = {  # column -> (package, engine, writer)
    "mlx-lm, MLX 4": ("mlx_lm", mlx_lm, write_mlx),
    "converted": ("mlx_lm", mlx_lm, converted),
    "llama.cpp, Q8_0 dequantised": ("llama_cpp", dequantised, gguf("Q8_0")),
    "Q8_0": ("llama_cpp", llama_cpp, gguf("Q8_0")),
    "Q4_K dequantised": ("llama_cpp", dequantised, gguf("Q4_K")),
    "Q4_K": ("llama_cpp", llama_cpp, gguf("Q4_K")),
}
NOT_THERE = {"mlx_lm": {"granitemoeshared"}, "llama_cpp": set(CASES) - set(ARCHITECTURES)}


def made_for(name: str, package: str) -> dict:
    """The golden's configuration and shapes, or the variant that the peer runs."""
    made = golden.load(name)[0]
    peers, config, shapes = VARIANTS.get(name, ("", {}, {}))
    if package not in peers.split():
        return made
    sizes = {
        tensor: next((size for end, size in shapes.items() if tensor.endswith(end)), shape)
        for tensor, shape in made["tensors"].items()
    }
    sizes = {tensor: size for tensor, size in sizes.items() if size is not None}  # None: the peer has no such tensor
    made = {"config": made["config"] | config, "tensors": sizes}
    return made | {"tensors": sizes | _further(sizes, golden.load(name)[0]["config"], made["config"])}


def _further(sizes: dict, old: dict, new: dict) -> dict:
    """Tensors of further layers, like those of the last."""
    last = f"model.layers.{old['num_hidden_layers'] - 1}."
    return {
        tensor.replace(last, f"model.layers.{i}."): shape
        for tensor, shape in sizes.items()
        if tensor.startswith(last)
        for i in range(old["num_hidden_layers"], new["num_hidden_layers"])
    }


def compare(name: str, package: str, engine, write) -> tuple[float, int]:
    """(largest difference of logits, how many of the greedy tokens are the same)."""
    made = made_for(name, package)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), name, made)
        path = Path(folder) / "model.gguf"
        path = path if path.exists() else Path(folder)
        texts, ours = onebuf(path, tokens(golden.POSITIONS, made["config"]["vocab_size"]))
        theirs = engine(path, texts)
    same = theirs[1][golden.PROMPT - 1 : -1].argmax(-1) == texts[1][golden.PROMPT :]
    return max(np.abs(a - b).max() for a, b in zip(ours, theirs)), int(same.sum())


def installed(packages) -> set[str]:
    import importlib

    found = set()
    for package in packages:
        try:
            importlib.import_module(package)
            found.add(package)
        except ImportError as missing:
            print(f"{package} is not installed here ({missing}); its columns are left out", file=sys.stderr)
    return found


def main(names) -> None:
    os.environ.setdefault("OB_NATIVE", "0")  # the shaders: native kernels round activations, to 16 bits
    here = installed(dict.fromkeys(package for package, *_ in PEERS.values()))
    columns = {column: peer for column, peer in PEERS.items() if peer[0] in here}
    print("| family |", " | ".join(columns), "|")
    for name in names or CASES:
        cells = []
        for peer in columns.values():
            if name in NOT_THERE[peer[0]]:
                cells.append("–")
                continue
            try:
                error, same = compare(name, *peer)
                cells.append(f"{error:.1e}, {same}/{golden.GREEDY}")
            except Exception as error:  # whatever the other engine says: the table goes on
                cells.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
