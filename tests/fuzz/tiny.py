"""Tiny whole models of every family, which the fuzzer of models damages: folders with one or two weight files, and
GGUF files. Each has two layers and some hundred kilobytes."""

from __future__ import annotations

import functools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support import gguf_files
from support.families import files, golden
from support.families.cases import ALL, CASES
from support.families.gguf_layout import ARCHITECTURES, write_gguf
from support.families.layouts import write_blocks, write_mlx

from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.folder import INDEX
from pipeline.checkpoints.tensor_info import TensorInfo
from pipeline.models.families import family_of
from pipeline.models.survey import Survey

SIZES = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "intermediate_size": 64,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "top_k_experts": 2,
    "n_group": 2,
    "topk_group": 1,
    "kv_lora_rank": 32,
    "q_lora_rank": 32,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "layer_types": ["sliding_attention", "full_attention"],
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "mamba_n_heads": 4,
    "mamba_n_groups": 1,
    "mamba_d_head": 32,
    "mamba_d_state": 32,
    "num_dense_layers": 1,
    "per_layer_config": {"1": {"head_dim": 64, "num_key_value_heads": 1}},
}
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
TOKENS = ["<s>", "</s>", "<unk>", *LETTERS, "Ġ", "Ċ", "ab", "cd", "abcd", "Ġa", "the", "th"]
MERGES = ["a b", "c d", "ab cd", "Ġ a", "t h", "th e"]
BYTE_LEVEL = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": i, "content": TOKENS[i], "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for i in (0, 1)
    ],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    },
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {text: i for i, text in enumerate(TOKENS)},
        "merges": MERGES,
    },
}
SENTENCES = BYTE_LEVEL | {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    },
    "pre_tokenizer": None,
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
    "model": BYTE_LEVEL["model"]
    | {
        "byte_fallback": True,
        "vocab": {text.replace("Ġ", "▁"): i for i, text in enumerate([*TOKENS, "<0xE2>", "<0x82>", "<0xAC>"])},
        "merges": [merge.replace("Ġ", "▁") for merge in MERGES],
    },
}
JSON = {
    "generation_config.json": {"eos_token_id": [1], "bos_token_id": 0},
    "tokenizer_config.json": {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "chat_template": "{% for m in messages %}{{ m.role }}{% endfor %}",
    },
}
GGUF_TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": gguf_files.array(gguf_files.STRING, TOKENS),
    "tokenizer.ggml.token_type": gguf_files.array(gguf_files.I32, [3, 3, 2] + [1] * (len(TOKENS) - 3)),
    "tokenizer.ggml.merges": gguf_files.array(gguf_files.STRING, MERGES),
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
}


@dataclass(frozen=True)
class Model:
    """A well-formed model: the contents of its files by their names; a GGUF file is alone."""

    name: str
    files: dict[str, bytes]

    def __str__(self) -> str:
        return self.name


class _Shapes(Survey):
    """Takes down what a family asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: dict[str, tuple[int, ...]] = {}

    def instead(self, problem, name, shape, dtypes):
        self.shapes[name] = tuple(shape)
        return TensorInfo(name, dtypes[0], tuple(shape), Path(), 0, 0)


def described(name: str) -> dict:
    """The tiny configuration of a case, and the shapes of its tensors by transformers' names."""
    made = golden.load(name)[0]
    config = {key: SIZES.get(key, value) for key, value in made["config"].items()}
    if ALL[name].recurrent:
        config["layer_types"] = ["linear_attention", "full_attention"]
    if "kv_lora_rank" in config:
        config |= {"num_key_value_heads": 2} | ({} if made["config"]["q_lora_rank"] else {"q_lora_rank": None})
    if config.get("head_dim") is not None and "kv_lora_rank" in config:
        config["head_dim"] = config["qk_rope_head_dim"]
    if "qk_head_dim" in config:
        config["qk_head_dim"] = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    known = {tensor: TensorInfo(tensor, "F32", (), Path(), 0, 0) for tensor in made["tensors"]}
    known = {tensor: info for tensor, info in known.items() if not _behind(tensor)}
    shapes = _Shapes()
    paper = Checkpoint(Path(name), Path("config.json"), config, {}, known)
    family_of(paper)(paper, shapes)
    return {"config": config, "tensors": dict(sorted(shapes.shapes.items()))}


def _behind(tensor: str) -> bool:
    parts = tensor.split(".")
    return parts[1:2] == ["layers"] and int(parts[2]) >= SIZES["num_hidden_layers"]


@functools.cache
def models() -> tuple[Model, ...]:
    """Every family as transformers stores it, in MLX's 4 bits and as GGUF, where it has these; some in two files."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, name in enumerate(CASES):
            made, folder = described(name), Path(scratch) / name
            files.write_folder(folder / "plain", name, made, ("F32", "BF16", "F16")[number % 3])
            found.append(_folder(f"{name}, plain", folder / "plain", number, parted=number % 4 == 1))
            write_mlx(folder / "mlx", name, made)
            found.append(_folder(f"{name}, MLX", folder / "mlx", number + 1, parted=number % 4 == 3))
            if name == "gpt_oss":
                write_blocks(folder / "blocks", name, made)
                found.append(_folder(f"{name}, blocks", folder / "blocks", number, parted=False))
            if name in ARCHITECTURES:
                write_gguf(folder / "model.gguf", name, made, "Q8_0", GGUF_TOKENIZER)
                found.append(Model(f"{name}, GGUF", {"model.gguf": (folder / "model.gguf").read_bytes()}))
    return tuple(found)


def _folder(name: str, folder: Path, number: int, *, parted: bool) -> Model:
    content = {file.name: file.read_bytes() for file in folder.iterdir()}
    content |= {file: json.dumps(value).encode() for file, value in JSON.items()}
    content["tokenizer.json"] = json.dumps(SENTENCES if number % 3 == 0 else BYTE_LEVEL).encode()
    return Model(name, _parted(content) if parted else content)


def read_safetensors(raw: bytes) -> tuple[dict, bytes]:
    """(header, data) of a file."""
    end = 8 + int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:end]), raw[end:]


def safetensors(header: dict | bytes, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _parted(content: dict[str, bytes]) -> dict[str, bytes]:
    """The same with the weights in two files and an index."""
    header, data = read_safetensors(content.pop("model.safetensors"))
    names = list(header)
    where = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        file, entries, kept = f"model-{number:05}-of-00002.safetensors", {}, b""
        for name in part:
            begin, end = header[name]["data_offsets"]
            entries[name] = header[name] | {"data_offsets": [len(kept), len(kept) + end - begin]}
            kept += data[begin:end]
            where[name] = file
        content[file] = safetensors(entries, kept)
    content[INDEX] = json.dumps({"metadata": {"total_size": len(data)}, "weight_map": where}).encode()
    return content
