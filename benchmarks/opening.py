"""How long a large checkpoint takes to open, and how much memory, before the first token.

    python benchmarks/opening.py [--gigabytes 5] [--folder DIR]

Writes a Qwen3-MoE of that size as sparse files, whose weights are zeros that take no room on the disk, once as a GGUF
file (Q4_0) and once as an MLX folder (4 bits), and opens each in a new process: the checkpoint, then the model. Memory
is the resident set of the process, less what it was after importing the package and NumPy. Weights are mapped and not
read; what a run takes besides, its key-value cache and buffers, goes by its context and batch size.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, EXPERTS, EXPERT_HIDDEN, VOCAB = 2048, 32, 4, 128, 128, 768, 151_936
RUNS = 5
SECONDS, MEGABYTES = 0.5, 50  # what opening may take

CONFIG = {
    "model_type": "qwen3_moe",
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "num_experts": EXPERTS,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": EXPERT_HIDDEN,
    "vocab_size": VOCAB,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "norm_topk_prob": True,
    "tie_word_embeddings": False,
    "quantization": {"bits": 4, "group_size": 64},
}
BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate": "ffn_gate_inp",
    "mlp.switch_mlp.gate_proj": "ffn_gate_exps",
    "mlp.switch_mlp.up_proj": "ffn_up_exps",
    "mlp.switch_mlp.down_proj": "ffn_down_exps",
}


def modules(layers: int):
    """(module, its name in GGUF, shape) of every weight."""
    yield "model.embed_tokens", "token_embd", (VOCAB, HIDDEN)
    yield "lm_head", "output", (VOCAB, HIDDEN)
    yield "model.norm", "output_norm", (HIDDEN,)
    shapes = (
        (HIDDEN,),
        (HEADS * HEAD_DIM, HIDDEN),
        (KV_HEADS * HEAD_DIM, HIDDEN),
        (KV_HEADS * HEAD_DIM, HIDDEN),
        (HIDDEN, HEADS * HEAD_DIM),
        (HEAD_DIM,),
        (HEAD_DIM,),
        (HIDDEN,),
        (EXPERTS, HIDDEN),
        (EXPERTS, EXPERT_HIDDEN, HIDDEN),
        (EXPERTS, EXPERT_HIDDEN, HIDDEN),
        (EXPERTS, HIDDEN, EXPERT_HIDDEN),
    )
    for layer in range(layers):
        for (module, name), shape in zip(BLOCK.items(), shapes, strict=True):
            yield f"model.layers.{layer}.{module}", f"blk.{layer}.{name}", shape


def elements(shape) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def layers_of(gigabytes: float) -> int:
    """How many layers Q4_0's 18 bytes for 32 weights need for that."""
    fixed, deep = (sum(elements(shape) for *_, shape in modules(n)) for n in (0, 1))
    return max(1, round((gigabytes * 1e9 / 18 * 32 - fixed) / (deep - fixed)))


def write_gguf(file: Path, layers: int) -> None:
    import gguf

    writer = gguf.GGUFWriter(file, "qwen3moe")
    for add, value in (
        (writer.add_block_count, layers),
        (writer.add_context_length, 4096),
        (writer.add_embedding_length, HIDDEN),
        (writer.add_head_count, HEADS),
        (writer.add_head_count_kv, KV_HEADS),
        (writer.add_key_length, HEAD_DIM),
        (writer.add_expert_feed_forward_length, EXPERT_HIDDEN),
        (writer.add_rope_freq_base, 1e6),
        (writer.add_layer_norm_rms_eps, 1e-6),
        (writer.add_expert_count, EXPERTS),
        (writer.add_expert_used_count, 8),
        (writer.add_vocab_size, VOCAB),
        (writer.add_tokenizer_model, "none"),
    ):
        add(value)
    size = 0
    for _, name, shape in modules(layers):
        exact = len(shape) == 1 or "gate_inp" in name
        kind = gguf.GGMLQuantizationType.F32 if exact else gguf.GGMLQuantizationType.Q4_0
        nbytes = elements(shape) * 4 if exact else elements(shape) // 32 * 18
        writer.add_tensor_info(name + ".weight", shape, gguf.np.dtype(gguf.np.float32), nbytes, raw_dtype=kind)
        size += -(-nbytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with open(file, "r+b") as stream:
        stream.truncate(-(-file.stat().st_size // 32) * 32 + size)


def write_mlx(folder: Path, layers: int) -> None:
    """One file, as mlx-lm writes models below 5 GB; larger ones have an index and more of the same."""
    header, offset = {}, 0
    for module, _, shape in modules(layers):
        parts = {"weight": ("BF16", shape)}
        if len(shape) > 1:
            groups = (*shape[:-1], shape[-1] // 64)
            parts = {
                "weight": ("U32", (*shape[:-1], shape[-1] // 8)),
                "scales": ("BF16", groups),
                "biases": ("BF16", groups),
            }
        for part, (dtype, extents) in parts.items():
            end = offset + elements(extents) * (4 if dtype == "U32" else 2)
            header[f"{module}.{part}"] = {"dtype": dtype, "shape": extents, "data_offsets": [offset, end]}
            offset = end
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": layers}))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + offset)


OPEN = """
import json, sys, time
import numpy, pipeline as p

def resident():
    pages = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
    return int(pages["VmRSS"].split()[0]) / 1e3, int(pages["VmHWM"].split()[0]) / 1e3

before, start = resident()[0], time.perf_counter()
checkpoint = p.open_checkpoint(sys.argv[1])
header = time.perf_counter() - start
model = p.load_model(checkpoint, device="cpu")
opened, (now, peak) = time.perf_counter() - start, resident()
print(json.dumps({"header": header, "opened": opened, "megabytes": now - before, "peak": peak - before,
                  "start": before, "mapped": model.mapped_bytes / 1e9, "repacked": model.repacked_bytes / 1e6}))
"""


def measure(path: Path, runs: int = RUNS) -> dict:
    """The process with the median time, of `runs` processes."""
    found = []
    for _ in range(runs):
        done = subprocess.run([sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return sorted(found, key=lambda run: run["opened"])[runs // 2]


def report(folder: Path, gigabytes: float) -> bool:
    layers, good = layers_of(gigabytes), True
    file, mlx = folder / "opening.gguf", folder / "opening-mlx"
    write_gguf(file, layers)
    write_mlx(mlx, layers)
    for name, path in (("GGUF Q4_0", file), ("MLX 4 bits", mlx)):
        found = measure(path)
        kept = found["opened"] <= SECONDS and found["peak"] <= MEGABYTES
        good &= kept
        print(
            f"{name}, {layers} layers, {found['mapped']:.2f} GB mapped, {found['repacked']:.1f} MB repacked: "
            f"headers {1e3 * found['header']:.0f} ms, with the model {1e3 * found['opened']:.0f} ms, "
            f"{found['megabytes']:.1f} MB more than before (peak {found['peak']:.1f})"
            f"{'' if kept else f': more than {SECONDS} s or {MEGABYTES} MB'}"
        )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the GGUF file (default: 5)")
    parser.add_argument(
        "--folder", type=Path, help="where to write the sparse files, to keep them (default: a temporary folder)"
    )
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        return 0 if report(options.folder, options.gigabytes) else 1
    with tempfile.TemporaryDirectory() as folder:
        return 0 if report(Path(folder), options.gigabytes) else 1


if __name__ == "__main__":
    sys.exit(main())
